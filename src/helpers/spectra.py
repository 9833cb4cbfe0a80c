"""Eigendecomposition on the short side of a matrix, and orthonormal columns, from products and Cholesky factors.

A matrix X of s rows has the left singular vectors of its Gram matrix G = X Xᵀ, and G costs a fraction of the singular
value decomposition. Squaring loses the small singular values: vectors are resolved down to about 1e-8 of the largest.
Where the spectrum goes further, the vectors of the small values are therefore freed from what rounding mixed into
them of the others, rotated out of X, and decomposed again from their own Gram matrix, as often as it takes.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

RESOLVED = 1e-4  # singular values below this share of the largest are decomposed again
PANEL = 256  # rows at a time when half a symmetric product is computed


def add_gram(total: Tensor, rows: Tensor) -> None:
    """Add X Xᵀ to the lower triangle of ``total``, block by block: half the work of the product.

    Blocks on the diagonal are filled whole; what lies above them is left as it was.
    """
    for start in range(0, rows.shape[0], PANEL):
        stop = start + PANEL
        total[start:stop, :stop].addmm_(rows[start:stop], rows[:stop].T)  # (panel, stop)


def gram(rows: Tensor) -> Tensor:
    """Lower triangle of X Xᵀ: (s, l) -> (s, s)."""
    total = rows.new_zeros(rows.shape[0], rows.shape[0])
    add_gram(total, rows)
    return total


def quadratic_forms(rows: Tensor, lower: Tensor) -> Tensor:
    """bᵀ G b for each row b of (r, s), G symmetric (s, s) with its lower triangle given: (r,).

    With H = G below the diagonal, doubled, plus the diagonal, bᵀ G b = bᵀ H b: the product with a triangle is half the
    work of that with G.
    """
    triangle = lower.tril(-1).mul_(2)
    triangle.diagonal().add_(lower.diagonal())
    products = torch.empty_like(rows)
    for start in range(0, lower.shape[0], PANEL):
        stop = start + PANEL
        torch.mm(rows[:, start:], triangle[start:, start:stop], out=products[:, start:stop])
    return torch.linalg.vecdot(products, rows)


def within(basis: Tensor, blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """X inside a basis B (s, t), X (s, l) given in blocks (s, b): lower triangle of (BᵀX)(BᵀX)ᵀ, and X(BᵀX)ᵀ (s, t)."""
    inner, coupling = basis.new_zeros(basis.shape[1], basis.shape[1]), torch.zeros_like(basis)
    for x in blocks:
        y = basis.T @ x  # (t, b)
        add_gram(inner, y)
        coupling.addmm_(x, y.T)
    return inner, coupling


def spectrum(first_gram: Tensor, blocks: Callable[[], Iterable[Tensor]], tolerance: float) -> tuple[Tensor, Tensor]:
    """Left singular vectors (s, s) and singular values (s,), decreasing, of a matrix X (s, l).

    ``first_gram`` is the lower triangle of X Xᵀ and ``blocks()`` goes over X in blocks (s, b); ``tolerance`` is the
    share of the largest singular value that counts as rounding: values that far down may be returned as 0.
    """
    values, basis = _eigh(first_gram)
    start, last, floor = 0, len(values), tolerance**2 * values[0]
    while (lead := int((values >= RESOLVED**2 * values[start]).sum())) < last and values[start] > floor:
        inner, coupling = within(basis[:, lead:], blocks())
        if inner.diagonal().sum() <= floor:
            values[lead:] = 0
            break
        _decouple(basis, lead, basis[:, :lead].T @ coupling / values[:lead, None])
        values[lead:], rotation = _eigh(within(basis[:, lead:], blocks())[0])
        basis[:, lead:] = basis[:, lead:] @ rotation  # (s, t)
        start = lead
    order = torch.argsort(values, descending=True, stable=True)
    return basis[:, order], values[order].clamp(min=0).sqrt()


def spectrum_of_product(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, r), σ (r,) and V (n, r) of a product of (m, r) and (r, n), r ≤ m, n, from the QR factors of both."""
    (q, r), (p, t) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, vh = torch.linalg.svd(r @ t.T)
    return q @ u, values, p @ vh.T


def _decouple(basis: Tensor, lead: int, angles: Tensor) -> None:
    """Turn the first ``lead`` columns and the others by small ``angles`` (lead, t) against each other."""
    first, rest = basis[:, :lead].clone(), basis[:, lead:].clone()
    basis[:, :lead] += rest @ angles.T
    basis[:, lead:] -= first @ angles


def _eigh(lower: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(lower, UPLO="L")
    return values.flip(0), vectors.flip(1)


def orthonormal(columns: Tensor) -> Tensor:
    """The columns of X (m, r), r ≤ m, orthonormalised in order: Q of X = QR with a positive diagonal of R.

    From the Cholesky factor of XᵀX where X is well conditioned, else by Householder reflections, which complete
    dependent or zero columns to an orthonormal set.
    """
    factor, failed = torch.linalg.cholesky_ex(gram(columns.T))
    diagonal = factor.diagonal()
    if not failed and diagonal.numel() and diagonal.min() > 0.1 * diagonal.max():
        return torch.linalg.solve_triangular(factor, columns.T, upper=False).T
    return householder(columns)


def householder(columns: Tensor) -> Tensor:
    """The same by Householder reflections, whatever the condition of X."""
    q, r = torch.linalg.qr(columns)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)
