"""SafeLoRA (Hsu et al. 2024, arXiv 2405.16833): updates that leave the alignment direction are projected back on it.

Read in code: Ĉ = D_A D_Aᵀ / ‖D_A‖_F acts on outputs; the tensors with the lowest cos(Ĉ D_T, D_T) are replaced, ten of
them, or all below 0.5. From the paper: about a ninth of the layers. Ours: the update of full fine-tuning instead of an
adapter's, every matrix of the blocks instead of query and value, pairs by name, and shares of the tensors as the dial.
Ĉ is no projector: its eigenvalues are σᵢ² / ‖D_A‖_F, so that its strength depends on the size of D_A. P_k is one.
"""

import torch
from torch import Tensor

from helpers.methods.calibration import matrices
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.subspaces import project, rank_for_fraction

RANK = 0.5  # k / min(m, n) of the projector, ours: the paper has none


@edit("safelora", dials=(0.11, 0.25, 0.5, 1.0), kind="defence", null="safelora-random", card=False)
def safelora(weights: Weights, context: Context, dial: float) -> Tensor:
    """Ĉ D_T in the share of the matrices whose update has the lowest cosine with Ĉ D_T."""
    chosen = lowest_cosines(context, weights.task, dial)
    return weights.aligned + released(weights, context) if weights.name in chosen else weights.tuned


@edit("safelora-projector", dials=(0.11, 0.25, 0.5, 1.0), kind="defence", null="safelora-random", card=False)
def safelora_projector(weights: Weights, context: Context, dial: float) -> Tensor:
    """As SafeLoRA, in the same matrices, with the projector on the first half of the modes of D_A in the place of Ĉ."""
    if weights.name not in lowest_cosines(context, weights.task, dial):
        return weights.tuned
    modes = context.modes("alignment", weights.name)
    k = min(rank_for_fraction(tuple(weights.update.shape), RANK), modes.rank)
    return weights.aligned + project(modes.vectors, weights.update, k, "parallel")


@edit("safelora-random", dials=(0.11, 0.25, 0.5, 1.0), card=False)
def safelora_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of SafeLoRA: as many matrices, drawn at random, are reset to the aligned model's."""
    return weights.aligned if weights.name in random_matrices(context, dial) else weights.tuned


def released(weights: Weights, context: Context) -> Tensor:
    """Ĉ D_T with Ĉ = D_A D_Aᵀ / ‖D_A‖_F, (m, n); zero where alignment changed nothing."""
    d_a = context.update("alignment", weights.name)
    size = float(d_a.norm())
    return d_a @ (d_a.T @ weights.update) / size if size else torch.zeros_like(weights.update)


def cosines(context: Context, task: str) -> dict[str, float]:
    """cos(Ĉ D_T, D_T) of every matrix of the blocks, 0 where one of the two is zero."""

    def cosine(name: str) -> float:
        weights = context.weights(name, task)
        after, before = released(weights, context).flatten(), weights.update.flatten()
        sizes = float(after.norm() * before.norm())
        return float(after @ before) / sizes if sizes else 0.0

    return context.once(("cosines", task), lambda: {name: cosine(name) for name in matrices(context)})


def lowest_cosines(context: Context, task: str, share: float) -> set[str]:
    """The share of the matrices whose update has the lowest cosine, at least one."""
    found = cosines(context, task)
    return set(sorted(found, key=found.get)[: max(1, round(share * len(found)))])


def random_matrices(context: Context, share: float) -> set[str]:
    """As many matrices of the blocks, drawn at random; a larger share holds a smaller one."""
    names = matrices(context)
    order = torch.randperm(len(names), generator=context.generator("random-matrices")).tolist()
    return {names[place] for place in order[: max(1, round(share * len(names)))]}
