"""What the report shows of a study: executed notebooks and their places."""

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.runs.selections import Selection


@dataclass(frozen=True)
class Chapter:
    """An executed notebook and its place in the report, without suffix."""

    source: Path
    place: PurePosixPath
    heading: str  # what is added to its title: nothing for a chapter of the main study

    def entry(self, title: str = "") -> dict[str, str]:
        """Its line in the contents, under a title of its own or that of the page."""
        return {"file": str(self.place)} | ({"title": title} if title else {})


@dataclass(frozen=True)
class Staged:
    """A study in the report: its notebooks over all seeds, and those of its single runs."""

    selection: Selection
    chapters: list[Chapter]
    runs: list[Chapter]

    @functools.cached_property
    def places(self) -> dict[str, PurePosixPath]:
        """Place of each notebook: by its full place, and by its name for the first that has it."""
        places: dict[str, PurePosixPath] = {}
        for place in [chapter.place for chapter in [*self.chapters, *self.runs]]:
            for name in (place.name, place.name.split("-")[0]):
                places.setdefault(name, place)
                places.setdefault(str(place.parent / name), place)
        return places
