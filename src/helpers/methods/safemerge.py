"""SafeMERGE (Djuhera et al. 2025, arXiv 2503.17239): updates that fail SafeLoRA's test are mixed with a safe one.

Read in code: where cos(Ĉ D_T, D_T) < τ = 0.35, D ← (1 − w) D_T + w D_safe with w = 0.2; PEFT's ``linear`` merges the
two factors apart, with weights √(1 − w) and √w, which adds the cross terms B_T A_safe and B_safe A_T. From the paper:
D_safe comes from refusal tuning of the aligned model. Ours: it is the study's safety objective, trained from the
aligned model on the same rows, without adapters, so that factors are those of the singular value decomposition, U√S and
√S Vᵀ. It leaves the sign of each pair of vectors open: those of D_safe have the one that brings them nearer to D_T's.
Until 2026-11-27 signs were as the library gave them; the published benches are from before.
"""

import torch
from torch import Tensor

from helpers.data.rows import training_rows
from helpers.methods.calibration import matrices, unrelated_like
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.methods.safelora import cosines, random_matrices
from helpers.models.load import load_model
from helpers.training.train import train

THRESHOLD = 0.35


@edit("safemerge", dials=(0.2, 0.5, 0.8), kind="defence", null="safemerge-random", card=False)
def safemerge(weights: Weights, context: Context, dial: float) -> Tensor:
    """(1 − w) D_T + w D_safe in the matrices below the threshold, as the formula says."""
    return mixed(weights, context, dial) if weights.name in failing(context, weights.task) else weights.tuned


@edit("safemerge-all", dials=(0.2, 0.5, 0.8), kind="defence", null="safemerge-all-unrelated", card=False)
def safemerge_all(weights: Weights, context: Context, dial: float) -> Tensor:
    """(1 − w) D_T + w D_safe in every matrix of the blocks, whatever its cosine."""
    return mixed(weights, context, dial) if weights.name in matrices(context) else weights.tuned


@edit("safemerge-code", dials=(0.2, 0.5, 0.8), kind="defence", null="safemerge-all-unrelated", card=False)
def safemerge_code(weights: Weights, context: Context, dial: float) -> Tensor:
    """SafeMERGE in every matrix of the blocks as its code merges: factor by factor, with cross terms."""
    if weights.name not in matrices(context):
        return weights.tuned
    b_t, a_t = factors(weights.update)
    b_s, a_s = turned(*factors(safe_update(context)[weights.name]), b_t, a_t)
    own, other = (1 - dial) ** 0.5, dial**0.5
    return weights.aligned + (own * b_t + other * b_s) @ (own * a_t + other * a_s)


@edit("safemerge-random", dials=(0.2, 0.5, 0.8), card=False)
def safemerge_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of SafeMERGE: as many matrices, drawn at random, are mixed."""
    share = len(failing(context, weights.task)) / len(matrices(context))
    chosen = random_matrices(context, share) if share else set()
    return mixed(weights, context, dial) if weights.name in chosen else weights.tuned


@edit("safemerge-all-unrelated", dials=(0.2, 0.5, 0.8), card=False)
def safemerge_all_unrelated(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of SafeMERGE in every matrix: an unrelated update of the norm of D_safe in its place."""
    if weights.name not in matrices(context):
        return weights.tuned
    other = unrelated_like(context, safe_update(context)[weights.name], weights.name)
    return weights.aligned + (1 - dial) * weights.update + dial * other


def failing(context: Context, task: str) -> set[str]:
    """The matrices whose update has a cosine below the threshold."""
    return {name for name, cosine in cosines(context, task).items() if cosine < THRESHOLD}


def mixed(weights: Weights, context: Context, share: float) -> Tensor:
    """WA + (1 − w) D_T + w D_safe."""
    return weights.aligned + (1 - share) * weights.update + share * safe_update(context)[weights.name]


def factors(update: Tensor) -> tuple[Tensor, Tensor]:
    """U√S (m, r) and √S Vᵀ (r, n) of an update, whose product it is."""
    u, s, vt = torch.linalg.svd(update, full_matrices=False)
    return u * s.sqrt(), s.sqrt()[:, None] * vt


def turned(b: Tensor, a: Tensor, b_to: Tensor, a_to: Tensor) -> tuple[Tensor, Tensor]:
    """Factors B (m, r) and A (r, n) with the sign of each column and its row that is nearer to those of two others."""
    nearer = (b * b_to).sum(0) + (a * a_to).sum(1) >= 0  # (r,)
    signs = nearer.to(b) * 2 - 1
    return b * signs, a * signs[:, None]


def safe_update(context: Context) -> dict[str, Tensor]:
    """D_safe of every matrix of the blocks: what the safety objective changes in the aligned model. Trained once."""
    return context.once("safe-update", lambda: _trained(context))


def _trained(context: Context) -> dict[str, Tensor]:
    study, aligned = context.study, context.checkpoints["aligned"]
    objective = study.training.safety.model_copy(update={"start": "aligned"})
    rows = training_rows(study, objective, context.seed, context.checkpoints["base"].folder)
    model, tokenizer = load_model(aligned.folder)
    with torch.enable_grad():  # which an edit is made without
        train(model, tokenizer, rows, objective, study.training.optimiser, context.seed)
    found = dict(model.named_parameters())
    return {name: found[name].detach().double().cpu() - aligned.tensor(name).double() for name in matrices(context)}
