"""Masks of single weights: no subspaces at all, which marks the limit of what the paper speaks about.

SNIP set difference (Wei et al. 2024, arXiv 2402.05162), read in code: |w| · Σ |∂ℓ/∂w| over rows; weights in the top q
of safety and not in the top p of utility, tensor by tensor; p and q are 0.5 by default and 0.1 in the README. Ours: as
a defence the entries of D_T are set to zero, scores are taken at the fine-tuned model, and p = q is the dial.

Signed SNIP (Orgad et al. 2026, arXiv 2604.09544), from its abstract: s = −w · ∂L/∂w on harmful answers, which is large
where setting w to zero raises their loss most; the largest positive ones outside the utility set are pruned. Sign,
sizes and whether tensors are ranked apart could not be verified. Ours: they are, the utility set is a tenth, and shares
are the dial.

Antidote (Huang et al. 2024, arXiv 2408.09600), read in code: per row the top ρ of |w_ij| · ‖x_j‖ on harmful rows is
pruned, ρ = 0.1; its adapter runs mask A and B, not W. Ours: W itself, with inputs where harmful answers are predicted
at the fine-tuned model, and ρ as the dial.
"""

import torch
from torch import Tensor

from helpers.methods.calibration import USEFUL, benign, gradient_sizes, gradient_sums, harmful, moments
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit

SPARED = 0.1  # share of each tensor that signed SNIP leaves alone for utility, ours


@edit("snip", dials=(0.05, 0.1, 0.25, 0.5), kind="defence", null=("snip-swapped", "snip-random"), card=False)
def snip(weights: Weights, context: Context, dial: float) -> Tensor:
    """D_T without its entries in the top q for harmful answers and not in the top p for useful ones."""
    return torch.where(difference(weights, context, dial, harmful(context), USEFUL), weights.aligned, weights.tuned)


@edit("snip-swapped", dials=(0.05, 0.1, 0.25, 0.5), card=False)
def snip_swapped(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the set difference: harmful and useful answers change places."""
    return torch.where(difference(weights, context, dial, USEFUL, harmful(context)), weights.aligned, weights.tuned)


@edit("snip-random", dials=(0.05, 0.1, 0.25, 0.5), card=False)
def snip_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the set difference: as many entries, drawn at random."""
    mask = difference(weights, context, dial, harmful(context), USEFUL)
    return torch.where(random_mask(mask, weights, context), weights.aligned, weights.tuned)


@edit("snip-signed", dials=(0.001, 0.01, 0.05, 0.1), kind="defence",
      null=("snip-signed-negative", "snip-signed-random"), card=False)  # fmt: skip
def snip_signed(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT with the weights set to zero whose loss would cost harmful answers most."""
    return weights.tuned.masked_fill(signed(weights, context, dial, 1), 0.0)


@edit("snip-signed-negative", dials=(0.001, 0.01, 0.05, 0.1), card=False)
def snip_signed_negative(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of signed SNIP: the weights whose loss would help harmful answers most."""
    return weights.tuned.masked_fill(signed(weights, context, dial, -1), 0.0)


@edit("snip-signed-random", dials=(0.001, 0.01, 0.05, 0.1), card=False)
def snip_signed_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of signed SNIP: as many weights, drawn at random."""
    return weights.tuned.masked_fill(random_mask(signed(weights, context, dial, 1), weights, context), 0.0)


@edit("antidote", dials=(0.001, 0.01, 0.05, 0.1), kind="defence",
      null=("antidote-benign", "antidote-random"), card=False)  # fmt: skip
def antidote(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT with the top ρ of every row of |w| · ‖x‖ on harmful rows set to zero."""
    return weights.tuned.masked_fill(row_tops(weights, context, dial, harmful(context)), 0.0)


@edit("antidote-benign", dials=(0.001, 0.01, 0.05, 0.1), card=False)
def antidote_benign(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of Antidote: inputs of benign rows."""
    return weights.tuned.masked_fill(row_tops(weights, context, dial, benign(context)), 0.0)


@edit("antidote-random", dials=(0.001, 0.01, 0.05, 0.1), card=False)
def antidote_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of Antidote: as many weights, drawn at random."""
    return weights.tuned.masked_fill(
        random_mask(row_tops(weights, context, dial, harmful(context)), weights, context), 0.0
    )


@edit("antidote-update", dials=(0.05, 0.1, 0.25, 0.5), kind="defence", null="antidote-update-benign", card=False)
def antidote_update(weights: Weights, context: Context, dial: float) -> Tensor:
    """Antidote's mask on D_T: those weights are the aligned model's again."""
    return torch.where(row_tops(weights, context, dial, harmful(context)), weights.aligned, weights.tuned)


@edit("antidote-update-benign", dials=(0.05, 0.1, 0.25, 0.5), card=False)
def antidote_update_benign(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of Antidote's mask on D_T: inputs of benign rows."""
    return torch.where(row_tops(weights, context, dial, benign(context)), weights.aligned, weights.tuned)


def top(scores: Tensor, share: float) -> Tensor:
    """Mask of the share of entries with the largest scores, of the same shape; ties beyond the share are left out."""
    count = round(share * scores.numel())
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(count).indices] = True
    return mask.reshape(scores.shape)


def sizes(weights: Weights, context: Context, kind: str) -> Tensor:
    """|w| · Σ |∂ℓ/∂w| of answers of a kind at the fine-tuned model; zero for a tensor that has no gradient."""
    found = gradient_sizes(context, kind, weights.task).get(weights.name)
    return torch.zeros_like(weights.tuned) if found is None else weights.tuned.abs() * found


def difference(weights: Weights, context: Context, share: float, taken: str, spared: str) -> Tensor:
    """Mask of what is in the top share for one kind of answers and not in that for the other."""
    return top(sizes(weights, context, taken), share) & ~top(sizes(weights, context, spared), share)


def signed(weights: Weights, context: Context, share: float, sign: int) -> Tensor:
    """Mask of the largest positive sign · (−w · ∂L/∂w) on harmful answers, outside the utility set."""
    found = gradient_sums(context, harmful(context), weights.task).get(weights.name, torch.zeros_like(weights.tuned))
    scores = (-sign * weights.tuned * found).masked_fill(top(sizes(weights, context, USEFUL), SPARED), 0.0)
    return top(scores, share) & (scores > 0)


def row_tops(weights: Weights, context: Context, share: float, kind: str) -> Tensor:
    """Mask of the top share of every row of |w_ij| · ‖x_j‖, at least one; none of what is no linear map."""
    moment = moments(context, kind, weights.task).get(weights.name)
    if moment is None:
        return torch.zeros(weights.tuned.shape, dtype=torch.bool)
    scores = weights.tuned.abs() * moment.diagonal().clamp(min=0).sqrt()  # (m, n)
    places = scores.topk(max(1, round(share * scores.shape[1])), dim=1).indices
    return torch.zeros(scores.shape, dtype=torch.bool).scatter_(1, places, True)


def random_mask(mask: Tensor, weights: Weights, context: Context) -> Tensor:
    """As many entries as a mask has, drawn at random."""
    order = torch.randperm(mask.numel(), generator=context.generator("random-mask", weights.name))
    drawn = torch.zeros(mask.numel(), dtype=torch.bool)
    drawn[order[: int(mask.sum())]] = True
    return drawn.reshape(mask.shape)
