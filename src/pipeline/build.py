"""Run a study and build its report: ``python -m pipeline.build organism``; what is up to date is left alone.

The report also shows the other studies that have results. Of a published study only the chapters are made, from its
published tables.
"""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from helpers.errors import StudyError
from helpers.files import sweep
from helpers.paths import ROOT, results_root
from helpers.studies.settings import load_study
from pipeline.report.build import build
from pipeline.runs import slurm
from pipeline.runs.cluster import run_on_cluster
from pipeline.runs.command_line import Parser, check_threads, count, exit_status
from pipeline.runs.jobs import Job, pending
from pipeline.runs.local import run_jobs
from pipeline.runs.lock import only_run
from pipeline.runs.profiles import DEFAULT, Profile, load
from pipeline.runs.selections import Selection, beside, select, with_results
from pipeline.runs.stages import PER_SEED


def seconds_here(selection: Selection, jobs: list[Job]) -> dict[Job, float]:
    """Seconds that jobs take, in about: the organism's, or what ``make plan`` expects of larger models."""
    found = {job: job.stage.seconds for job in jobs}
    if selection.study.kind == "organism" or not any(job.notebook in PER_SEED for job in jobs):
        return found
    from pipeline.plan.plan import seconds_by_notebook  # here, because it imports torch

    try:
        expected = seconds_by_notebook(selection.study)
    except Exception as error:  # whatever a family's numbers do to an estimate, which nothing depends on
        print(f"no estimate of the time can be made ({error}); the study is run all the same", flush=True)
        return found
    return {job: expected.get(job.name, seconds) for job, seconds in found.items()}


def run(selections: list[Selection], cores: int, profile: Profile) -> None:
    """Run the notebooks of studies that are not up to date, all at once on this machine, else study by study.

    What a killed run left half-written is removed first, once nothing of it still writes, which cannot be known with an
    executor of your own. Raises StudyError if one does not finish.
    """
    todo: list[tuple[Selection, dict[Job, float]]] = []
    for selection in selections:
        folder = results_root() / selection.study.name
        slurm.settle(folder)
        if profile.executor in ("local", "slurm"):
            sweep(folder)
        expected = seconds_here(selection, pending(selection.jobs))
        seeds = f"{'published ' if selection.published else ''}seeds {', '.join(map(str, selection.seeds))}"
        where = f"through {profile.executor}" if profile.executor != "local" else f"on {cores} cores"
        print(f"study {selection.study.name}, {seeds}: {len(expected)} notebooks to run {where}", flush=True)
        todo.append((selection, expected))
    if profile.executor != "local":
        stopped = [
            one for given, expected in todo if expected for one in run_on_cluster(expected, given, profile, cores)
        ]
    else:
        stopped = run_jobs({job: seconds for _, expected in todo for job, seconds in expected.items()}, cores)
    if stopped:
        names = " and ".join(selection.study.name for selection in selections)
        raise StudyError(f"study {names} did not finish; what is done is kept, and the same command continues")


def shown_beside(main: Selection, held: ExitStack) -> list[Selection]:
    """The further studies of the report; published ones, whose chapters may have to be made, with their locks held."""
    found = []
    for selection in beside(main):
        try:
            if selection.published:
                held.enter_context(only_run(selection.study.name))
        except StudyError as error:
            print(f"study {selection.study.name} is left out of this report: {error}", flush=True)
            continue
        found.append(selection)
    return found


def first_report(asked: Selection, others: list[Selection], cores: int, folder: Path) -> None:
    """Where there is no report yet and the study will take its time: one of published results, to read meanwhile."""
    published = [one for one in [with_results(asked.study), *others] if one and one.published]
    if published and not (folder / "html" / "index.html").exists():
        try:
            run(published, cores, load(DEFAULT))
            print(f"to read meanwhile, published results: {build(published, folder)}", flush=True)
        except StudyError as error:  # which must not keep the study from running
            print(f"there is no report of published results to read meanwhile: {error}", flush=True)


def make(asked: Selection, cores: int, profile: Profile, folder: Path) -> Path:
    """Run a study and build its report; returns the first page. Raises StudyError."""
    with ExitStack() as held:
        held.enter_context(only_run(asked.study.name))
        others = shown_beside(asked, held)
        if pending(asked.jobs):
            first_report(asked, others, cores, folder)
        run([asked], cores, profile)
        if waiting := [one for one in others if one.published and pending(one.jobs)]:
            run(waiting, cores, load(DEFAULT))
        return build([asked, *others], folder)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("study")
    parser.add_argument("--seeds", default="", help="such as 0,1,2, or published; default: the study's")
    parser.add_argument("--cores", type=count, default=os.cpu_count() or 1)
    parser.add_argument("--profile", default=DEFAULT, help=f"where notebooks run; default: {DEFAULT}")
    parser.add_argument("--report", type=Path, default=ROOT / "_build", help="folder of the report; default: _build")
    given, started = parser.parse_args(arguments), time.monotonic()

    def made() -> str:
        asked, profile = select(load_study(given.study), given.seeds), load(given.profile)
        check_threads()
        profile.check()
        report = make(asked, given.cores, profile, given.report)
        return f"report: {report} ({(time.monotonic() - started) / 60:.1f} min)"

    return exit_status(made, f"stopped: what is done of study {given.study} is kept, and the same command continues")


if __name__ == "__main__":
    sys.exit(main())
