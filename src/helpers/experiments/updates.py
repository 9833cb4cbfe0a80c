"""Rows of the tables of the six models and the five updates, and the geometry of a study's updates and subspaces."""

import numpy as np
import pandas as pd
import torch

from helpers.methods.context import Context
from helpers.methods.door import Subspace, subspace_named
from helpers.models.load import best_device
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from helpers.subspaces import Modes, decompose, energy_kept, mode_subspace_overlap
from helpers.weights.checkpoints import Checkpoint, Updates, matched, study_updates, update
from helpers.weights.edits import control_bases, side_first
from helpers.weights.geometry import OVERLAP_COLUMNS, Geometry, weight_geometry
from helpers.weights.names import layer_of, module_of

TASKS = ["useful", "harmful", "contaminated"]  # updates whose energy in the subspaces is measured


def behaviour_rows(name: str, measured: dict[str, np.ndarray]) -> list[dict]:
    """Rows of the table ``behaviour``: mean and standard error of each measure over the prompts that have a value."""
    known = {key: values[~np.isnan(values)] for key, values in measured.items()}
    means = {key: v.mean() if len(v) else np.nan for key, v in known.items()}
    errors = {key: v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan for key, v in known.items()}
    return [
        {"model": name, "measure": key, "value": means[key], "stderr": errors[key], "prompts": len(v)}
        for key, v in known.items()
    ]


def study_geometry(
    study: Study,
    seed: int,
    checkpoints: dict[str, Checkpoint],
    shard: tuple[int, int] | None = None,
    cached: bool = True,
) -> Geometry:
    """Energy of the updates in all subspaces, and overlaps.

    ``shard`` (i, n): only every n-th tensor in the order of work, from the i-th on. ``cached``: finished tensors are
    kept, so that a second call goes on there. Raises StudyError, TensorMismatch.
    """
    grid = study.projection
    geometry = weight_geometry(
        study_updates(checkpoints),
        subspaces=[name for name in grid.subspaces if name in study.updates],
        tasks=TASKS,
        controls=grid.controls,
        energy_fractions=study.update_overlap.energy_fractions,
        random_k_draws=grid.random_k_draws,
        seed=seed,
        device=best_device(),
        cache=RunPaths(study.name, seed).root / "geometry" if cached else None,
        shard=shard,
    )
    context, rows = Context(study, seed, checkpoints), []
    for method in [subspace_named(name) for name in grid.subspaces if name not in study.updates]:
        for tensor in geometry.shapes:
            if (modes := method.modes(tensor, context)) is not None:
                geometry.energy |= _energies(method, tensor, modes, context, geometry)
                rows += _overlaps(method, tensor, modes, context)
    if rows:
        geometry.overlap = pd.concat([geometry.overlap, pd.DataFrame(rows, columns=OVERLAP_COLUMNS)], ignore_index=True)
    return geometry


def _energies(
    method: Subspace, tensor: str, modes: Modes, context: Context, geometry: Geometry
) -> dict[str, torch.Tensor]:
    """‖P_k D‖² for every k of one tensor of each task in a subspace that is no update's, by keys of the geometry."""
    grid, found = context.study.projection, {}
    for control in grid.controls:
        draws = range(grid.random_k_draws if control == "random-k" else 1)
        bases = [control_bases({tensor: modes}, control, context.seed, i, method.name)[tensor] for i in draws]
        for task in TASKS:
            change = side_first(context.update(task, tensor), method.side)
            kept = torch.stack([energy_kept(basis, change) for basis in bases]).mean(0)  # (r,)
            found["|".join((method.name, control, task, tensor))] = kept * geometry.total[f"{task}|{tensor}"]
    return found


def _overlaps(method: Subspace, tensor: str, modes: Modes, context: Context) -> list[tuple]:
    """Rows of the overlap of a subspace with every update of one matrix, on the side that it spans."""
    rows, where = [], (tensor, module_of(tensor), layer_of(tensor), method.name)
    for label in context.study.updates if len(context.shape(tensor)) == 2 else ():
        other = decompose(side_first(context.update(label, tensor), method.side))
        for eta in context.study.update_overlap.energy_fractions if other.rank else ():
            found = mode_subspace_overlap(modes, other, eta)
            rows.append((*where, label, eta, found.mso, found.k_a, found.k_b, found.random))
    return rows


def energy_by_module(updates: Updates) -> pd.DataFrame:
    """Share of each update's energy in each module type, and its size relative to the weights it starts from."""
    rows = []
    for label, (tuned, start) in updates.items():
        for name in matched((tuned, start)):
            energies = (float(x.square().sum()) for x in (update(tuned, start, name), start.tensor(name).double()))
            rows.append((label, module_of(name), *energies))
    table = pd.DataFrame(rows, columns=["update", "module", "energy", "weights"])
    sums = table.groupby(["update", "module"], sort=False, as_index=False).sum()
    total = sums.groupby("update")["energy"].transform(lambda energies: energies.sum())
    relative = np.sqrt(sums["energy"] / sums["weights"].where(sums["weights"] > 0))
    return sums[["update", "module"]].assign(share=sums["energy"] / total, relative_change=relative)
