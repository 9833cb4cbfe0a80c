"""Cost of making projected variants in place, against the products that they need."""

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.measure import cost, seconds
from benchmarks.shapes import NAME, TASKS
from benchmarks.workloads import CONTROLS, FRACTIONS, SEED
from helpers.weights.checkpoints import Updates
from helpers.weights.edits import LiveUpdate, control_bases, update_modes


@dataclass(frozen=True)
class Sweep:
    """CPU seconds for one matrix in float32."""

    all_fractions: float  # five variants of one control, without the time of UᵀD
    with_coordinates: float  # the same, UᵀD included
    product: float  # one full-rank product U (UᵀD), UᵀD given
    projection: float  # one full-rank projection U (UᵀD), UᵀD included
    released_workload: float  # bases, UᵀD and both modes of all variants of the released code's workload


def run_sweep(updates: Updates) -> Sweep:
    """Time all five fractions in a live model that has the one matrix."""
    (aligned, base), (task, _) = updates["alignment"], updates["useful"]
    weight = aligned.tensor(NAME).float()
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    model.weight.data.copy_(weight)
    decomposed = cost(lambda: {NAME: update_modes(aligned, base, NAME)})
    bases, making = {}, decomposed.seconds
    for control in CONTROLS:
        made = cost(lambda c=control: control_bases(decomposed.result, c, SEED))
        bases, making = made.result, making + made.seconds
    u = bases[NAME].float()
    d = task.tensor(NAME).float() - weight
    c = u.T @ d
    with LiveUpdate(model, aligned, task) as live, torch.no_grad():
        whole = seconds(lambda: list(live.sweep(bases, FRACTIONS, "parallel")))
    rows = len(CONTROLS) * len(TASKS)
    return Sweep(
        all_fractions=whole - seconds(lambda: u.T @ d),
        with_coordinates=whole,
        product=seconds(lambda: u @ c),
        projection=seconds(lambda: u @ (u.T @ d)),
        released_workload=making + rows * 2 * whole,
    )
