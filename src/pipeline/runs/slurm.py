"""What is asked of SLURM itself: whether it would take jobs, and which ones a killed run of a study left in the queue.

Of those, what waits is cancelled and what computes is waited for: what a job makes after its workflow has gone is whole
and is found by the next run, which must only not make it twice.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from helpers.errors import SettingsError, StudyError
from helpers.files import remove
from helpers.studies.settings import digest

MARK = ".queued"  # a file in a study's folder while a run has jobs in the queue: one that was killed leaves it
LOOK = 3.0  # seconds between two looks at the queue
RESOURCES = {"slurm_account": "--account", "slurm_partition": "--partition", "qos": "--qos"}  # as options of sbatch
UNKNOWN = re.compile("invalid (account|partition|qos)", re.IGNORECASE)  # as sbatch says it


def check(profile: str, resources: dict[str, str]) -> None:
    """Raise SettingsError unless SLURM is here and would take a job with the resources that a profile gives to all."""
    if not shutil.which("sbatch"):
        raise SettingsError(
            f"profile {profile} needs the program sbatch, which is not here: run it on a machine that submits jobs of "
            "your cluster, or use PROFILE=local"
        )
    options = [f"{option}={resources[name]}" for name, option in RESOURCES.items() if name in resources]
    command = ["sbatch", "--test-only", "--time=1", "--mem=100", "--output=/dev/null", *options, "--wrap=true"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and UNKNOWN.search(done.stderr):  # else it may be just this job
        raise SettingsError(
            f"SLURM would not take a job of profile {profile} ({' '.join(done.stderr.split())[:300]}): correct "
            f"default-resources in profiles/{profile}/config.yaml"
        )


def name_of(folder: Path) -> str:
    """How the names of a study's jobs begin, in letters that every queue takes; ``folder`` is that of its results."""
    return f"subspaces-{digest(str(folder.resolve()))}"


def settle(folder: Path) -> None:
    """Return when no job of an earlier run is left that could write to the folder of a study.

    Raises StudyError if there may be one and the queue cannot be asked.
    """
    if not (folder / MARK).exists():
        return
    if waiting := [job for job, state in _jobs(folder).items() if state == "PENDING"]:
        _asked(folder, "scancel", "--state=PENDING", *waiting)
        print(f"{len(waiting)} jobs of a killed run still waited in the queue: cancelled, to be sent again", flush=True)
    if jobs := _jobs(folder):
        print(
            "jobs of a killed run still compute: their end is waited for, so that nothing is lost or made twice "
            f"(`scancel {' '.join(jobs)}` ends them at once)",
            flush=True,
        )
    while _jobs(folder):
        time.sleep(LOOK)
    remove(folder / MARK)


def _jobs(folder: Path) -> dict[str, str]:
    """The jobs of a study that are in the queue, each with its state."""
    answer = _asked(folder, "squeue", "--noheader", f"--user={os.getuid()}", "--format=%i %T %j")
    rows = [line.split(maxsplit=2) for line in answer.splitlines() if line.strip()]
    return {job: state for job, state, name in rows if name.startswith(name_of(folder))}


def _asked(folder: Path, *command: str) -> str:
    """What a program of SLURM prints. Raises StudyError if it cannot be run or fails."""
    reason = "the program is not here"
    if shutil.which(command[0]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        reason = (" ".join(done.stderr.split()) or f"status {done.returncode}")[:200]
    raise StudyError(
        f"jobs of an earlier run may still write to {folder}, but {command[0]} cannot be asked ({reason}): run this on "
        f"a machine that submits jobs, or delete {folder / MARK} if you know that none is left"
    )
