"""The public data sets that studies of pretrained models use, as ``registry.yml`` beside this module has them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from helpers.data import readers
from helpers.data.readers import Reader


@dataclass(frozen=True)
class Layout:
    """Files, as patterns below a folder, each of which must be there, and what reads them (nothing: see ``drawn``)."""

    files: list[str]
    read: Reader | None


@dataclass(frozen=True)
class Dataset:
    """One data set.

    ``held_out``: share of the prompts, by hash, that are for evaluation only; 1 for sets without a training part.
    ``package`` and ``packaged``: the pinned package that has it, if any, and the files in that; ``key``: name below
    ``data`` in a study's settings by which another origin can be given; ``layouts``: the files that one may have, each
    with the function of ``helpers.data.readers`` that reads them and its arguments.
    """

    name: str
    rows_are: str
    use: str
    licence: str
    held_out: float
    package: str | None = None
    packaged: Layout | None = None
    key: str | None = None
    layouts: tuple[Layout, ...] = ()
    answered: bool = False  # rows without an answer are excluded
    templates: frozenset[int] = frozenset()  # of those that are drawn, where not all are used
    in_order: bool = False  # the first rows in the order of the file, as released, rather than a draw

    @property
    def drawn(self) -> bool:
        """Whether rows are drawn from generators, without limit, rather than read."""
        return self.packaged is not None and self.packaged.read is None


def _layout(files: list[str], read: dict[str, dict] | None = None) -> Layout:
    [(name, arguments)] = (read or {"": {}}).items()
    return Layout(files, partial(getattr(readers, name), **arguments) if name else None)


def _dataset(name: str, facts: dict) -> Dataset:
    places = {"layouts": tuple(_layout(**layout) for layout in facts.get("layouts", ()))}
    if "packaged" in facts:
        places["packaged"] = _layout(**facts["packaged"])
    return Dataset(name, **facts | places | {"templates": frozenset(facts.get("templates", ()))})


_FACTS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
DATASETS: dict[str, Dataset] = {name: _dataset(name, facts) for name, facts in _FACTS.items()}
