"""Subspaces that are told what is harmful, each with its twin from benign requests: the difference is what counts.

Difference in means as of Arditi et al. (2024), but of each map's own inputs or outputs in the place of the residual
stream; the direction that a linear probe reads and the pattern that belongs to it (Haufe et al. 2014: Σ w); ActSVD's
ranks (Wei et al. 2024); principal directions of harmful inputs; the leading directions of single prompts' gradients.
All are taken at the aligned model on calibration prompts. The twin contrasts two kinds of benign requests, or is made
from benign ones alone.
"""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from helpers.methods.activation_rank import ranks
from helpers.methods.calibration import FEW, USEFUL, benign, harmful, leading, leading_left, moments, narrowed, refused
from helpers.methods.context import Context
from helpers.methods.door import subspace
from helpers.subspaces import rank_for_fraction
from helpers.weights.edits import Side

DIRECTIONS = 0.25  # k / min(m, n), at most, of subspaces with several directions


@subspace("mean-difference", twin="mean-difference-benign")
def mean_difference(tensor: str, context: Context) -> Tensor | None:
    """Mean output of refused less that of benign requests: one column."""
    return _means_apart(tensor, context, refused(context), benign(context), "output")


@subspace("mean-difference-benign")
def mean_difference_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the difference in means: useful requests less benign ones."""
    return _means_apart(tensor, context, USEFUL, benign(context), "output")


@subspace("mean-difference-input", side="input", twin="mean-difference-input-benign")
def mean_difference_input(tensor: str, context: Context) -> Tensor | None:
    """Mean input of refused less that of benign requests: one column."""
    return _means_apart(tensor, context, refused(context), benign(context), "input")


@subspace("mean-difference-input-benign", side="input")
def mean_difference_input_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the difference in mean inputs: useful requests less benign ones."""
    return _means_apart(tensor, context, USEFUL, benign(context), "input")


@subspace("probe", side="input", twin="probe-benign")
def probe(tensor: str, context: Context) -> Tensor | None:
    """The direction of inputs that an L2-logistic probe of refused against benign requests reads: one column."""
    return _column(_probe(tensor, context, refused(context), benign(context), "input"))


@subspace("probe-benign", side="input")
def probe_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the probe: useful against benign requests."""
    return _column(_probe(tensor, context, USEFUL, benign(context), "input"))


@subspace("probe-pattern", twin="probe-pattern-benign")
def probe_pattern(tensor: str, context: Context) -> Tensor | None:
    """The pattern Σ w of a probe on outputs, refused against benign requests: one column."""
    return _pattern(tensor, context, refused(context), benign(context))


@subspace("probe-pattern-benign")
def probe_pattern_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the probe's pattern: useful against benign requests."""
    return _pattern(tensor, context, USEFUL, benign(context))


@subspace("actsvd-ranks", twin="actsvd-ranks-benign")
def actsvd_ranks(tensor: str, context: Context) -> Tensor | None:
    """The leading outputs where refusals are predicted."""
    return _output_ranks(tensor, context, refused(context))


@subspace("actsvd-ranks-benign")
def actsvd_ranks_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of ActSVD's ranks: where benign answers are predicted."""
    return _output_ranks(tensor, context, benign(context))


@subspace("harmful-inputs", side="input", twin="benign-inputs")
def harmful_inputs(tensor: str, context: Context) -> Tensor | None:
    """Principal directions, uncentred, of inputs where harmful answers are predicted."""
    return _principal(tensor, context, harmful(context))


@subspace("benign-inputs", side="input")
def benign_inputs(tensor: str, context: Context) -> Tensor | None:
    """Twin of the harmful inputs: where benign answers are predicted."""
    return _principal(tensor, context, benign(context))


@subspace("harmful-gradients", twin="benign-gradients")
def harmful_gradients(tensor: str, context: Context) -> Tensor | None:
    """Leading directions Σ G Gᵀ of the gradients of single harmful answers, on outputs."""
    return _gradient_ranks(tensor, context, harmful(context))


@subspace("benign-gradients")
def benign_gradients(tensor: str, context: Context) -> Tensor | None:
    """Twin of the harmful gradients: of single benign answers."""
    return _gradient_ranks(tensor, context, benign(context))


def _column(found: Tensor | None) -> Tensor | None:
    """A direction (r,) as a basis (r, 1); None of what is no linear map, or of a zero direction."""
    size = 0.0 if found is None else float(found.norm())
    return (found / size)[:, None] if size else None


def _both(tensor: str, context: Context, a: str, b: str, side: Side) -> tuple[Tensor, Tensor] | None:
    found = context.activations(a, side).get(tensor), context.activations(b, side).get(tensor)
    return None if found[0] is None else found


def _means_apart(tensor: str, context: Context, a: str, b: str, side: Side) -> Tensor | None:
    sets = _both(tensor, context, a, b, side)
    return _column(None if sets is None else sets[0].mean(0) - sets[1].mean(0))


def _probe(tensor: str, context: Context, a: str, b: str, side: Side) -> Tensor | None:
    """Weights of a logistic probe with scikit-learn's L2 penalty, on activations of unit mean square: (r,)."""
    sets = _both(tensor, context, a, b, side)
    if sets is None:
        return None
    x = torch.cat(sets)
    x = x / x.square().mean().sqrt()
    labels = [1] * len(sets[0]) + [0] * len(sets[1])
    return torch.from_numpy(LogisticRegression(max_iter=1000).fit(x.numpy(), labels).coef_[0])


def _pattern(tensor: str, context: Context, a: str, b: str) -> Tensor | None:
    weights = _probe(tensor, context, a, b, "output")
    if weights is None:
        return None
    x = torch.cat(_both(tensor, context, a, b, "output"))
    centred = x - x.mean(0)  # (prompts, m)
    return _column(centred.T @ (centred @ weights))


def _output_ranks(tensor: str, context: Context, kind: str) -> Tensor | None:
    weights = context.weights(tensor, "aligned")
    return ranks(weights.aligned, weights, context, DIRECTIONS, kind, "aligned")


def _principal(tensor: str, context: Context, kind: str) -> Tensor | None:
    moment = moments(context, kind).get(tensor)
    return None if moment is None else leading(moment, rank_for_fraction(context.shape(tensor), DIRECTIONS))


def _gradient_ranks(tensor: str, context: Context, kind: str) -> Tensor | None:
    if len(context.shape(tensor)) != 2:
        return None
    return context.once(("gradient ranks", kind), lambda: _every_gradient_rank(context, kind))[tensor]


def _every_gradient_rank(context: Context, kind: str) -> dict[str, Tensor]:
    """The leading directions of Σ G Gᵀ over the calibration rows, of every matrix."""
    products: dict[str, Tensor] = {}  # (m, m)
    factors: dict[str, list[Tensor]] = {}  # (m, r), of vocabularies
    for gradient in context.gradient_of_each(kind):
        for name, value in gradient.items():
            own = value.double().cpu()
            if value.ndim == 2 and len(value) <= FEW:
                products[name] = products.get(name, 0) + own @ own.T
            elif value.ndim == 2:
                factors.setdefault(name, []).append(narrowed(own))
    ranks_of = {name: rank_for_fraction(context.shape(name), DIRECTIONS) for name in (*products, *factors)}
    found = {name: leading(product, ranks_of[name]) for name, product in products.items()}
    return found | {name: leading_left(torch.cat(factors.pop(name), 1), ranks_of[name]) for name in [*factors]}
