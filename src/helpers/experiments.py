"""The loops of the study: which variants are measured on what, row by row of its tables."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.behaviour import EvaluationSets, measure
from helpers.checkpoints import Checkpoint, matched, module_of, update
from helpers.measures import GRID_MEASURES
from helpers.prompt_values import PromptValues
from helpers.settings import Study
from helpers.variants import LiveUpdate, control_bases, reference_modes

Updates = dict[str, tuple[Checkpoint, Checkpoint]]


def study_updates(checkpoints: dict[str, Checkpoint]) -> Updates:
    """The five updates of the study as (tuned, start): D_A and D_S from the base, D_T from the aligned model."""
    base, aligned = checkpoints["base"], checkpoints["aligned"]
    tuned = {name: (checkpoints[name], aligned) for name in ("useful", "harmful", "contaminated")}
    return {"alignment": (aligned, base), "safety": (checkpoints["safety"], base), **tuned}


def behaviour_rows(name: str, measured: dict[str, np.ndarray]) -> list[dict]:
    """Rows of the table ``behaviour``: mean and standard error of each measure over the prompts that have a value."""
    rows = []
    for key, values in measured.items():
        known = values[~np.isnan(values)]
        enough = len(known) > 1
        rows.append(
            {
                "model": name,
                "measure": key,
                "value": known.mean() if len(known) else float("nan"),
                "stderr": known.std(ddof=1) / np.sqrt(len(known)) if enough else float("nan"),
                "prompts": len(known),
            }
        )
    return rows


def _means(measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean of each measure of the grid over the prompts that have a value; NaN for what was not measured."""
    none = np.array([np.nan])
    values = {name: measured.get(name, none) for name in GRID_MEASURES}
    return {name: float("nan") if np.isnan(v).all() else float(np.nanmean(v)) for name, v in values.items()}


def _is_judged(study: Study, mode: str, subspace: str, control: str) -> bool:
    """Whether answers of a variant are generated and judged; without a choice in the settings, all are."""
    chosen = study.projection.judged
    return chosen is None or (mode in chosen.modes and subspace in chosen.subspaces and control in chosen.controls)


def _grid(study: Study) -> list[tuple[str, str, int]]:
    """Subspace, control and draw of every basis: Random-K has several draws, the others one."""
    grid = study.projection
    draws = {"random-k": grid.random_k_draws}
    return [(s, c, d) for s in grid.subspaces for c in grid.controls for d in range(draws.get(c, 1))]


def _judged_tasks(study: Study) -> set[str]:
    """Tasks of which some projected variant is judged."""
    chosen = study.projection.judged
    modes = {"parallel": study.projection.parallel, "orthogonal": study.projection.orthogonal}
    return {task for mode, tasks in modes.items() if chosen is None or mode in chosen.modes for task in tasks}


def projection_table(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoints: dict[str, Checkpoint],
    study: Study,
    seed: int,
    kept: PromptValues | None = None,
) -> pd.DataFrame:
    """Behaviour of every projected variant of the grid (table ``projection``); ``model`` is the aligned model.

    Each variant is written into the live model, measured, and undone exactly; nothing is saved. ``kept`` gets the
    values of single prompts.
    """
    grid, sets, updates = study.projection, EvaluationSets.of(study, seed), study_updates(checkpoints)
    runs = [("parallel", task) for task in grid.parallel] + [("orthogonal", task) for task in grid.orthogonal]
    modes = {subspace: reference_modes(updates[subspace]) for subspace in grid.subspaces}
    rows = []
    for subspace, control, draw in tqdm(_grid(study), desc="bases"):
        bases = control_bases(updates[subspace], control, seed, draw, label=subspace, modes=modes[subspace])
        for mode, task in runs:
            with LiveUpdate(model, checkpoints["aligned"], checkpoints[task]) as live:
                for fraction in live.sweep(bases, grid.fractions, mode):
                    where = {"subspace": subspace, "control": control, "draw": draw, "mode": mode, "task": task}
                    judged = _is_judged(study, mode, subspace, control)
                    measured = measure(model, tokenizer, sets, study, judged)
                    if kept is not None:
                        kept.add_projected(where, fraction, measured)
                    rows.append({**where, "fraction": fraction, "energy_kept": live.energy_kept, **_means(measured)})
    return pd.DataFrame(rows)


def scaling_table(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoints: dict[str, Checkpoint],
    study: Study,
    seed: int,
    kept: PromptValues | None = None,
) -> pd.DataFrame:
    """Behaviour of W = WA + α D along the scaling curve of every projected task (table ``scaling``).

    Where not all variants are judged, only the curves of tasks with judged variants are, beside the ends of the others.
    ``kept`` gets the values of single prompts.
    """
    sets, judged_tasks = EvaluationSets.of(study, seed), _judged_tasks(study)
    rows = []
    for task in tqdm(study.projection.parallel, desc="scaling curves"):
        with LiveUpdate(model, checkpoints["aligned"], checkpoints[task]) as live:
            for alpha in sorted(study.projection.scaling):
                live.scale(alpha)
                judged = study.projection.judged is None or task in judged_tasks or alpha in (0, 1)
                measured = measure(model, tokenizer, sets, study, judged)
                if kept is not None:
                    kept.add_scaled(task, alpha, measured)
                where = {"task": task, "alpha": float(alpha), "energy_kept": live.energy_kept}
                rows.append({**where, **_means(measured)})
    return pd.DataFrame(rows)


def energy_by_module(updates: Updates) -> pd.DataFrame:
    """Share of each update's energy in each module type, and its size relative to the weights it starts from."""
    rows = []
    for label, (tuned, start) in updates.items():
        sizes = pd.DataFrame(_sizes(label, tuned, start)).groupby("module", sort=False).sum()
        total = sizes["update"].sum()
        for module, size in sizes.iterrows():
            rows.append(
                {
                    "update": label,
                    "module": module,
                    "share": size["update"] / total if total else float("nan"),
                    "relative_change": np.sqrt(size["update"] / size["weights"]) if size["weights"] else float("nan"),
                }
            )
    return pd.DataFrame(rows)


def _sizes(label: str, tuned: Checkpoint, start: Checkpoint) -> Iterator[dict]:
    for name in matched({label: tuned, "start": start}).names:
        change, weights = update(tuned, start, name), start.tensor(name).double()
        yield {
            "module": module_of(name),
            "update": float(change.square().sum()),
            "weights": float(weights.square().sum()),
        }
