"""An update's own leading modes kept or removed, and projections that know nothing of alignment, as controls.

WeightWatch (Zhong and Raghunathan 2025, arXiv 2508.00161), read in code, watches the first 20 left singular vectors of
D_T in o_proj and down_proj; a note on rank 1 (LessWrong, May 2026) keeps the first alone. From both: the modes of D_T
say what was trained, without any knowledge of the aligned model. Ours: they are kept or removed in every tensor.
"""

from torch import Tensor

from helpers.draws import haar
from helpers.methods.calibration import Mode, energy_matched
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.methods.edits import orthogonal
from helpers.subspaces import project, rank_for_fraction


@edit("own-modes-kept", dials=(0.05, 0.1, 0.25, 0.5), kind="defence", null="own-modes-kept-random", card=False)
def own_modes_kept(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + the first k modes of D_T, k = dial · min(m, n)."""
    return weights.aligned + project(*_own(weights, context, dial), "parallel")


@edit("own-modes-removed", dials=(0.01, 0.05, 0.1, 0.25), kind="defence", null="own-modes-removed-random", card=False)
def own_modes_removed(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + D_T without its first k modes, k = dial · min(m, n)."""
    return weights.aligned + project(*_own(weights, context, dial), "orthogonal")


@edit("own-modes-kept-random", dials=(0.05, 0.1, 0.25, 0.5), card=False)
def own_modes_kept_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of own modes kept: a random subspace that keeps as much energy."""
    return weights.aligned + _random(weights, context, dial, "parallel")


@edit("own-modes-removed-random", dials=(0.01, 0.05, 0.1, 0.25), card=False)
def own_modes_removed_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of own modes removed: a random subspace that keeps as much energy is removed."""
    return weights.aligned + _random(weights, context, dial, "orthogonal")


@edit("alignment-removed", dials=(0.1, 0.25, 0.5, 0.75), kind="defence",
      null=("unrelated-removed", "random-removed", "energy-removed"), card=False)  # fmt: skip
def alignment_removed(weights: Weights, context: Context, dial: float) -> Tensor:
    """WA + (I − P_k) D_T, P_k on the first modes of D_A, the paper's own, k = dial · min(m, n)."""
    return orthogonal(weights, context, dial)


@edit("unrelated-removed", dials=(0.1, 0.25, 0.5, 0.75), card=False)
def unrelated_removed(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the alignment subspace removed: that of an unrelated update."""
    vectors, k = _first(weights, context, dial, "unrelated")
    return weights.aligned + project(vectors, weights.update, k, "orthogonal")


@edit("random-removed", dials=(0.1, 0.25, 0.5, 0.75), card=False)
def random_removed(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the alignment subspace removed: a uniformly random one of the same rank."""
    rank = _first(weights, context, dial, "alignment")[1]
    if not rank:  # nothing was aligned there
        return weights.tuned
    basis = haar(len(weights.update), rank, context.generator("random-removed", weights.name))
    return weights.aligned + project(basis, weights.update, rank, "orthogonal")


@edit("energy-removed", dials=(0.1, 0.25, 0.5, 0.75), card=False)
def energy_removed(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the alignment subspace removed: a uniformly random one that holds as much of the update's energy."""
    modes, k = _first(weights, context, dial, "alignment")
    return weights.aligned + energy_matched(context, modes[:, :k], weights, "orthogonal")


def _first(weights: Weights, context: Context, dial: float, label: str) -> tuple[Tensor, int]:
    """Modes of an update, and how many of them a place of the dial means."""
    modes = context.modes(label, weights.name)
    return modes.vectors, min(rank_for_fraction(tuple(weights.update.shape), dial), modes.rank)


def _own(weights: Weights, context: Context, dial: float) -> tuple[Tensor, Tensor, int]:
    """Modes of D_T, D_T, and k."""
    vectors, k = _first(weights, context, dial, weights.task)
    return vectors, weights.update, k


def _random(weights: Weights, context: Context, dial: float, mode: Mode) -> Tensor:
    vectors, _, k = _own(weights, context, dial)
    return energy_matched(context, vectors[:, :k], weights, mode)
