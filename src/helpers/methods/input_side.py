"""The null space of harmful inputs: D_T (I − V_k V_kᵀ), V_k what harmful requests put into a map.

GuardSpace (Zhang et al. 2025, arXiv 2510.14301), from its abstract: updates are multiplied from the right by the
projector on the null space of harmful inputs; its threshold and rank could not be verified, and no code was found. It
also starts adapters from the small components of W C, C the second moment: not done here, where there are no adapters.
Ours: ``input-null`` acts on the finished update and ``guardspace`` on each step of training; V_k are the leading
eigenvectors of the uncentred second moment where harmful answers are predicted at the aligned model; the dial is k / n.
"""

import torch
from torch import Tensor

from helpers.methods.calibration import benign, harmful, leading, moments
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit, training
from helpers.training.course import Course


@edit("input-null", dials=(0.02, 0.05, 0.1, 0.25), kind="defence", null="input-null-benign", card=False)
def input_null(weights: Weights, context: Context, dial: float) -> Tensor:
    """D_T (I − V_k V_kᵀ), V_k the first inputs of harmful requests, k = dial · n."""
    return weights.aligned + without_inputs(weights, context, dial, harmful(context))


@edit("input-null-benign", dials=(0.02, 0.05, 0.1, 0.25), card=False)
def input_null_benign(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the input side: the first inputs of benign requests."""
    return weights.aligned + without_inputs(weights, context, dial, benign(context))


@training("guardspace", dials=(0.05, 0.25), null=("guardspace-benign", "decay", "early-stopping"))
def guardspace(context: Context, dial: float) -> Course:
    """Training whose steps are ΔW (I − V_k V_kᵀ), V_k the first inputs of harmful requests, k = dial · n."""
    return steps_without_inputs(context, dial, harmful(context))


@training("guardspace-benign", dials=(0.05, 0.25))
def guardspace_benign(context: Context, dial: float) -> Course:
    """Null of steps without harmful inputs: the first inputs of benign requests."""
    return steps_without_inputs(context, dial, benign(context))


def without_inputs(weights: Weights, context: Context, dial: float, kind: str) -> Tensor:
    """D_T (I − V_k V_kᵀ), (m, n); D_T for a tensor that is no linear map."""
    v = inputs(weights.name, context, dial, kind)
    return weights.update if v is None else weights.update - (weights.update @ v) @ v.T


def steps_without_inputs(context: Context, dial: float, kind: str) -> Course:
    """ΔW V_k V_kᵀ is taken off every step of a linear map, nothing off those of other tensors, or at dial 0."""
    bases = {name: inputs(name, context, dial, kind) for name in context.names} if dial else {}

    def taken(name: str, step: Tensor) -> Tensor:
        v = bases.get(name)
        return torch.zeros_like(step) if v is None else (step @ v.to(step)) @ v.T.to(step)

    return Course(taken=(taken,) if dial else ())


def inputs(tensor: str, context: Context, dial: float, kind: str) -> Tensor | None:
    """V_k, (n, k), k = dial · n; None of what is no linear map."""
    moment = moments(context, kind).get(tensor)
    return None if moment is None else leading(moment, max(1, round(dial * len(moment))))
