"""The public data sets that studies of pretrained models use, as ``registry.yml`` beside this module has them."""

from pathlib import Path

import yaml
from pydantic import BaseModel


class Layout(BaseModel, frozen=True, extra="forbid"):
    """Files, as patterns below a folder, each of which must be there, and what their columns become.

    The prompt, the answer and the topic come from the first of the named columns that is there; ``defaults`` stand for
    columns that some versions lack; ``replace``: regular expressions and what takes their place in every text;
    ``excluded``: reasons why a row is not used, each with its condition on the columns, in the order of their weight;
    ``unlike``: a packaged data set of which no row may be nearly a prompt.
    """

    files: list[str]
    prompt: list[str] = []
    answer: list[str] = []
    topic: list[str] = []
    defaults: dict[str, str] = {}
    replace: dict[str, str] = {}
    excluded: dict[str, str] = {}
    unlike: str | None = None


class Dataset(BaseModel, frozen=True, extra="forbid"):
    """One data set.

    ``held_out``: share of the prompts, by hash, that are for evaluation only; 1 for sets without a training part.
    ``package`` and ``packaged``: the pinned package that has it, if any, and the files in that; ``key``: name below
    ``data`` in a study's settings by which another origin can be given; ``layouts``: the files that one may have.
    """

    name: str
    rows_are: str
    use: str
    licence: str
    held_out: float
    package: str | None = None
    packaged: Layout | None = None
    key: str | None = None
    layouts: list[Layout] = []
    answered: bool = False  # rows without an answer are excluded
    templates: frozenset[int] = frozenset()  # of those that are drawn, where not all are used
    in_order: bool = False  # the first rows in the order of the file, as released, rather than a draw

    @property
    def drawn(self) -> bool:
        """Whether rows are drawn from generators, without limit, rather than read."""
        return self.packaged is not None and not self.packaged.prompt


_FACTS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
DATASETS = {name: Dataset(name=name, **facts) for name, facts in _FACTS.items()}
