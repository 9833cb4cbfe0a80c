"""The null space of harmful inputs, after training: D_T (I − V_k V_kᵀ), V_k what harmful requests put into a map.

GuardSpace (Zhang et al. 2025, arXiv 2510.14301), from its abstract: updates are multiplied from the right by the
projector on the null space of harmful inputs; its threshold and rank could not be verified, and no code was found.
Ours: it acts on the finished update, V_k are the leading eigenvectors of the uncentred second moment where harmful
answers are predicted, at the aligned model, and the dial is k / n.
"""

from torch import Tensor

from helpers.methods.calibration import benign, harmful, leading, moments
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit


@edit("input-null", dials=(0.02, 0.05, 0.1, 0.25), kind="defence", null="input-null-benign", card=False)
def input_null(weights: Weights, context: Context, dial: float) -> Tensor:
    """D_T (I − V_k V_kᵀ), V_k the first inputs of harmful requests, k = dial · n."""
    return weights.aligned + without_inputs(weights, context, dial, harmful(context))


@edit("input-null-benign", dials=(0.02, 0.05, 0.1, 0.25), card=False)
def input_null_benign(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the input side: the first inputs of benign requests."""
    return weights.aligned + without_inputs(weights, context, dial, benign(context))


def without_inputs(weights: Weights, context: Context, dial: float, kind: str) -> Tensor:
    """D_T (I − V_k V_kᵀ), (m, n); D_T for a tensor that is no linear map."""
    moment = moments(context, kind).get(weights.name)
    if moment is None:
        return weights.update
    v = leading(moment, max(1, round(dial * len(moment))))  # (n, k)
    return weights.update - (weights.update @ v) @ v.T
