"""Rows of the tables of the six models and the five updates, and the geometry of a study's updates."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.models.load import best_device
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from helpers.weights.checkpoints import Checkpoint, matched, module_of, update
from helpers.weights.geometry import Geometry, weight_geometry
from helpers.weights.streaming import Updates


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


def study_geometry(
    study: Study, seed: int, checkpoints: dict[str, Checkpoint], shard: tuple[int, int] | None = None
) -> Geometry:
    """Energy and overlap of the study's updates; finished tensors are kept, so that a second call goes on after them.

    ``shard`` (i, n): only every n-th tensor in the order of work, from the i-th on. Raises StudyError, TensorMismatch.
    """
    grid = study.projection
    return weight_geometry(
        study_updates(checkpoints),
        subspaces=grid.subspaces,
        tasks=grid.parallel,
        controls=grid.controls,
        energy_fractions=study.update_overlap.energy_fractions,
        random_k_draws=grid.random_k_draws,
        seed=seed,
        device=best_device(),
        cache=RunPaths(study.name, seed).root / "geometry",
        shard=shard,
    )


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
