"""What methods of the field take from calibration rows: which rows, second moments of inputs, gradients, and nulls.

Whatever a method computes for all tensors is kept by the context, so that the places of its dial and its null share it.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from scipy.stats import wishart
from torch import Tensor, nn

from helpers.draws import haar
from helpers.errors import StudyError
from helpers.methods.context import Context, Weights
from helpers.subspaces import as_matrix, decompose, project
from helpers.training.examples import IGNORED
from helpers.weights.names import layer_of

Mode = Literal["parallel", "orthogonal"]
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

    Without F Fᵀ, which for a vocabulary of 49,152 words takes 19 GB; and of a tall factor, whose columns may be
    thousands, only as many directions are made as are asked for.
    """
    if len(factor) <= factor.shape[1]:
        return decompose(factor).vectors[:, :rank]
    right = torch.linalg.eigh(factor.T @ factor)[1].flip(1)[:, :rank]  # (r, rank)
    return torch.linalg.qr(factor @ right)[0]


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


def haar_part(matrix: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """P X for P on a uniformly random subspace of ``rank`` dimensions and a tall X (m, n), float64: (m, n).

    Without the subspace's basis (m, rank), which for half of 49,152 words takes 10 GB. With X = QR, QᵀPQ is a
    matrix-variate Beta(rank / 2, (m − rank) / 2) of two Wishart matrices (Muirhead 1982, section 3.3), QΛ say in its
    eigenvectors; as P² = P, what of PQ is not in the span of Q has the length √(Λ − Λ²), in directions at random.
    """
    m, n = matrix.shape
    if 2 * rank > m:
        return matrix - haar_part(matrix, m - rank, generator)
    if rank <= 2 * n:
        return project(haar(m, rank, generator), matrix, rank, "parallel") if rank else torch.zeros_like(matrix)
    seed, inner = int(torch.randint(2**31, (1,), generator=generator)), torch.linalg.qr(matrix)[0]  # (m, n)
    inside, outside = (
        torch.tensor(wishart(freedom, torch.eye(n).numpy()).rvs(random_state=seed + i)).reshape(n, n).double()
        for i, freedom in enumerate((rank, m - rank))
    )
    root = torch.linalg.cholesky(inside + outside)
    half = torch.linalg.solve_triangular(root, inside, upper=False)
    shares, turned = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))  # (n,), (n, n)
    shares = shares.clamp(0, 1)
    other = torch.randn(m, n, generator=generator).double()
    outer = torch.linalg.qr(other - inner @ (inner.T @ other))[0]  # (m, n), at right angles to all of ``inner``
    return (inner @ (turned * shares) + outer * (shares - shares**2).sqrt()) @ (turned.T @ (inner.T @ matrix))


def energy_matched(context: Context, basis: Tensor, weights: Weights, mode: Mode) -> Tensor:
    """An update projected on, or off, a uniformly random subspace that holds as much of its energy as ``basis`` does.

    In expectation: of a Haar subspace of rank k′ the share is k′ / m, so k′ is that share of m, rounded, at least 1 if
    the basis holds any.
    """
    update = weights.update
    change = as_matrix(update)
    share = float((basis.T @ change).square().sum() / change.square().sum()) if change.any() else 0.0
    rank = max(1, round(share * len(change))) if share else 0
    generator = context.generator("energy-matched", weights.name)
    if rank and len(change) <= FEW:
        return project(haar(len(change), rank, generator), update, rank, mode)
    part = haar_part(change, rank, generator).reshape(update.shape)
    return part if mode == "parallel" else update - part
