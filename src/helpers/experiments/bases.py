"""The variants of the projection grid: bases that task updates are projected on, and edits."""

from dataclasses import dataclass

from helpers.studies.settings import UNRELATED, Study

NONE = "none"  # in the column ``subspace`` of an edit


@dataclass(frozen=True)
class Basis:
    """What a task update is projected on: a subspace, how its vectors are taken, and which draw."""

    subspace: str
    control: str
    draw: int

    def __str__(self) -> str:
        return f"{self.subspace}-{self.control}-{self.draw}"


@dataclass(frozen=True)
class Edited:
    """An edit of all weights, by its name."""

    name: str

    def __str__(self) -> str:
        return f"edit-{self.name}"


def bases_of(study: Study) -> list[Basis | Edited]:
    """Every basis of the projection grid, Random-K with several draws, the others with one, and then every edit.

    Of the unrelated subspace there is Top-K alone: it is a control itself.
    """
    grid = study.projection
    draws = {"random-k": grid.random_k_draws}
    kinds = [(s, c) for s in grid.subspaces for c in grid.controls if s != UNRELATED or c == "top-k"]
    bases = [Basis(s, c, d) for s, c in kinds for d in range(draws.get(c, 1))]
    return bases + [Edited(name) for name in grid.edits]
