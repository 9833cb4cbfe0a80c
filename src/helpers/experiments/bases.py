"""The variants of the projection grid: bases that task updates are projected on, and edits."""

from dataclasses import dataclass

from helpers.studies.settings import UNRELATED, Study

NONE = "none"  # in the column ``subspace`` of an edit
TASK = "contaminated"  # whose variants the strict statistics compare
GATED = ("aligned", "useful", "harmful", "contaminated")  # models whose behaviour decides whether there is a verdict
COMPARED = ("alignment", UNRELATED)  # subspaces that they compare


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


def only_strict(study: Study) -> Study:
    """The study with only what the strict statistics of the claims read."""
    alone = {"parallel": [TASK], "orthogonal": [TASK], "random_k_draws": 1}
    needed = [name for name in study.projection.subspaces if name in COMPARED]
    grid = study.projection.model_copy(update=alone | {"subspaces": needed})
    return study.model_copy(update={"projection": grid})


def bases_of(study: Study) -> list[Basis | Edited]:
    """Every basis of the projection grid, Random-K with several draws, the others with one, and then every edit.

    Of the unrelated subspace there is Top-K alone, for it is a control itself, and of those that the study says.
    """
    grid = study.projection
    draws, alone = {"random-k": grid.random_k_draws}, {UNRELATED, *grid.top_k_only}
    kinds = [(s, c) for s in grid.subspaces for c in grid.controls if s not in alone or c == "top-k"]
    bases = [Basis(s, c, d) for s, c in kinds for d in range(draws.get(c, 1))]
    return bases + [Edited(name) for name in grid.edits]


def is_judged(study: Study, mode: str, task: str, basis: Basis | None = None) -> bool:
    """Whether answers of a projected variant are judged, or of any of a mode and task; without a choice, all are."""
    chosen = study.projection.judged
    if chosen is None:
        return True
    fits = basis is None or (basis.subspace in chosen.subspaces and basis.control in chosen.controls)
    return fits and mode in chosen.modes and (chosen.tasks is None or task in chosen.tasks)


def curve_is_judged(study: Study, task: str) -> bool:
    """Whether the whole scaling curve of a task is judged: where some projected variant of it is."""
    modes = {"parallel": study.projection.parallel, "orthogonal": study.projection.orthogonal}
    return any(task in tasks and is_judged(study, mode, task) for mode, tasks in modes.items())
