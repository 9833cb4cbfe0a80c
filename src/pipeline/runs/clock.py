"""A clock that was set back: files dated in the future, by which a workflow could not tell what is up to date."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from helpers.paths import CLAIMS, NOTEBOOKS, ROOT, published_root


def settle_study(folder: Path) -> int:
    """``settle`` all that decides whether results in the folder of a study are up to date.

    Snakemake discards the results of a notebook whose inputs are dated after it.
    """
    return settle([folder, published_root(), NOTEBOOKS, ROOT / "src", CLAIMS])


def settle(places: Iterable[Path]) -> int:
    """Date files of the future between the newest other file and now; returns how many there were.

    Their order stays, so that what was up to date still is, and what was not is still made again. ``places`` are files
    and folders; what may not be changed is left as it is.
    """
    now = time.time_ns()
    times = {file: at for place in places for file, at in _times(place)}
    newest = max((at for at in times.values() if at <= now), default=0)
    ahead = sorted({at for at in times.values() if at > now})
    settled = {at: newest + (now - newest) * rank // len(ahead) for rank, at in enumerate(ahead, start=1)}
    moved = {file: settled[at] for file, at in times.items() if at in settled}
    for file, at in moved.items():
        with suppress(OSError):
            os.utime(file, ns=(at, at))
    return len(moved)


def _times(place: Path) -> Iterator[tuple[Path, int]]:
    """Files at or below a place with their times, but for those that others remove meanwhile."""
    below = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
    for file in [place] if place.is_file() else below:
        with suppress(OSError):
            yield file, file.stat().st_mtime_ns
