"""Which results are up to date where the times of files do not tell, because a clock was set back.

Snakemake goes by times, and where an input is newer by the hash of what is small. So a file from the future would have
everything that is made from it made again and again, and a result that is older than it looks would never be.
"""

import os
import time
from pathlib import Path

from helpers.files import remove
from helpers.paths import results_root
from helpers.provenance import recorded_of, sidecar


def settle(study: str) -> list[Path]:
    """Put right what a clock that was set back left in a study's results; returns what was removed.

    Files from the future get the time of the newest that is not. Results whose record names another hash of an input
    than that input's own record were made from what was there before: they are removed, to be made again. For a moment
    when nothing writes there.
    """
    folder, now = results_root() / study, time.time()
    times = {path: path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}
    newest = max((found for found in times.values() if found <= now), default=0.0)
    for path, found in times.items():
        if found > now:
            os.utime(path, (newest, newest))
    records = recorded_of(folder)
    made = {name: hashed for record in records for name, hashed in record["output"].items()}
    stale = [r for r in records if any(made.get(name, hashed) != hashed for name, hashed in r["inputs"].items())]
    removed = [results_root() / name for record in stale for name in record["output"]]
    for path in removed:
        remove(path)
        remove(sidecar(path))
    return removed
