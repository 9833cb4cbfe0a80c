"""The algebra of the study: modes of an update, projections on them, energy kept, and mode subspace overlap.

An update D (m, n) acts on outputs of size m, so its subspaces are spanned by left singular vectors. A 1-D tensor of
length m is the matrix (m, 1): its one mode is its own direction. Everything is computed in float64.

A zero update has rank 0. It keeps no energy of its own (0 of 0 is reported as 0), no energy fraction needs a mode of
it (k = 0), and its overlap with anything is 0 with a random baseline that counts only the other update. Means over
tensors should therefore leave out rows with k = 0, as ``helpers.weights.geometry`` does.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from helpers.draws import check_kind, haar
from helpers.errors import StudyError, TensorMismatch
from helpers.spectra import gram, orthonormal, spectrum

ENERGY_SLACK = 1e-12  # relative: an energy fraction met to rounding is met


@dataclass(frozen=True)
class Modes:
    """Left singular vectors and singular values of an update (m, n), r = min(m, n)."""

    vectors: Tensor  # (m, r) float64, orthonormal; those beyond the rank only complete the basis
    singular_values: Tensor  # (r,) float64, decreasing
    rank: int  # singular values above rounding: σ > σ₁ · max(m, n) · 2⁻⁵², as in numpy.linalg.matrix_rank


@dataclass(frozen=True)
class Overlap:
    """Mode subspace overlap of two updates at one energy fraction."""

    mso: float  # mean squared cosine of the principal angles, 0 to 1
    k_a: int  # modes of the first update that hold the energy fraction
    k_b: int  # modes of the second
    random: float  # expected overlap of uniformly random subspaces of these dimensions, max(k_a, k_b) / m


def as_matrix(update: Tensor) -> Tensor:
    """A 1-D tensor (m,) as (m, 1), a matrix as it is, in float64.

    Raises TensorMismatch for other numbers of dimensions and for NaN or infinity.
    """
    if update.ndim not in (1, 2) or update.numel() == 0:
        raise TensorMismatch(f"an update has shape {tuple(update.shape)}: give a vector or a matrix that is not empty")
    matrix = update.detach().double()
    if not torch.isfinite(matrix).all():
        raise TensorMismatch(f"an update of shape {tuple(update.shape)} holds NaN or infinity: check its checkpoints")
    return matrix[:, None] if update.ndim == 1 else matrix


def decompose(update: Tensor) -> Modes:
    """Modes of an update (m, n) or (m,), of any floating type.

    By the eigendecomposition of the Gram matrix of the short side, refined where squaring loses the small singular
    values (``helpers.spectra``); equal to the float64 singular value decomposition. Raises TensorMismatch.
    """
    matrix = as_matrix(update)
    m, n = matrix.shape
    scale = float(matrix.abs().max()) or 1.0  # squares neither overflow nor vanish
    short = (matrix if m <= n else matrix.T) / scale  # (s, l)
    tolerance = rank_tolerance(m, n)
    basis, values = spectrum(gram(short), lambda: [short], tolerance)
    rank = numerical_rank(values, tolerance)
    if m > n:
        columns = short.T @ (basis / values.where(values > tolerance * values[0], torch.inf))  # (m, n)
        basis = orthonormal(columns)
    return Modes(basis, values * scale, rank)


def rank_tolerance(m: int, n: int) -> float:
    """Singular values up to this share of the largest are rounding errors of float64."""
    return max(m, n) * torch.finfo(torch.float64).eps


def numerical_rank(singular_values: Tensor, tolerance: float) -> int:
    """How many singular values (r,), decreasing, are above ``tolerance`` times the first; 0 for a zero matrix."""
    return int((singular_values > tolerance * singular_values[0]).sum())


def rank_for_fraction(shape: tuple[int, ...], fraction: float) -> int:
    """k = max(1, round(fraction · min(m, n))); 1 for a 1-D tensor. Raises StudyError unless 0 < fraction ≤ 1."""
    _check_share("a fraction of modes", fraction)
    return 1 if len(shape) == 1 else max(1, round(fraction * min(shape)))


def rank_for_energy(singular_values: Tensor, energy_fraction: float) -> int:
    """The smallest k whose leading singular values (r,) hold at least ``energy_fraction`` of the sum of squares.

    0 when all are zero. Raises StudyError unless 0 < energy_fraction ≤ 1.
    """
    _check_share("an energy fraction", energy_fraction)
    if not singular_values.numel() or singular_values[0] == 0:
        return 0
    held = (singular_values.double() / singular_values[0]).square().cumsum(0)
    return int((held < energy_fraction * held[-1] * (1 - ENERGY_SLACK)).sum()) + 1


def energy_kept(vectors: Tensor, update: Tensor) -> Tensor:
    """‖P_k D‖² / ‖D‖² for k = 1 … r, in [0, 1], P_k the projection on the first k columns of ``vectors`` (m, r): (r,).

    From the one product VᵀD. Zeros for a zero update. Raises TensorMismatch when rows differ.
    """
    vectors, matrix = _same_rows(vectors, update)
    scale = float(matrix.abs().max())
    if scale == 0:
        return torch.zeros(vectors.shape[1], dtype=torch.float64)
    coordinates = vectors.T @ (matrix / scale)  # (r, n)
    total = (matrix / scale).square().sum()
    return (coordinates.square().sum(1).cumsum(0) / total).clamp(max=1)


def project(vectors: Tensor, update: Tensor, k: int, mode: Literal["parallel", "orthogonal"]) -> Tensor:
    """P_k D (parallel) or (I − P_k) D (orthogonal), P_k the projection on the first k columns of ``vectors`` (m, r).

    In float64, of the update's shape. Raises StudyError for an unknown mode or k outside 0 … r, TensorMismatch when
    rows differ.
    """
    check_mode(mode)
    basis, matrix = _same_rows(vectors, update)
    if not 0 <= k <= basis.shape[1]:
        raise StudyError(f"k is {k} but the basis has {basis.shape[1]} vectors: choose k between 0 and that")
    parallel = basis[:, :k] @ (basis[:, :k].T @ matrix)  # (m, n)
    return (parallel if mode == "parallel" else matrix - parallel).reshape(update.shape)


def control_vectors(kind: Literal["top-k", "random-k", "random"], modes: Modes, generator: torch.Generator) -> Tensor:
    """The basis of a control, (m, r): its first k columns span the control's k-subspace.

    ``top-k``: the modes in order. ``random-k``: the modes in a random order, drawn without replacement. ``random``:
    a uniformly distributed nested basis. Columns beyond ``modes.rank`` only complete the shape: cap k there. Raises
    StudyError for another kind.
    """
    check_kind(kind)
    m, r = modes.vectors.shape
    if kind == "random":
        return haar(m, r, generator).to(modes.vectors)
    if kind == "random-k":
        order = torch.cat([torch.randperm(modes.rank, generator=generator), torch.arange(modes.rank, r)])
        return modes.vectors[:, order]
    return modes.vectors


def mode_subspace_overlap(a: Modes, b: Modes, energy_fraction: float) -> Overlap:
    """MSO = ‖Q_aᵀ Q_b‖²_F / min(k_a, k_b), with as many leading modes of each as hold the energy fraction.

    k is at most the numerical rank. 0 when an update is zero. Raises TensorMismatch when the numbers of rows differ.
    """
    rows, others = len(a.vectors), len(b.vectors)
    if rows != others:
        raise TensorMismatch(
            f"modes of updates with {rows} and {others} rows have no overlap: compare updates of the same tensor"
        )
    k_a, k_b = (min(rank_for_energy(x.singular_values, energy_fraction), x.rank) for x in (a, b))
    squares = (a.vectors[:, :k_a].T @ b.vectors[:, :k_b]).square()  # (k_a, k_b)
    mso = float(squares.sum()) / min(k_a, k_b) if min(k_a, k_b) else 0.0
    return Overlap(min(mso, 1.0), k_a, k_b, max(k_a, k_b) / rows)


def check_mode(mode: str) -> None:
    """Raise StudyError unless ``mode`` is a projection mode."""
    if mode not in ("parallel", "orthogonal"):
        raise StudyError(f"projection mode {mode!r} does not exist: choose parallel or orthogonal")


def _check_share(what: str, value: float) -> None:
    if not 0 < value <= 1:
        raise StudyError(f"{what} is {value!r} but must be above 0 and at most 1")


def _same_rows(vectors: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
    matrix = as_matrix(update)
    if vectors.ndim != 2 or vectors.shape[0] != matrix.shape[0]:
        raise TensorMismatch(
            f"a basis of shape {tuple(vectors.shape)} does not fit an update of shape {tuple(update.shape)}: "
            "both need the same number of rows"
        )
    return vectors.to(matrix), matrix
