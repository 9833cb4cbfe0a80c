"""Modes of updates kept in a folder where they were decomposed, so that nothing decomposes them a second time.

A file holds of one tensor (m, n) the singular vectors of the short side, s = min(m, n), and the singular values: for
m > n the others follow from the update itself.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.files import is_whole, seal, write_tensors
from helpers.spectra import orthonormal
from helpers.subspaces import Modes, numerical_rank, rank_tolerance
from helpers.weights.checkpoints import Checkpoint, update


def keep_modes(folder: Path, label: str, name: str, basis: Tensor, values: Tensor) -> None:
    """Keep the basis (s, s) and the singular values (s,) of one tensor of an update. Raises Unwritable."""
    write_tensors(_file(folder, label, name), {"basis": basis.cpu().contiguous(), "values": values.cpu()})
    seal(_file(folder, label, name))


def kept_modes(
    folder: Path, label: str, name: str, pair: tuple[Checkpoint, Checkpoint], most: int | None = None
) -> Modes | None:
    """The modes of a tensor (m, n) of an update (tuned, start), as ``decompose`` gives them; None if not kept.

    ``most``: how many of the leading ones are made, if not all; making them is what takes time where m > n.
    """
    if not is_whole(_file(folder, label, name)):
        return None
    basis, values = (load_file(_file(folder, label, name))[part] for part in ("basis", "values"))
    m, n = pair[1].shape(name)
    tolerance = rank_tolerance(m, n)
    basis, values = basis[:, :most], values[:most]
    if m > n:
        basis = orthonormal(update(*pair, name) @ (basis / values.where(values > tolerance * values[0], torch.inf)))
    return Modes(basis, values, numerical_rank(values, tolerance))


def _file(folder: Path, label: str, name: str) -> Path:
    return folder / f"{label}|{name}.safetensors"
