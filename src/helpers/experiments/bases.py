"""The bases that task updates are projected on."""

from dataclasses import dataclass

from helpers.studies.settings import Study


@dataclass(frozen=True)
class Basis:
    """What a task update is projected on: the reference update, how its vectors are taken, and which draw."""

    subspace: str
    control: str
    draw: int

    def __str__(self) -> str:
        return f"{self.subspace}-{self.control}-{self.draw}"


def bases_of(study: Study) -> list[Basis]:
    """Every basis of the projection grid: Random-K has several draws, the others one."""
    grid = study.projection
    draws = {"random-k": grid.random_k_draws}
    return [Basis(s, c, d) for s in grid.subspaces for c in grid.controls for d in range(draws.get(c, 1))]
