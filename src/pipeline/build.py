"""Run a study and build its report: ``python -m pipeline.build organism``; what is up to date is left alone.

The report also shows the other studies that have results. Of a published study only the chapters are made, from its
published tables.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from helpers.errors import StudyError
from helpers.files import sweep, write_text
from helpers.lifeline import BUILD
from helpers.paths import ROOT, results_root
from helpers.studies.settings import load_study
from pipeline.report.build import build
from pipeline.runs.clock import settle_study
from pipeline.runs.command_line import Parser, check_threads, count
from pipeline.runs.execute import DONE, FAILURE, INTERRUPTED, PLAN, SAID
from pipeline.runs.following import Log, cause, follow, repeat_failures
from pipeline.runs.leftovers import mark, name_of, settle_queue, unmark
from pipeline.runs.profiles import DEFAULT, Profile, load
from pipeline.runs.selections import Selection, beside, select
from pipeline.runs.stages import expected
from pipeline.runs.uptodate import drop_outdated

LOG = "workflow.log"  # in the study's folder: what Snakemake says of its latest run


@contextmanager
def only_run(study: str) -> Iterator[int]:
    """Hold the study's lock and yield its file descriptor; the system frees it when all that hold it have died.

    Raises StudyError if another run holds it.
    """
    folder = results_root() / study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (held until the end of the run)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror}): free it or set SUBSPACES_RESULTS") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            message = f"study {study} is already being run by process {holder}: wait for it or stop it"
            raise StudyError(message) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def clear_up(study: str, profile: Profile) -> None:
    """Bring the folder of a study into order after a run that was killed, once nothing of that run still writes there.

    Where that cannot be known, with an executor of your own, the folder is left as it is.
    """
    folder = results_root() / study
    settle_queue(folder)
    if profile.remote and not profile.queue:
        return
    drop_outdated(study)
    sweep(folder)
    if ahead := settle_study(folder):
        print(f"the clock was set back: {ahead} files dated in the future now count as made just now", flush=True)


def snakemake(selection: Selection, *options: str) -> list[str]:
    """The Snakemake command for a study."""
    config = [f"study={selection.study.name}", f"seeds={selection.asked}"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT)]
    return [*command, "--nolock", "--rerun-incomplete", *options, "--config", *config]


def pending(selection: Selection) -> dict[str, float]:
    """Notebooks that the workflow is going to run, with their relative cost."""
    environment = {**os.environ, BUILD: str(os.getpid())}
    command = snakemake(selection, "--summary")
    listing = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if listing.returncode:
        raise StudyError(f"the workflow cannot be planned: {cause(listing.stderr)}")
    plans = {row[0]: row[-1] for line in listing.stdout.splitlines()[1:] if (row := line.split("\t"))}
    notebooks = expected(selection.study, selection.seeds, selection.published)
    costs = {os.path.relpath(path, ROOT): (path, cost) for path, cost in notebooks.items()}
    return {str(path): cost for name, (path, cost) in costs.items() if plans.get(name, "update") != "no update"}


def costs_here(selection: Selection, todo: dict[str, float]) -> dict[str, float]:
    """The same notebooks, weighed by the seconds that ``make plan`` expects where the organism's do not fit."""
    if selection.study.kind == "organism" or selection.published or not todo:
        return todo
    from pipeline.plan.plan import seconds_by_notebook  # here, because it imports torch

    expected_here = seconds_by_notebook(selection.study)
    return {path: expected_here.get(Path(path).stem, cost) for path, cost in todo.items()}


def run(selection: Selection, cores: int, lock: int, profile: Profile) -> None:
    """Run the workflow, all notebooks of the study. Raises StudyError if it does not finish.

    Snakemake inherits the lock, so that it is held until that too has ended.
    """
    name, folder = selection.study.name, results_root() / selection.study.name
    clear_up(name, profile)
    todo = costs_here(selection, pending(selection))
    plan = _write_plan(folder, cores, todo)
    seeds = f"{'published ' if selection.published else ''}seeds {', '.join(map(str, selection.seeds))}"
    where = f"through {profile.queue or profile.executor}" if profile.remote else f"on {cores} cores"
    print(f"study {name}, {seeds}: {len(todo)} notebooks to run {where}", flush=True)
    if profile.queue:
        mark(folder, profile.queue)
    logs, jobs = profile.logs(), name_of(folder)
    turns = ["--resources", "device=1"] if shutil.which("nvidia-smi") and not profile.remote else []  # on the GPU
    command = snakemake(selection, *profile.options(jobs), "--cores", str(cores), *turns)
    environment = {**os.environ, **profile.variables(jobs), PLAN: str(plan), BUILD: str(os.getpid())}
    pipe = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    workflow = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[lock], **pipe)
    log = Log(workflow, folder / LOG)
    status = follow(workflow, plan.with_suffix(SAID) if profile.remote else None)
    log.end()
    if status:
        if repeat_failures(folder, profile, logs) or log.sentences:
            raise StudyError(f"study {name} did not finish; what is done is kept, and the same command continues")
        reason = f"{log.cause()}; all that it said is in {folder / LOG}"
        raise StudyError(f"the workflow of study {name} stopped ({reason}): what is done is kept")
    unmark(folder)


def _write_plan(folder: Path, cores: int, todo: dict[str, float]) -> Path:
    """Write what progress is measured by, and remove what an earlier run said; returns the file."""
    plan = folder / ".plan.json"
    write_text(plan, json.dumps({"cores": cores, "pending": todo}))
    for earlier in [plan.with_suffix(DONE), plan.with_suffix(SAID), *folder.glob(f"*/logs/*{FAILURE}")]:
        earlier.unlink(missing_ok=True)
    return plan


def run_published(selections: list[Selection], cores: int, held: ExitStack, profile: Profile) -> Iterator[Selection]:
    """Make the chapters of published studies; yield all selections that can be shown, with their locks held."""
    for selection in selections:
        if selection.published:
            try:
                lock = held.enter_context(only_run(selection.study.name))
            except StudyError as error:
                print(f"study {selection.study.name} is left out of this report: {error}", flush=True)
                continue
            run(selection, cores, lock, profile)
        yield selection


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("study")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; default: the study's")
    parser.add_argument("--cores", type=count, default=os.cpu_count() or 1)
    parser.add_argument("--profile", default=DEFAULT, help=f"where notebooks run; default: {DEFAULT}")
    parser.add_argument("--report", type=Path, default=ROOT / "_build", help="folder of the report; default: _build")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        asked, cores = select(load_study(given.study), given.seeds), given.cores
        profile = load(given.profile)
        check_threads()
        profile.check()
        with ExitStack() as held:
            run(asked, cores, held.enter_context(only_run(asked.study.name)), profile)
            report = build([asked, *run_published(beside(asked), cores, held, profile)], given.report)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped: what is done of study {given.study} is kept, and the same command continues", file=sys.stderr)
        return INTERRUPTED
    print(f"report: {report} ({(time.monotonic() - started) / 60:.1f} min)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
