"""Results that are out of date although the times of files say otherwise, as after a clock was set back."""

from pathlib import Path

from helpers.files import remove
from helpers.paths import results_root
from pipeline.results.provenance import recorded_of, sidecar


def drop_outdated(study: str) -> list[Path]:
    """Remove the results of a study that were made from something else than is there now; returns what was removed.

    Such a result's record names another hash of an input than that input's own record. For a moment when nothing
    writes there.
    """
    records = recorded_of(results_root() / study)
    made = {name: hashed for record in records for name, hashed in record["output"].items()}
    stale = [r for r in records if any(made.get(name, hashed) != hashed for name, hashed in r["inputs"].items())]
    removed = [results_root() / name for record in stale for name in record["output"]]
    for path in removed:
        remove(path)
        remove(sidecar(path))
    return removed
