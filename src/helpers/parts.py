"""Parts of the long notebooks of a seed, which a scheduler's jobs make side by side before the notebook gathers them.

A part only fills what the notebook keeps anyway (the geometry's finished tensors, the projection's pieces), so results
are the same with and without it. ``helpers.execute_part`` makes one.
"""

from dataclasses import dataclass

from helpers.own_models import OwnModels
from helpers.settings import Study

SHARDS = 8  # of the tensors whose geometry notebook 4 needs
DIVIDED = ("04_update_overlap", "05_projection")


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


def parts_of(notebook: str, study: Study | OwnModels) -> list[str]:
    """Names of the parts of a notebook; a notebook that is not divided has none."""
    if isinstance(study, OwnModels) or notebook not in DIVIDED:
        return []
    if notebook == "04_update_overlap":
        return [f"shard-{i}-of-{SHARDS}" for i in range(SHARDS)]
    curves = [f"scaling-{task}" for task in study.projection.parallel]
    return curves + [str(basis) for basis in bases_of(study)]
