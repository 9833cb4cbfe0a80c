"""Seeded draws of the control subspaces: what a random subspace would do in place of the alignment update's."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from helpers.errors import StudyError
from helpers.spectra import householder, orthonormal

KINDS = ("top-k", "random-k", "random")
BLOCK = 3 * 2**20  # numbers per block of a long matrix: 24 MiB in float64, which the C library reuses without new pages
NEARLY_SQUARE = 1.5  # rows per column below which a Gaussian matrix is too ill-conditioned for its Gram matrix


def generator_for(seed: int, label: str, tensor: str, kind: str, draw: int = 0) -> torch.Generator:
    """A generator of its own for one draw of one control for one tensor of one update (``label``).

    Two updates, tensors, kinds or draws never share random numbers, and a draw does not depend on what ran before it.
    """
    digest = hashlib.sha256(f"{seed}|{label}|{tensor}|{kind}|{draw}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def check_kind(kind: str) -> None:
    """Raise StudyError unless ``kind`` is one of KINDS."""
    if kind not in KINDS:
        raise StudyError(f"control {kind!r} does not exist: choose one of {', '.join(KINDS)}")


def blocks(length: int, width: int) -> Iterator[slice]:
    """Slices that go through ``length`` rows of ``width`` numbers in blocks of about BLOCK numbers."""
    step = max(1, BLOCK // max(1, width))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def gaussian_blocks(rows: int, columns: int, generator: torch.Generator) -> Iterator[tuple[slice, Tensor]]:
    """A standard Gaussian matrix (rows, columns) in float32, block of rows by block of rows."""
    for part in blocks(rows, columns):
        yield part, torch.randn(part.stop - part.start, columns, generator=generator)


def haar(rows: int, columns: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Orthonormal columns whose first k span a uniformly distributed k-subspace, for every k: (rows, columns), float64.

    Q of the QR decomposition of a Gaussian matrix with a positive diagonal of R, which is the span of its top-k left
    singular vectors in distribution. Nested over k. Needs columns ≤ rows. Drawn on the CPU, so alike on every device.
    """
    gaussian = torch.cat([block.to(device) for _, block in gaussian_blocks(rows, columns, generator)]).double()
    return (householder if rows < NEARLY_SQUARE * columns else orthonormal)(gaussian)
