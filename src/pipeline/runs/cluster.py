"""A study through a scheduler: Snakemake sends the jobs; its log is kept, and what stopped a notebook is repeated."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from helpers.errors import StudyError, Unwritable
from helpers.files import remove, write_text
from helpers.lifeline import BUILD
from helpers.paths import ROOT, results_root
from pipeline.runs import slurm
from pipeline.runs.execute import FAILURE
from pipeline.runs.jobs import Job, seconds_of
from pipeline.runs.local import Progress
from pipeline.runs.profiles import Profile
from pipeline.runs.selections import Selection

LOG = "workflow.log"  # in the study's folder: what Snakemake says of its latest run
PATIENCE = 10  # seconds for the workflow to clear up after Ctrl-C
LOOK = 1.0  # seconds between two looks at what has ended elsewhere
CAUSE = re.compile(r"\w*(error|exception)\b|.* error: ", re.IGNORECASE)  # in the line that says why a workflow stopped


def run_on_cluster(expected: Mapping[Job, float], selection: Selection, profile: Profile, cores: int) -> list[str]:
    """Run jobs of a study; returns what was said of those that stopped. Raises StudyError if the workflow itself did.

    Snakemake inherits the study's lock, so that it is held until that too has ended.
    """
    folder = results_root() / selection.study.name
    for failure in folder.glob(f"*/logs/*{FAILURE}"):
        failure.unlink(missing_ok=True)
    if profile.executor == "slurm":
        write_text(folder / slurm.MARK, "")
    earlier = _logs_of_jobs(profile)
    try:
        with open(folder / LOG, "w", encoding="utf-8") as log:
            options = {"cwd": ROOT, "env": {**os.environ, BUILD: str(os.getpid())}, "stderr": log, "close_fds": False}
            workflow = subprocess.Popen(_snakemake(expected, selection, profile, cores), **options)
    except OSError as error:
        raise Unwritable(folder / LOG, error) from None
    if not _follow(workflow, expected):
        remove(folder / slurm.MARK)
        return []
    failures = sorted(folder.glob(f"*/logs/*{FAILURE}"))
    said = [
        f"{folder.name}/{path.parts[-3]} {path.stem}: {path.read_text(encoding='utf-8').strip()}" for path in failures
    ]
    said += [f"log of a job that failed: {path}" for path, _ in sorted(_logs_of_jobs(profile) - earlier)]
    if not said:
        reason = f"{_cause(folder / LOG)}; all that it said is in {folder / LOG}"
        raise StudyError(f"the workflow of study {folder.name} stopped ({reason}): what is done is kept")
    print(*said, sep="\n", file=sys.stderr)
    return said


def _snakemake(expected: Mapping[Job, float], selection: Selection, profile: Profile, cores: int) -> list[str]:
    """The Snakemake command for jobs; which have to run is known already, so it does not look at times of files."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT)]
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "params", "--cores", str(cores)]
    command += ["--profile", str(profile.folder)]
    if profile.executor == "slurm":
        command += ["--slurm-jobname-prefix", slurm.name_of(results_root() / selection.study.name)]
    if again := [os.path.relpath(job.output, ROOT) for job in expected if job.output.exists()]:
        command += ["--forcerun", *again]
    return [*command, "--config", f"study={selection.study.name}", f"seeds={selection.asked}"]


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
                    progress.add(job, seconds)
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


def _logs_of_jobs(profile: Profile) -> set[tuple[Path, int]]:
    """The scheduler's own logs with the times of their change; those of jobs that succeed are not kept."""
    found = (ROOT / ".snakemake" / f"{profile.executor}_logs").rglob("*.log")
    return {(path, path.stat().st_mtime_ns) for path in found}


def _cause(log: Path) -> str:
    """Why Snakemake stopped: the first line of an error, with the next where it only names it; else the last."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if CAUSE.match(line):
            return (f"{line} {after}" if line.endswith(":") else line)[:300].strip()
    return lines[-1][:300] if lines else "no reason given"
