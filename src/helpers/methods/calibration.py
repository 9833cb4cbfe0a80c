"""What methods of the field take from calibration rows: which rows, second moments of inputs, gradients, and nulls.

Whatever a method computes for all tensors is kept by the context, so that the places of its dial and its null share it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from helpers.draws import haar
from helpers.errors import StudyError
from helpers.methods.context import Context
from helpers.subspaces import as_matrix, decompose
from helpers.training.examples import IGNORED
from helpers.weights.edits import Side, side_first
from helpers.weights.names import layer_of

USEFUL = "useful"  # kind of the rows of useful fine-tuning
FEW = 4096  # outputs of a matrix up to which what is (m, m) is made
NOTHING = 1e-6  # of the largest singular value: less is rounding of float32


def harmful(context: Context) -> str:
    """Kind of the harmful requests with harmful answers: the first source of harmful fine-tuning."""
    return f"harmful/{context.study.training.harmful.data[0].source}"


def refused(context: Context) -> str:
    """Kind of the requests that safety training refuses: the first source of the study's safe rows."""
    return f"safety/{_safe(context)[0].source}"


def benign(context: Context) -> str:
    """Kind of the benign requests that safety training answers: the last source of the study's safe rows."""
    return f"safety/{_safe(context)[-1].source}"


def _safe(context: Context) -> list:
    parts = context.study.training.safety.data
    if len(parts) < 2:
        raise StudyError("training.safety has one source: give it refused requests, then benign ones, to contrast them")
    return parts


def matrices(context: Context) -> list[str]:
    """The matrices of the blocks, which adapters are put on: neither the embedding nor the head."""
    return [name for name in context.names if len(context.shape(name)) == 2 and layer_of(name) >= 0]


@torch.no_grad()
def _second_moments(context: Context, model: str, kind: str) -> dict[str, Tensor]:
    network, _ = context.model(model)
    total: dict[str, Tensor] = {}
    tokens, where = 0, torch.empty(0, dtype=torch.bool)

    def watch(weight: str) -> Callable:
        def keep(_module, inputs: tuple[Tensor], _output) -> None:
            x = inputs[0][0, where].double().cpu()  # (answer tokens, n)
            total[weight] = total.get(weight, 0) + x.T @ x

        return keep

    maps = {f"{name}.weight": module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    handles = [module.register_forward_hook(watch(name)) for name, module in maps.items()]
    try:
        for batch in context.answers(kind, model):
            where = _predicting(batch["labels"])
            tokens += int(where.sum())
            network(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: moment / tokens for name, moment in total.items()}


def _predicting(labels: Tensor) -> Tensor:
    """The positions from which an answer's tokens are predicted, of a row (1, tokens): (tokens,)."""
    return torch.cat([labels[0, 1:] != IGNORED, torch.tensor([False], device=labels.device)])


def moments(context: Context, kind: str, model: str = "aligned") -> dict[str, Tensor]:
    """XᵀX / tokens of what enters each linear map where answers of a kind are predicted: (n, n), float64, by weight.

    One model's pass over the calibration rows gives all that methods ask of inputs and outputs: ‖x_j‖ is the square
    root of the diagonal, right singular vectors of X are eigenvectors, and those of Y = X Wᵀ are of W XᵀX Wᵀ.
    """
    return context.once(("moments", model, kind), lambda: _second_moments(context, model, kind))


def leading(moment: Tensor, rank: int) -> Tensor:
    """Orthonormal columns that span the ``rank`` leading directions of a second moment (n, n): (n, rank)."""
    return torch.linalg.eigh(moment)[1].flip(1)[:, :rank]  # eigh has them in rising order


def narrowed(factor: Tensor) -> Tensor:
    """N (m, r) with N Nᵀ = F Fᵀ for a factor F (m, n) of rank r, up to what float32 rounds away."""
    values, vectors = torch.linalg.eigh(factor.T @ factor)  # (n,), (n, n)
    return factor @ vectors[:, values >= NOTHING**2 * values[-1]]  # all, of a zero matrix


def leading_left(factor: Tensor, rank: int) -> Tensor:
    """Orthonormal columns that span the ``rank`` leading directions of F Fᵀ, for F (m, r): (m, rank).

    Without F Fᵀ, which for a vocabulary of 49,152 words takes 19 GB.
    """
    return decompose(factor).vectors[:, :rank]


def gradient_sizes(context: Context, kind: str, model: str) -> dict[str, Tensor]:
    """Σ |∂ℓ/∂W| over the calibration rows of a kind at one of the models, by tensor."""
    return context.once(("sizes", model, kind), lambda: _summed(context.gradient_of_each(kind, model), torch.abs))


def gradient_sums(context: Context, kind: str, model: str) -> dict[str, Tensor]:
    """Σ ∂ℓ/∂W over the calibration rows of a kind at one of the models, by tensor."""
    return context.once(("sums", model, kind), lambda: _summed(context.gradient_of_each(kind, model), torch.clone))


def _summed(gradients: Iterator[dict[str, Tensor]], of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for gradient in gradients:
        for name, value in gradient.items():
            total[name] = total.get(name, 0) + of(value.double().cpu())
    return total


def unrelated_like(context: Context, update: Tensor, tensor: str) -> Tensor:
    """An update of the same norm that taught no safety: that of the unrelated model, else Gaussian numbers."""
    label = "unrelated"
    if label in context.updates:
        other = context.update(label, tensor)
    else:
        other = torch.randn(update.shape, generator=context.generator(label, tensor)).double()
    size = float(other.norm())
    return other * (float(update.norm()) / size) if size else torch.zeros_like(update)


def energy_matched(context: Context, basis: Tensor, update: Tensor, tensor: str, side: Side = "output") -> Tensor:
    """A uniformly random basis that keeps as much of an update's energy, in expectation, as ``basis`` does: (m, k′).

    Of a Haar subspace of rank k′ the expected share is k′ / m, so k′ is that share of m, rounded, and at least 1.
    """
    change = side_first(as_matrix(update), side)
    share = float((basis.T @ change).square().sum() / change.square().sum()) if change.any() else 0.0
    rank = max(1, round(share * len(change)))
    return haar(len(change), rank, context.generator("energy-matched", tensor))
