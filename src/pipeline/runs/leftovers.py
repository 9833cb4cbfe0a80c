"""Jobs that a killed run of a study left in a queue: what waits is cancelled, what computes is waited for.

What a job makes after its workflow has gone is whole and is found by the next run, which must only not make it twice.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import StudyError
from helpers.files import remove, write_text
from helpers.studies.settings import digest

MARK = ".queued"  # a file in a study's folder while a run has jobs in a queue, naming it: one that was killed leaves it
LOOK = 3.0  # seconds between two looks at the queue


@dataclass(frozen=True)
class Queue:
    """How a queue is asked for jobs, ``number state name`` in each line of the answer, and told to drop some."""

    listing: tuple[str, ...]
    cancel: tuple[str, ...]
    only_waiting: tuple[str, ...] = ()  # an option of the latter


QUEUES = {
    "slurm": Queue(
        ("squeue", "--noheader", f"--user={os.getuid()}", "--format=%i %T %j"), ("scancel",), ("--state=PENDING",)
    ),
}


def name_of(folder: Path) -> str:
    """How the names of a study's jobs begin, in letters that every queue takes; ``folder`` is that of its results."""
    return f"subspaces-{digest(str(folder.resolve()))}"


def mark(folder: Path, queue: str) -> None:
    """Note that jobs of a study are sent to a queue from now on. Raises Unwritable."""
    write_text(folder / MARK, f"{queue}\n")


def unmark(folder: Path) -> None:
    """Note that the run that sent them has seen their end."""
    remove(folder / MARK)


def settle_queue(folder: Path) -> None:
    """Return when no job of an earlier run is left that could write to the folder of a study.

    Raises StudyError if there may be one and the queue cannot be asked.
    """
    if not (folder / MARK).exists():
        return
    queue = QUEUES[(folder / MARK).read_text(encoding="utf-8").strip()]
    jobs = _jobs(folder, queue)
    if waiting := [job for job, state in jobs.items() if state == "PENDING"]:
        _asked(folder, *queue.cancel, *queue.only_waiting, *waiting)
        print(f"{len(waiting)} jobs of a killed run still waited in the queue: cancelled, to be sent again", flush=True)
        jobs = _jobs(folder, queue)
    if jobs:
        command = " ".join([*queue.cancel, *jobs])
        print(
            "jobs of a killed run still compute: their end is waited for, so that nothing is lost or made twice "
            f"(`{command}` ends them at once)",
            flush=True,
        )
    while jobs:
        time.sleep(LOOK)
        jobs = _jobs(folder, queue)
    unmark(folder)


def _jobs(folder: Path, queue: Queue) -> dict[str, str]:
    """The jobs of a study that are in the queue, each with its state."""
    rows = [line.split(maxsplit=2) for line in _asked(folder, *queue.listing).splitlines() if line.strip()]
    return {job: state for job, state, name in rows if name.startswith(name_of(folder))}


def _asked(folder: Path, *command: str) -> str:
    """What a program of the queue prints. Raises StudyError if it cannot be run or fails."""
    if shutil.which(command[0]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        reason = (" ".join(done.stderr.split()) or f"status {done.returncode}")[:200]
    else:
        reason = "the program is not here"
    raise StudyError(
        f"jobs of an earlier run may still write to {folder}, but {command[0]} cannot be asked ({reason}): run this on "
        f"a machine that submits jobs, or delete {folder / MARK} if you know that none is left"
    )
