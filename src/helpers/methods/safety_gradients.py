"""SPF (Zhang et al. 2026, arXiv 2601.10141): steps of training lose what lies along safety gradients; and nulls.

From its abstract: the gradient of safe answers is of low rank and can be told from one of them; what of the gradient of
a task conflicts with it is projected out. Side, rank, how often it is taken, and whether only conflicting parts go
could not be verified, and no code was found. Ours: U_k are the leading left singular vectors of the summed gradient of
32 refusals at the aligned model, taken once; U_k U_kᵀ ΔW is taken off each *step* of the weights, whatever its sign,
since AdamW would leave the complement that gradients were confined to; the dial is k / min(m, n).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.draws import haar
from helpers.methods.asft import modes_of_alignment
from helpers.methods.calibration import benign, gradient_sums, refused
from helpers.methods.context import Context
from helpers.methods.door import training
from helpers.subspaces import as_matrix, decompose, rank_for_fraction
from helpers.training.course import Course


@training("spf", dials=(0.05, 0.25), null=("spf-benign", "spf-random", "decay", "early-stopping"))
def spf(context: Context, dial: float) -> Course:
    """Training whose steps lose what lies in the first directions of the gradient of refusals, k = dial · min(m, n)."""
    return steps_without_outputs(context, dial, lambda tensor: of_gradient(context, tensor, refused(context), dial))


@training("spf-alignment", dials=(0.05, 0.25), null=("spf-random", "decay", "early-stopping"))
def spf_alignment(context: Context, dial: float) -> Course:
    """As SPF, with the first modes of D_A: the subspace of the paper, kept out of training."""
    return steps_without_outputs(context, dial, lambda tensor: modes_of_alignment(context, tensor, dial))


@training("spf-benign", dials=(0.05, 0.25))
def spf_benign(context: Context, dial: float) -> Course:
    """Null of SPF: the gradient of benign answers."""
    return steps_without_outputs(context, dial, lambda tensor: of_gradient(context, tensor, benign(context), dial))


@training("spf-random", dials=(0.05, 0.25))
def spf_random(context: Context, dial: float) -> Course:
    """Null of SPF: as many uniformly random directions as D_A has modes there."""

    def drawn(tensor: str) -> Tensor:
        rows, rank = modes_of_alignment(context, tensor, dial).shape
        return haar(rows, rank, context.generator("spf", tensor)) if rank else torch.zeros(rows, 0)

    return steps_without_outputs(context, dial, drawn)


def steps_without_outputs(context: Context, dial: float, basis: Callable[[str], Tensor]) -> Course:
    """U Uᵀ ΔW is taken off every step of each tensor, U its basis (m, k); nothing at dial 0."""
    bases = {tensor: basis(tensor) for tensor in context.names} if dial else {}

    def taken(tensor: str, step: Tensor) -> Tensor:
        u = bases[tensor].to(step)
        return (u @ (u.T @ as_matrix(step))).reshape(step.shape)

    return Course(taken=(taken,) if dial else ())


def of_gradient(context: Context, tensor: str, kind: str, dial: float) -> Tensor:
    """The first k left singular vectors of the summed gradient of a kind of answers at the aligned model: (m, k)."""
    gradient = gradient_sums(context, kind, "aligned").get(tensor)
    if gradient is None:
        return torch.zeros(context.shape(tensor)[0], 0)
    modes = decompose(gradient)
    return modes.vectors[:, : min(rank_for_fraction(context.shape(tensor), dial), modes.rank)]
