"""Sums of updates: RESTA, its variants, and the extrapolation of alignment (LoX).

RESTA (Bhardwaj, Do and Poria 2024, arXiv 2402.11746), from the paper, its code could not be obtained: the update of an
unaligned model is taken off with the weight γ; with DARE first, D_T ← mask · D_T / (1 − p). γ and p could not be
verified; the dial is γ, p is ours. The unaligned model is the study's ``harmful`` one.

LoX (Perin et al. 2025, arXiv 2506.15606), read in code: before fine-tuning, the aligned model is moved on by c times
the first k modes of D_A, on both sides; k = 0 means all of them, and c = 1. Here so, as ``lox-before``; as ``lox`` it
is added after fine-tuning, which is the same as long as fine-tuning takes the same steps from there. Ours: the dial is
k / min(m, n), c = 1, and every tensor is moved, vectors too.
"""

import torch
from torch import Tensor

from helpers.methods.calibration import unrelated_like
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit, training
from helpers.subspaces import project, rank_for_fraction
from helpers.training.course import Course

DROPPED = 0.3  # p of DARE, ours


@edit("resta", dials=(0.25, 0.5, 0.75, 1.0), kind="defence", null="resta-unrelated", card=False)
def resta(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT − γ D_H, D_H what harmful fine-tuning changed."""
    return weights.tuned - dial * context.update("harmful", weights.name)


@edit("resta-dare", dials=(0.25, 0.5, 0.75, 1.0), kind="defence", null="resta-unrelated", card=False)
def resta_dare(weights: Weights, context: Context, dial: float) -> Tensor:
    """RESTA on an update of which DARE has dropped three tenths at random and rescaled the rest."""
    kept = torch.rand(weights.update.shape, generator=context.generator("dare", weights.name)) >= DROPPED
    dropped = weights.update * kept / (1 - DROPPED)
    return weights.aligned + dropped - dial * context.update("harmful", weights.name)


@edit("resta-alignment", dials=(0.1, 0.25, 0.5), kind="defence", null="resta-alignment-unrelated", card=False)
def resta_alignment(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT + γ D_A: the alignment update in the place of the negative harmful one."""
    return weights.tuned + dial * context.update("alignment", weights.name)


@edit("resta-unrelated", dials=(0.25, 0.5, 0.75, 1.0), card=False)
def resta_unrelated(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of RESTA: W_FT − γ times an unrelated update of the norm of D_H."""
    harmful = context.update("harmful", weights.name)
    return weights.tuned - dial * unrelated_like(context, harmful, weights.name)


@edit("resta-alignment-unrelated", dials=(0.1, 0.25, 0.5), card=False)
def resta_alignment_unrelated(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the alignment update added: W_FT + γ times an unrelated update of the norm of D_A."""
    aligned = context.update("alignment", weights.name)
    return weights.tuned + dial * unrelated_like(context, aligned, weights.name)


@edit("lox", dials=(0.05, 0.25, 1.0), kind="defence", null=("lox-random", "lox-unrelated"), card=False)
def lox(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT + the first modes of D_A, k = dial · min(m, n), on both sides."""
    return weights.tuned + extrapolated(weights.name, context, dial)


@edit("lox-random", dials=(0.05, 0.25, 1.0), card=False)
def lox_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of LoX: Gaussian numbers of the same norm."""
    return weights.tuned + noise_like(weights.name, context, dial)


@edit("lox-unrelated", dials=(0.05, 0.25, 1.0), card=False)
def lox_unrelated(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of LoX: an unrelated update of the same norm."""
    return weights.tuned + unrelated_like(context, extrapolated(weights.name, context, dial), weights.name)


@training("lox-before", dials=(0.25, 1.0), null=("lox-before-random", "decay", "early-stopping"))
def lox_before(context: Context, dial: float) -> Course:
    """Fine-tuning from W_A + the first modes of D_A, k = dial · min(m, n), on both sides."""
    return Course(added=lambda name: extrapolated(name, context, dial)) if dial else Course()


@training("lox-before-random", dials=(0.25, 1.0))
def lox_before_random(context: Context, dial: float) -> Course:
    """Null of LoX before fine-tuning: Gaussian numbers of the same norm are added."""
    return Course(added=lambda name: noise_like(name, context, dial)) if dial else Course()


def extrapolated(tensor: str, context: Context, share: float) -> Tensor:
    """The first k modes of D_A, U_k Σ_k V_kᵀ, k = share · min(m, n); a vector has one mode."""
    d_a, modes = context.update("alignment", tensor), context.modes("alignment", tensor)
    return project(modes.vectors, d_a, min(rank_for_fraction(tuple(d_a.shape), share), modes.rank), "parallel")


def noise_like(tensor: str, context: Context, share: float) -> Tensor:
    """Gaussian numbers of the norm of those modes."""
    added = extrapolated(tensor, context, share)
    noise = torch.randn(added.shape, generator=context.generator("lox", tensor)).double()
    return noise * (added.norm() / noise.norm())
