"""The grid of projected variants: which are measured on what, row by row of the tables of notebook 5."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.evaluation.measures import GRID_MEASURES, SECOND
from helpers.evaluation.per_prompt import PromptValues
from helpers.experiments.bases import NONE, Basis, Edited, bases_of, curve_is_judged, is_judged
from helpers.methods.context import Context
from helpers.methods.door import edit_named, subspace_named
from helpers.studies.settings import Study
from helpers.subspaces import Modes
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.edits import LiveUpdate, control_bases

PROMPTS, SECOND_JUDGES = "projection_prompts", "second_judges"
Tables = dict[str, pd.DataFrame]


class Keeper(Protocol):
    """Keeps the pieces of a long table as they are made (``pipeline.runs.parts``)."""

    def obtain(self, name: str, make: Callable[[], Tables]) -> Tables:
        """The tables of a piece: as they were kept, or else made now and kept."""


class Grid:
    """Measures the variants of a study; ``model`` is the aligned model, and is that again after every call.

    Each variant is written into the live model, measured, and undone exactly; no checkpoint is saved. With ``pieces``
    the rows of each basis, mode and task are kept as soon as they are there.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        checkpoints: dict[str, Checkpoint],
        study: Study,
        seed: int,
        pieces: Keeper | None = None,
    ) -> None:
        self.model, self.tokenizer, self.checkpoints = model, tokenizer, checkpoints
        self.study, self.seed, self.pieces = study, seed, pieces
        self._modes: tuple[str, dict[str, Modes]] | None = None  # of one subspace at a time: they are the largest part
        self._basis: tuple[Basis, dict] | None = None

    @cached_property
    def context(self) -> Context:
        """What subspaces and edits may ask for."""
        return Context(self.study, self.seed, self.checkpoints)

    @cached_property
    def sets(self) -> EvaluationSets:
        """The prompts on which variants are measured."""
        return EvaluationSets.of(self.study, self.seed)

    def projection(self, bases: list[Basis | Edited] | None = None) -> Tables:
        """Behaviour of every projected or edited variant (``projection``) and of single prompts."""
        grid = self.study.projection
        runs = [("parallel", task) for task in grid.parallel] + [("orthogonal", task) for task in grid.orthogonal]
        edits = [("edit", task) for task in grid.orthogonal]
        chosen = bases_of(self.study) if bases is None else bases
        todo = [(basis, *run) for basis in chosen for run in (edits if isinstance(basis, Edited) else runs)]
        return _joined([self._obtain(f"{b}-{mode}-{task}", self._sweep, b, mode, task) for b, mode, task in tqdm(todo)])

    def scaling(self, tasks: list[str] | None = None) -> Tables:
        """Behaviour of W = WA + α D for every projected task (``scaling``), and of single prompts.

        Where not all variants are judged, only the curves of tasks with judged variants are, beside the ends of the
        others.
        """
        chosen = self.study.projection.parallel if tasks is None else tasks
        return _joined([self._obtain(f"scaling-{task}", self._curve, task) for task in tqdm(chosen)])

    def _obtain(self, piece: str, make, *of_what) -> Tables:
        return make(*of_what) if self.pieces is None else self.pieces.obtain(piece, lambda: make(*of_what))

    def _sweep(self, basis: Basis | Edited, mode: str, task: str) -> Tables:
        """One basis, mode and task over all fractions k, or one edit and task over all places of its dial."""
        edit = isinstance(basis, Edited)
        judged = edit or is_judged(self.study, mode, task, basis)
        names = {"subspace": NONE, "control": basis.name, "draw": 0} if edit else vars(basis)
        where = {**names, "mode": mode, "task": task}
        rows, seconds, kept = [], [], PromptValues(self.sets)
        with self._live(task) as live:
            for fraction in self._edited(live, basis.name, task) if edit else self._projected(live, basis, mode):
                measured = self._measured(judged)
                kept.add_projected(where, fraction, measured)
                seconds += _second(where, fraction, measured)
                rows.append({**where, "fraction": fraction, "energy_kept": live.energy_kept, **_means(measured)})
        return {"projection": pd.DataFrame(rows), PROMPTS: kept.table(), SECOND_JUDGES: _seconds(seconds)}

    def _projected(self, live: LiveUpdate, basis: Basis, mode: str) -> Iterator[float]:
        side = subspace_named(basis.subspace).side
        return live.sweep(self._vectors(basis), self.study.projection.fractions, mode, side=side)

    def _edited(self, live: LiveUpdate, name: str, task: str) -> Iterator[float]:
        edit = edit_named(name)
        for dial in edit.dials:
            live.apply(lambda tensor, d=dial: edit.edited(self.context.weights(tensor, task), self.context, d))
            yield dial

    def _curve(self, task: str) -> Tables:
        """The scaling curve of one task."""
        some = curve_is_judged(self.study, task)
        rows, seconds, kept = [], [], PromptValues(self.sets)
        where = {"mode": "scaling", "task": task, "subspace": NONE, "control": "scaling", "draw": 0}
        with self._live(task) as live:
            for alpha in sorted(self.study.projection.scaling):
                live.scale(alpha)
                measured = self._start if alpha == 0 else self._measured(some or alpha == 1)
                kept.add_scaled(task, alpha, measured)
                seconds += _second(where, alpha, measured)
                rows.append({"task": task, "alpha": float(alpha), "energy_kept": live.energy_kept, **_means(measured)})
        return {"scaling": pd.DataFrame(rows), PROMPTS: kept.table(), SECOND_JUDGES: _seconds(seconds)}

    def _measured(self, judged: bool) -> dict[str, np.ndarray]:
        return measure(self.model, self.tokenizer, self.sets, self.study, judged)

    @cached_property
    def _start(self) -> dict[str, np.ndarray]:
        """Behaviour of the aligned model, with which the curves of all tasks begin; asked for while it is live."""
        return self._measured(judged=True)

    def _live(self, task: str) -> LiveUpdate:
        return LiveUpdate(self.model, self.checkpoints["aligned"], self.checkpoints[task])

    def _vectors(self, basis: Basis) -> dict:
        """The basis of every tensor, as long as no other is asked for."""
        if self._basis is None or self._basis[0] != basis:
            self._basis = None  # frees it
            if self._modes is None or self._modes[0] != basis.subspace:
                self._modes = None
                self._modes = (basis.subspace, subspace_named(basis.subspace).every_modes(self.context))
            bases = control_bases(self._modes[1], basis.control, self.seed, basis.draw, basis.subspace)
            self._basis = (basis, bases)
        return self._basis[1]


def _joined(made: list[Tables]) -> Tables:
    """The tables of all pieces, one below the other; a piece without rows has no say in the types of columns."""
    found = {}
    for name in dict.fromkeys(name for tables in made for name in tables):
        parts = [tables[name] for tables in made]
        found[name] = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return found


def _means(measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean of each measure of the grid over the prompts that have a value; NaN for what was not measured."""
    none = np.array([np.nan])
    values = {name: measured.get(name, none) for name in GRID_MEASURES}
    return {name: float("nan") if np.isnan(v).all() else float(np.nanmean(v)) for name, v in values.items()}


def _second(where: dict, size: float, measured: dict[str, np.ndarray]) -> list[dict]:
    """Rows of the table ``second_judges`` of one variant: the mean score of each further judge, if any."""
    means = {name: values[~np.isnan(values)] for name, values in measured.items() if name.startswith(SECOND)}
    return [
        {**where, "size": float(size), "judge": name.removeprefix(SECOND), "harm": some.mean() if len(some) else np.nan}
        for name, some in means.items()
    ]


def _seconds(rows: list[dict]) -> pd.DataFrame:
    columns = ["mode", "task", "subspace", "control", "draw", "size", "judge", "harm"]
    return pd.DataFrame(rows, columns=columns)
