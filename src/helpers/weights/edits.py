"""Projected variants of a model, in place: W = WA + P_k D (parallel) or WA + (I − P_k) D (orthogonal), D = W_FT − WA.

The live model's parameters are overwritten and put back, so no checkpoint is written or loaded for a variant. Going
from one fraction to the next adds U[:, k₁:k₂] (Uᵀ D)[k₁:k₂], so all fractions of one control cost one full product.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from helpers.draws import generator_for
from helpers.errors import StudyError, TensorMismatch
from helpers.memory import enough_to
from helpers.subspaces import Modes, check_mode, control_vectors, decompose, rank_for_fraction
from helpers.weights.checkpoints import Checkpoint, check_finite, matched, update

Mode = Literal["parallel", "orthogonal"]
Side = Literal["output", "input"]  # of a weight (m, n): what its rows, or its columns, belong to


def update_modes(tuned: Checkpoint, start: Checkpoint, name: str) -> Modes:
    """Modes of one tensor of an update. Raises TensorMismatch, and StudyError where memory runs out."""
    with enough_to(f"decompose the update of tensor {name}"):
        return decompose(update(tuned, start, name))


def control_bases(
    modes: dict[str, Modes], kind: str, seed: int, draw: int = 0, label: str = "alignment"
) -> dict[str, Tensor]:
    """The basis of a control for every tensor with modes, (m, rank) in float64; 1-D tensors have one column.

    The same draw as in ``helpers.weights.geometry`` for the same seed and label. Raises StudyError.
    """
    return {
        name: control_vectors(kind, found, generator_for(seed, label, name, kind, draw))[:, : found.rank]
        for name, found in modes.items()
    }


class LiveUpdate:
    """A context in which a live model, which is the aligned model, becomes variants between it and a fine-tuned one.

    On leaving, also by an exception, every parameter is again exactly what it was. Raises StudyError when the model
    is not the aligned checkpoint bit for bit, TensorMismatch when the checkpoints do not match or are not finite.
    """

    def __init__(self, model: nn.Module, aligned: Checkpoint, task: Checkpoint):
        self.aligned, self.task = aligned, task
        self.parameters = _parameters(model, [*matched((aligned, task))], aligned)
        self.energy_kept = float("nan")  # share of ‖D‖² that the present variant holds

    @torch.no_grad()
    def __enter__(self) -> "LiveUpdate":
        for name, parameter in self.parameters.items():
            if not torch.equal(parameter, self.aligned.tensor(name).to(parameter)):
                raise StudyError(
                    f"parameter {name} of the live model is not the one in {self.aligned.file(name)}: "
                    "load the model from that checkpoint"
                )
            check_finite(self.task, name)
        return self

    @torch.no_grad()
    def __exit__(self, *error) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(self.aligned.tensor(name))

    @torch.no_grad()
    def scale(self, alpha: float) -> None:
        """Make the live model WA + α D."""
        for name, parameter in self.parameters.items():
            start = self.aligned.tensor(name).to(parameter.device).double()
            parameter.copy_(start + alpha * (self.task.tensor(name).to(parameter.device).double() - start))
        self.energy_kept = alpha**2

    @torch.no_grad()
    def apply(self, edited: Callable[[str], Tensor]) -> None:
        """Make the live model the one whose tensor ``name`` is ``edited(name)``, one tensor after the other.

        ``energy_kept`` is then ‖W − WA‖² / ‖D‖², which may exceed 1.
        """
        moved = 0.0
        for name, parameter in self.parameters.items():
            tensor = edited(name)
            moved += float((tensor - self.aligned.tensor(name).to(tensor)).square().sum())
            parameter.copy_(tensor)
        self.energy_kept = moved / self.total if self.total else 0.0

    @torch.no_grad()
    def sweep(
        self, bases: dict[str, Tensor], fractions: list[float], mode: Mode, side: Side = "output"
    ) -> Iterator[float]:
        """Make the live model the variant of one fraction after the other, rising, and yield the fraction each time.

        k per tensor is rank_for_fraction, at most the columns of its basis; a tensor without a basis has P = 0. Bases
        of the ``input`` side, (n, k), act from the right: D P.
        """
        check_mode(mode)
        start, sign = (self.aligned, 1) if mode == "parallel" else (self.task, -1)
        for name, parameter in self.parameters.items():
            parameter.copy_(start.tensor(name))
        fractions = sorted(fractions)
        projected = [name for name in self.parameters if name in bases]
        energies = [self._variants(name, bases[name], fractions, start, sign, side) for name in projected]
        for fraction in fractions:
            kept = sum(map(next, energies))
            parallel = kept / self.total if self.total else 0.0
            self.energy_kept = parallel if mode == "parallel" else 1 - parallel
            yield fraction

    def _variants(
        self, name: str, basis: Tensor, fractions: list[float], start: Checkpoint, sign: int, side: Side
    ) -> Iterator[float]:
        """Take one parameter, which is as in ``start``, through rising k; yields ‖P_k D‖² each time.

        The sum is kept in float32 beside a parameter of 16 bits.
        """
        parameter, difference = self.parameters[name], self._difference(name)
        basis = basis[:, : _capped_rank(basis, parameter, fractions[-1])].to(difference)  # (m, k)
        coordinates = basis.T @ side_first(difference, side)  # (k, n)
        running = parameter if parameter.dtype == difference.dtype else self._working(start, name).clone()
        del difference
        k, kept = 0, 0.0
        for fraction in fractions:
            before, k = k, _capped_rank(basis, parameter, fraction)
            side_first(running, side).addmm_(basis[:, before:k], coordinates[before:k], alpha=sign)
            parameter.copy_(running)
            kept += float(coordinates[before:k].square().sum())
            yield kept

    @functools.cached_property
    def total(self) -> float:
        """‖D‖²."""
        return sum(float(self._difference(name).square().sum()) for name in self.parameters)

    def _difference(self, name: str) -> Tensor:
        return self._working(self.task, name) - self._working(self.aligned, name)

    def _working(self, checkpoint: Checkpoint, name: str) -> Tensor:
        """A tensor in float32, or in float64 for a float64 parameter."""
        parameter = self.parameters[name]
        return checkpoint.tensor(name).to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))


def side_first(tensor: Tensor, side: Side) -> Tensor:
    """A view of a matrix (m, n), or a vector (m,), with outputs or inputs in front: (m, n) or (n, m)."""
    matrix = tensor.view(len(tensor), -1)
    return matrix if side == "output" else matrix.T


def _capped_rank(basis: Tensor, parameter: Tensor, fraction: float) -> int:
    return min(rank_for_fraction(tuple(parameter.shape), fraction), basis.shape[1])


def _parameters(model: nn.Module, names: list[str], aligned: Checkpoint) -> dict[str, nn.Parameter]:
    """Views of the live parameters as the tensors are seen, (out, in); tied ones under the name that is stored."""
    live, stored = dict(model.named_parameters(remove_duplicate=False)), {name: aligned.stored(name) for name in names}
    for name, one in stored.items():
        if one.key not in live or tuple(live[one.key].shape) != one.kept:
            found = tuple(live[one.key].shape) if one.key in live else "absent"
            raise TensorMismatch(
                f"tensor {name} is {aligned.shape(name)} in {aligned.file(name)} and {found} in the live model: "
                "load the model from that checkpoint"
            )
    held = {one.key for one in stored.values()}  # the slices of several experts are of one parameter
    if sorted(id(live[key]) for key in held) != sorted({id(parameter) for parameter in live.values()}):
        raise TensorMismatch(
            f"the {len(names)} tensors of {aligned.folder} are not all parameters of the live model, each once: "
            "load the model from that checkpoint"
        )
    return {name: one.view(live[one.key].data) for name, one in stored.items()}
