"""The edits of the paper, tensor by tensor: projection on Top-K of the alignment subspace, and the smaller step."""

from typing import Literal

from torch import Tensor

from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.subspaces import project, rank_for_fraction


@edit("scaling", dials=(0.25, 0.5, 0.75), kind="defence")
def scaling(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + α D_T: a smaller step, which knows nothing of subspaces."""
    return weights.aligned + dial * weights.update


@edit("parallel", dials=(0.25, 0.5, 0.75), kind="defence")
def parallel(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + P_k D_T: only what lies in Top-K of the alignment subspace, k = dial · min(m, n)."""
    return weights.aligned + _projected(weights, context, dial, "parallel")


@edit("orthogonal", dials=(0.25, 0.5, 0.75), kind="defence")
def orthogonal(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + (I − P_k) D_T: all but what lies in Top-K of the alignment subspace, k = dial · min(m, n)."""
    return weights.aligned + _projected(weights, context, dial, "orthogonal")


def _projected(weights: Weights, context: Context, dial: float, mode: Literal["parallel", "orthogonal"]) -> Tensor:
    basis = context.leading("alignment", weights.name, rank_for_fraction(tuple(weights.tuned.shape), dial))
    if weights.factors is not None:  # P (L R) = (P L) R, which costs next to nothing
        left, right = weights.factors
        return project(basis, left, basis.shape[1], mode) @ right
    return project(basis, weights.update, basis.shape[1], mode)
