"""ActSVD (Wei et al. 2024, arXiv 2402.05162): ranks of outputs that harmful answers need and useful ones do not.

Read in code: Y = X Wᵀ at answer tokens, V its leading right singular vectors; W ← W − (I − Π_u) Π_s W, 128 rows,
layer by layer on what is edited already; its flags count the ranks that are left out. Ours: 32 rows, all layers at
once, the exact decomposition, the tokens from which answers are predicted, and one dial k / min(m, n) for both sets of
ranks. As a defence it acts on D_T, with harmful and useful answers at the fine-tuned model.
"""

import torch
from torch import Tensor

from helpers.methods.calibration import FEW, USEFUL, benign, harmful, leading, leading_left, moments, refused
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.subspaces import rank_for_fraction

MOST = 0.5  # the largest place of the dials: so many ranks are made once for all places, and for the nulls


@edit("actsvd", dials=(0.05, 0.1, 0.25, 0.5), kind="defence", null="actsvd-swapped", card=False)
def actsvd(weights: Weights, context: Context, dial: float) -> Tensor:
    """D_T − (I − Π_u) Π_h D_T, Π on the first outputs of useful and of harmful answers."""
    bases = (ranks(weights.tuned, weights, context, dial, kind, weights.task) for kind in (harmful(context), USEFUL))
    return weights.tuned - disentangled(weights.update, *bases)


@edit("actsvd-swapped", dials=(0.05, 0.1, 0.25, 0.5), card=False)
def actsvd_swapped(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of ActSVD: useful and harmful answers change places."""
    bases = (ranks(weights.tuned, weights, context, dial, kind, weights.task) for kind in (USEFUL, harmful(context)))
    return weights.tuned - disentangled(weights.update, *bases)


@edit("actsvd-attack", dials=(0.02, 0.05, 0.1, 0.25), kind="attack", null="actsvd-attack-swapped", card=False)
def actsvd_attack(weights: Weights, context: Context, dial: float) -> Tensor:
    """The aligned model without the ranks of its refusals: W_A − (I − Π_u) Π_s W_A, u benign answers."""
    bases = (ranks(weights.aligned, weights, context, dial, kind(context), "aligned") for kind in (refused, benign))
    return weights.aligned - disentangled(weights.aligned, *bases)


@edit("actsvd-attack-swapped", dials=(0.02, 0.05, 0.1, 0.25), card=False)
def actsvd_attack_swapped(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the attack: refusals and benign answers change places."""
    bases = (ranks(weights.aligned, weights, context, dial, kind(context), "aligned") for kind in (benign, refused))
    return weights.aligned - disentangled(weights.aligned, *bases)


def ranks(matrix: Tensor, weights: Weights, context: Context, dial: float, kind: str, model: str) -> Tensor | None:
    """The leading right singular vectors of Y = X Wᵀ, (m, k), k = dial · min(m, n); None of what is no linear map.

    ``matrix``: the tensor of that model.
    """
    moment = moments(context, kind, model).get(weights.name)  # XᵀX / tokens, (n, n)
    if moment is None:
        return None
    rank, most = (rank_for_fraction(tuple(matrix.shape), share) for share in (dial, max(dial, MOST)))
    key = ("ranks", model, kind, weights.name, most)
    return context.once(key, lambda: _leading(matrix, moment, most).clone())[:, :rank]


def _leading(matrix: Tensor, moment: Tensor, rank: int) -> Tensor:
    if len(matrix) <= FEW:
        return leading(matrix @ moment @ matrix.T, rank)
    values, vectors = torch.linalg.eigh(moment)
    return leading_left(matrix.double() @ (vectors * values.clamp(min=0).sqrt()), rank)  # as (M S½)(M S½)ᵀ = M S Mᵀ


def disentangled(matrix: Tensor, removed: Tensor | None, spared: Tensor | None) -> Tensor:
    """(I − Π_spared) Π_removed M, both on outputs; zero of what is no linear map."""
    if removed is None or spared is None:
        return matrix * 0
    inside = removed @ (removed.T @ matrix)
    return inside - spared @ (spared.T @ inside)
