"""A study through a scheduler: Snakemake sends the jobs; its log is kept, and what stopped a notebook is repeated."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from helpers.errors import StudyError
from helpers.lifeline import BUILD
from helpers.paths import ROOT, results_root
from pipeline.runs.execute import FAILURE, ended
from pipeline.runs.leftovers import mark, name_of, unmark
from pipeline.runs.local import Progress
from pipeline.runs.profiles import Profile
from pipeline.runs.selections import Selection
from pipeline.runs.stages import Job
from pipeline.runs.uptodate import seconds_of

LOG = "workflow.log"  # in the study's folder: what Snakemake says of its latest run
PATIENCE = 10  # seconds for the workflow to clear up after Ctrl-C
LOOK = 1.0  # seconds between two looks at what has ended elsewhere
SENTENCE = "error: "  # how the sentence of a notebook that stopped begins
CAUSE = re.compile(r"\w*(error|exception)\b|.* error: ", re.IGNORECASE)  # in the line that says why a workflow stopped
KEPT = 5000  # lines that are remembered, where the disk has no room for the log


class Log:
    """Passes what a process writes to stderr on to a file, and the sentences of notebooks among it to this stderr."""

    def __init__(self, process: subprocess.Popen, path: Path):
        self.sentences: list[str] = []
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._thread = threading.Thread(target=self._pass_on, args=(process.stderr, path), daemon=True)
        self._thread.start()

    def _pass_on(self, stream, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        for line in stream:
            self._lines.append(line.strip())
            if line.startswith(SENTENCE):
                self.sentences.append(line)
                print(line, end="", file=sys.stderr, flush=True)
            with suppress(OSError), open(path, "a", encoding="utf-8") as file:
                file.write(line)

    def end(self) -> None:
        """Wait for the last line."""
        self._thread.join(PATIENCE)

    def cause(self) -> str:
        """Why Snakemake stopped: the first line of an error, with the next where it only names it; else the last."""
        lines = [line for line in self._lines if line]
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            if CAUSE.match(line):
                return (f"{line} {after}" if line.endswith(":") else line)[:300].strip()
        return lines[-1][:300] if lines else "no reason given"


def run_on_cluster(
    expected: Mapping[Job, float], selection: Selection, profile: Profile, cores: int, lock: int
) -> list[str]:
    """Run jobs of a study; returns what was said of those that stopped. Raises StudyError if the workflow itself did.

    Snakemake inherits the study's lock, so that it is held until that too has ended.
    """
    folder = results_root() / selection.study.name
    for failure in folder.glob(f"*/logs/*{FAILURE}"):
        failure.unlink(missing_ok=True)
    if profile.queue:
        mark(folder, profile.queue)
    logs = profile.logs()
    again = [os.path.relpath(job.output, ROOT) for job in expected if job.output.exists()]
    forced = ["--forcerun", *again] if again else []
    command = snakemake(selection, *profile.options(name_of(folder)), "--cores", str(cores), *forced)
    environment = {**os.environ, **profile.variables(), BUILD: str(os.getpid())}
    pipe = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    workflow = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[lock], **pipe)
    log = Log(workflow, folder / LOG)
    status = _follow(workflow, expected)
    log.end()
    if not status:
        unmark(folder)
        return []
    if said := [*_failures(folder, profile, logs), *log.sentences]:
        return said
    reason = f"{log.cause()}; all that it said is in {folder / LOG}"
    raise StudyError(f"the workflow of study {folder.name} stopped ({reason}): what is done is kept")


def snakemake(selection: Selection, *options: str) -> list[str]:
    """The Snakemake command for a study; what is up to date is known already, so it does not look at times of files."""
    config = [f"study={selection.study.name}", f"seeds={selection.asked}"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT)]
    always = ["--nolock", "--rerun-incomplete", "--rerun-triggers", "params"]
    return [*command, *always, *options, "--config", *config]


def _follow(workflow: subprocess.Popen, expected: Mapping[Job, float]) -> int:
    """Exit status of a workflow, once it has ended; the notebooks that end meanwhile are named.

    After Ctrl-C, which the workflow hears too, its clearing up is waited for.
    """
    began, progress = time.time(), Progress(expected, 1)
    try:
        while True:
            over = workflow.poll() is not None
            for job in expected:
                if job not in progress.ended and (seconds := seconds_of(job, began)) is not None:
                    progress.add(job, seconds, ended(job.output, seconds))
            if over:
                return workflow.returncode
            time.sleep(LOOK)
    except KeyboardInterrupt:
        try:
            workflow.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it did not hear: the signal was sent to this process alone
            workflow.send_signal(signal.SIGINT)
            workflow.wait()
        raise


def _failures(folder: Path, profile: Profile, earlier: set) -> list[str]:
    """Say what stopped notebooks elsewhere, and where their jobs' logs are (``earlier``: those from before)."""
    stopped = [
        f"{folder.name}/{path.parts[-3]} {path.stem}: {path.read_text(encoding='utf-8').strip()}"
        for path in sorted(folder.glob(f"*/logs/*{FAILURE}"))
    ]
    logs = [f"log of a job that failed: {path}" for path, _ in sorted(profile.logs() - earlier)]
    for line in [*stopped, *logs]:
        print(line, file=sys.stderr)
    return [*stopped, *logs]
