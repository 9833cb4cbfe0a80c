"""A first-order model of fine-tuning: what two updates share because their gradients pass through one network.

A matrix W that maps x to y = W x has the gradient G = Σ g xᵀ over tokens, g the gradient at y. In the limit of small
steps its update lies in the span of the g on the left and of the x on the right, both taken at the weights where
training starts. Three predictions of an update's left modes follow, each knowing more than the one before:

``outputs``   E[Δ Δᵀ] ∝ Σ ‖x‖² g gᵀ: where gradients go, whatever they teach (as if the sign of each were random)
``gradient``  Δ ∝ Σ g xᵀ: gradient descent with small steps
``adamw``     Δ: the study's optimiser on the same gradients, the weights held where they start
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from helpers.claims.predictions import BASELINE, IN_ALIGNMENT, PAIRS, PREDICTIONS, STEPS
from helpers.errors import StudyError
from helpers.studies.sections import Objective, Optimiser
from helpers.subspaces import decompose, energy_kept, mode_subspace_overlap, rank_for_fraction
from helpers.training.examples import Example, collate
from helpers.weights.names import layer_of, module_of

STARTS = {  # update -> the model at which its training starts, and the objective
    "alignment": ("base", "aligned"),
    "safety": ("base", "safety"),
    "useful": ("aligned", "useful"),
    "harmful": ("aligned", "harmful"),
}

Matrices = dict[str, Tensor]  # name of a weight -> (m, n) float64


@dataclass(frozen=True)
class FirstOrder:
    """For each matrix a matrix (m, ·) whose left modes are those that the model predicts of its update."""

    outputs: Matrices
    gradient: Matrices
    adamw: Matrices


def token_factors(module: nn.Linear | nn.Embedding, inputs: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """u (tokens, m) and v (tokens, n) with the gradient of the weight (m, n) equal to uᵀ v.

    For a linear map u is the gradient at its output and v its input; rows of an embedding are tokens, so there u says
    which token was read and v is the gradient at the output.
    """
    g = gradient.reshape(-1, gradient.shape[-1]).double()
    if isinstance(module, nn.Embedding):
        return nn.functional.one_hot(inputs.flatten(), module.num_embeddings).double(), g
    return g, inputs.reshape(-1, inputs.shape[-1]).double()


@contextmanager
def left_moments(model: PreTrainedModel) -> Iterator[Matrices]:
    """Collect Σ ‖v‖² u uᵀ (m, m) of every matrix during backward passes; the hooks are always removed."""
    moments: Matrices = {}

    def watch(name: str) -> Callable:
        """A forward hook for the matrix of that name."""

        def forward(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            """Let the gradient that comes back to this output be collected."""
            seen = inputs[0].detach()

            def backward(gradient: Tensor) -> None:
                u, v = token_factors(module, seen, gradient)
                moments[name] = moments.get(name, 0) + (u * v.square().sum(1, keepdim=True)).T @ u

            output.register_hook(backward)

        return forward

    found = {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    handles = [module.register_forward_hook(watch(name)) for name, module in found.items()]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


def first_order(
    model: PreTrainedModel, examples: list[Example], objective: Objective, optimiser: Optimiser, steps: int = STEPS
) -> FirstOrder:
    """The three predictions for training ``model``, which stays as it is, on the first batches of ``examples``.

    Weight decay, warm-up and schedule are left out. Raises StudyError if there is not one whole batch.
    """
    rows = objective.batch_size * objective.gradient_accumulation
    if len(examples) < rows:
        raise StudyError(f"{len(examples)} examples make no batch of {rows}: give the objective more rows")
    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}
    drift = {name: torch.zeros_like(w, dtype=torch.float64, requires_grad=True) for name, w in weights.items()}
    betas = (optimiser.beta1, optimiser.beta2)
    adamw = torch.optim.AdamW(drift.values(), lr=objective.learning_rate, betas=betas, weight_decay=0.0)
    total = {name: torch.zeros_like(d) for name, d in drift.items()}
    with left_moments(model) as moments:
        for step in range(min(steps, len(examples) // rows)):
            _backward(model, examples[step * rows : (step + 1) * rows], optimiser.max_grad_norm)
            for name, weight in weights.items():
                drift[name].grad = weight.grad.double()
                total[name] += drift[name].grad
            adamw.step()
    model.zero_grad()
    return FirstOrder(
        outputs={name: _root(moments[name]).cpu() for name in weights},
        gradient={name: -sum_.cpu() for name, sum_ in total.items()},
        adamw={name: d.detach().cpu() for name, d in drift.items()},
    )


def _backward(model: PreTrainedModel, examples: list[Example], max_grad_norm: float) -> None:
    model.zero_grad()
    inputs = {name: values.to(model.device) for name, values in collate(examples).items()}
    model(**inputs).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)


def _root(moment: Tensor) -> Tensor:
    """A matrix R (m, m) with R Rᵀ equal to a positive semidefinite one: the same left modes, the same energies."""
    values, vectors = torch.linalg.eigh(moment)
    return vectors * values.clamp(min=0).sqrt()


def quantities(updates: Matrices, energy_fractions: list[float], fractions: list[float]) -> dict[tuple, float]:
    """What is predicted, of one tensor's updates (label -> (m, n)): (quantity, a, b, whose) -> value.

    ``overlap``: MSO of the pair (a, b), mean over energy fractions. ``energy``: share of the energy of b in Top-K of a,
    mean over the fractions of k. ``whose`` is ``update`` or ``random``, what random subspaces of these ranks give.
    """
    modes, found = {label: decompose(matrix) for label, matrix in updates.items()}, {}
    for a, b in PAIRS:
        overlaps = [mode_subspace_overlap(modes[a], modes[b], eta) for eta in energy_fractions]
        found["overlap", a, b, "update"] = float(np.mean([o.mso for o in overlaps]))
        found["overlap", a, b, BASELINE] = float(np.mean([o.random for o in overlaps]))
    reference = modes["alignment"]
    m, rank = len(reference.vectors), reference.rank
    ranks = [min(rank_for_fraction(updates["alignment"].shape, fraction), rank) for fraction in fractions]
    for task in IN_ALIGNMENT:
        kept = energy_kept(reference.vectors, updates[task])
        found["energy", "alignment", task, "update"] = float(np.mean([kept[k - 1] for k in ranks]))
        found["energy", "alignment", task, BASELINE] = float(np.mean(ranks)) / m
    return found


def theory_table(
    measured: dict[str, Matrices],
    predicted: dict[str, FirstOrder],
    energy_fractions: list[float],
    fractions: list[float],
) -> pd.DataFrame:
    """Predicted and measured overlap and energy kept of every matrix (table ``theory``); both map an update's label.

    The baseline ``random`` knows the measured ranks. Matrices that an update did not change are left out.
    """
    rows = []
    for name in next(iter(predicted.values())).gradient:
        updates = {label: matrices[name] for label, matrices in measured.items()}
        if not all(update.any() for update in updates.values()):
            continue
        truth = quantities(updates, energy_fractions, fractions)
        for kind in (*PREDICTIONS, BASELINE):
            whose = BASELINE if kind == BASELINE else "update"
            own = {label: getattr(p, kind)[name] for label, p in predicted.items()} if kind != BASELINE else updates
            for (quantity, a, b, which), value in quantities(own, energy_fractions, fractions).items():
                if which == whose:
                    where = (quantity, a, b, name, module_of(name), layer_of(name), kind)
                    rows.append((*where, value, truth[quantity, a, b, "update"]))
    columns = ["quantity", "a", "b", "tensor", "module", "layer", "prediction", "predicted", "measured"]
    return pd.DataFrame(rows, columns=columns)
