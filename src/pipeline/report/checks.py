"""Whether what a report shows belongs together: tables over all seeds must be of the seeds that it shows."""

from helpers.errors import StudyError
from helpers.paths import PUBLISHED, RunPaths
from helpers.studies.settings import parse_seeds
from pipeline.results.provenance import read_record
from pipeline.runs.selections import Selection


def check(selection: Selection) -> None:
    """Raise StudyError if a table over all seeds was made from others than are shown, as by a chapter run by hand.

    A notebook that reads no seeds records none, and its tables pass.
    """
    shown = (sorted(selection.seeds), selection.published)
    for path in sorted(RunPaths(selection.study.name).root.glob("tables/*.json")):
        parameters = read_record(path).get("parameters", {})
        if "seeds" not in parameters:
            continue
        made = (sorted(parse_seeds(parameters["seeds"], selection.study)), parameters["seeds"] == PUBLISHED)
        if made != shown:
            table = path.with_suffix(".csv")
            raise StudyError(
                f"{table} was made from {_named(*made)}, and this report shows {_named(*shown)}: delete it and run "
                f"`{selection.command}`"
            )


def _named(seeds: list[int], published: bool) -> str:
    return f"{'published ' if published else ''}seeds {', '.join(map(str, seeds))}"
