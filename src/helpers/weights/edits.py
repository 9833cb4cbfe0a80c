"""Projected variants of a model, in place: W = WA + P_k D (parallel) or WA + (I − P_k) D (orthogonal), D = W_FT − WA.

The live model's parameters are overwritten and put back, so no checkpoint is written or loaded for a variant. Going
from one fraction to the next adds U[:, k₁:k₂] (Uᵀ D)[k₁:k₂], so all fractions of one control cost one full product.
"""

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


def reference_modes(reference: tuple[Checkpoint, Checkpoint]) -> dict[str, Modes]:
    """Modes of every tensor of an update (tuned, start); zero updates are absent. Raises TensorMismatch, StudyError."""
    tuned, start = reference
    modes = {name: update_modes(tuned, start, name) for name in matched({"tuned": tuned, "start": start}).names}
    return {name: found for name, found in modes.items() if found.rank}


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
        self.names = matched({"aligned": aligned, "task": task}).names
        self.parameters = _parameters(model, self.names, aligned)
        self.energy_kept = float("nan")  # share of ‖D‖² that the present variant holds
        self._totals: dict[str, float] = {}  # ‖D‖² of the tensors looked at so far

    @torch.no_grad()
    def __enter__(self) -> "LiveUpdate":
        for name, parameter in self.parameters.items():
            if not torch.equal(parameter, self._stored(self.aligned, name)):
                raise StudyError(
                    f"parameter {name} of the live model is not the one in {self.aligned.file(name)}: "
                    "load the model from that checkpoint"
                )
            if not torch.isfinite(self.task.tensor(name).sum(dtype=torch.float64)):
                check_finite(self.task, name)
        return self

    @torch.no_grad()
    def __exit__(self, *error) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(self._stored(self.aligned, name))

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
        kept = 0.0
        for name, parameter in self.parameters.items():
            tensor = edited(name)
            kept += float((tensor - self.aligned.tensor(name).to(tensor)).square().sum())
            parameter.copy_(tensor)
        total = sum(map(self.total, self.parameters))
        self.energy_kept = kept / total if total else 0.0

    @torch.no_grad()
    def coordinates(self, bases: dict[str, Tensor]) -> dict[str, Tensor]:
        """C = UᵀD per tensor, (rank, n), for sweeps that share it: one product per tensor, as large as the model."""
        return {name: self._coordinates(name, basis) for name, basis in bases.items() if name in self.parameters}

    @torch.no_grad()
    def sweep(
        self,
        bases: dict[str, Tensor],
        fractions: list[float],
        mode: Mode,
        coordinates: dict[str, Tensor] | None = None,
        side: Side = "output",
    ) -> Iterator[float]:
        """Make the live model the variant of one fraction after the other, rising, and yield the fraction each time.

        k per tensor is rank_for_fraction, at most the columns of its basis; a tensor without a basis has P = 0. Bases
        of the ``input`` side, (n, k), act from the right: D P. ``coordinates`` of the same bases save a product each.
        """
        check_mode(mode)
        sweeps = {}
        for name in self.parameters:
            basis = bases.get(name)
            if basis is not None:
                basis = basis[:, : _capped_rank(basis, self.parameters[name], max(fractions))]
            found = None if coordinates is None or basis is None else coordinates[name][: basis.shape[1]]
            sweeps[name] = _TensorSweep(self, name, basis, found, mode, side)
        total = sum(map(self.total, self.parameters))
        for fraction in sorted(fractions):
            for one in sweeps.values():
                one.advance(fraction)
            parallel = sum(s.kept for s in sweeps.values()) / total if total else 0.0
            self.energy_kept = parallel if mode == "parallel" else 1 - parallel
            yield fraction

    def total(self, name: str) -> float:
        """‖D‖² of one tensor."""
        if name not in self._totals:
            self._totals[name] = float(self._difference(name).square().sum())
        return self._totals[name]

    def _coordinates(self, name: str, basis: Tensor, side: Side = "output") -> Tensor:
        difference = side_first(self._difference(name), side)
        return basis.to(difference).T @ difference

    def _difference(self, name: str) -> Tensor:
        return self._working(self.task, name) - self._working(self.aligned, name)

    def _working(self, checkpoint: Checkpoint, name: str) -> Tensor:
        """A tensor in float32, or in float64 for a float64 parameter."""
        parameter = self.parameters[name]
        dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
        return checkpoint.tensor(name).to(parameter.device, dtype)

    def _stored(self, checkpoint: Checkpoint, name: str) -> Tensor:
        parameter = self.parameters[name]
        return checkpoint.tensor(name).to(device=parameter.device, dtype=parameter.dtype)


class _TensorSweep:
    """One parameter on its way through rising k; the sum is kept in float32 beside a parameter of 16 bits."""

    def __init__(
        self, live: LiveUpdate, name: str, basis: Tensor | None, coordinates: Tensor | None, mode: Mode, side: Side
    ):
        self.side = side
        self.parameter, self.k, self.kept, self.basis = live.parameters[name], 0, 0.0, None
        begin, self.sign = (live.aligned, 1) if mode == "parallel" else (live.task, -1)
        self.parameter.copy_(live._stored(begin, name))
        if basis is None or not live.total(name):
            return
        self.coordinates = live._coordinates(name, basis, side) if coordinates is None else coordinates  # (k, n)
        self.basis = basis.to(self.coordinates)
        half = self.parameter.dtype != self.coordinates.dtype
        self.running = live._working(begin, name).clone() if half else self.parameter

    def advance(self, fraction: float) -> None:
        """Go on to the k of a fraction."""
        if self.basis is None:
            return
        k = _capped_rank(self.basis, self.parameter, fraction)
        step = self.coordinates[self.k : k]  # (k₂ − k₁, n)
        side_first(self.running, self.side).addmm_(self.basis[:, self.k : k], step, alpha=self.sign)
        if self.running is not self.parameter:
            self.parameter.copy_(self.running)
        self.kept += float(step.square().sum())
        self.k = k


def side_first(tensor: Tensor, side: Side) -> Tensor:
    """A view of a matrix (m, n), or a vector (m,), with outputs or inputs in front: (m, n) or (n, m)."""
    matrix = tensor.view(len(tensor), -1)
    return matrix if side == "output" else matrix.T


def _capped_rank(basis: Tensor, parameter: Tensor, fraction: float) -> int:
    return min(rank_for_fraction(tuple(parameter.shape), fraction), basis.shape[1])


def _parameters(model: nn.Module, names: list[str], aligned: Checkpoint) -> dict[str, nn.Parameter]:
    """The live parameters of the tensors, each once; tied parameters appear under the name that is stored."""
    live = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        if name not in live or tuple(live[name].shape) != aligned.shape(name):
            found = tuple(live[name].shape) if name in live else "absent"
            raise TensorMismatch(
                f"tensor {name} is {aligned.shape(name)} in {aligned.file(name)} and {found} in the live model: "
                "load the model from that checkpoint"
            )
    covered = {id(live[name]) for name in names}
    if len(covered) < len(names):
        raise TensorMismatch(
            f"{aligned.folder} stores {len(names)} tensors that are {len(covered)} parameters of the live model, which "
            "ties some: load the model from that checkpoint"
        )
    missing = [name for name, parameter in live.items() if id(parameter) not in covered]
    if missing:
        raise TensorMismatch(f"parameter {missing[0]} of the live model is not in {aligned.folder}: load it from there")
    return {name: live[name] for name in names}
