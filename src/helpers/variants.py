"""Projected variants of a model, in place: W = WA + P_k D (parallel) or WA + (I − P_k) D (orthogonal), D = W_FT − WA.

The live model's parameters are overwritten and put back, so no checkpoint is written or loaded for a variant. Going
from one fraction to the next adds U[:, k₁:k₂] (Uᵀ D)[k₁:k₂], so all fractions of one control cost one full product.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from helpers.checkpoints import Checkpoint, matched, update
from helpers.controls import check_kind, generator_for
from helpers.errors import StudyError, TensorMismatch
from helpers.subspaces import check_mode, control_vectors, decompose, rank_for_fraction

Mode = Literal["parallel", "orthogonal"]


def control_bases(
    reference: tuple[Checkpoint, Checkpoint], kind: str, seed: int, draw: int = 0, label: str = "alignment"
) -> dict[str, Tensor]:
    """The basis of a control for every tensor of a reference update (tuned, start), (m, rank) in float64.

    Columns end at the numerical rank of the update; 1-D tensors have one column; zero updates are absent. The same
    draw as in ``helpers.geometry`` for the same seed and label. Raises StudyError, TensorMismatch.
    """
    check_kind(kind)
    tuned, start = reference
    bases = {}
    for name in matched({label: tuned, f"{label}'s start": start}).names:
        modes = decompose(update(tuned, start, name))
        if modes.rank:
            generator = generator_for(seed, label, name, kind, draw)
            bases[name] = control_vectors(kind, modes, generator)[:, : modes.rank]
    return bases


class LiveUpdate:
    """A context in which a live model, which is the aligned model, becomes variants between it and a fine-tuned one.

    On leaving, also by an exception, every parameter is again exactly what it was. Raises StudyError when the model
    is not the aligned checkpoint bit for bit, TensorMismatch when the checkpoints do not match.
    """

    def __init__(self, model: nn.Module, aligned: Checkpoint, task: Checkpoint):
        self.aligned, self.task = aligned, task
        self.names = matched({"aligned": aligned, "task": task}).names
        self.parameters = _parameters(model, self.names, aligned)
        self.energy_kept = float("nan")  # share of ‖D‖² that the present variant holds

    @torch.no_grad()
    def __enter__(self) -> "LiveUpdate":
        for name, parameter in self.parameters.items():
            if not torch.equal(parameter, self._stored(self.aligned, name)):
                raise StudyError(
                    f"parameter {name} of the live model is not the one in {self.aligned.file(name)}: "
                    "load the model from that checkpoint"
                )
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
    def sweep(self, bases: dict[str, Tensor], fractions: list[float], mode: Mode) -> Iterator[float]:
        """Make the live model the variant of one fraction after the other, rising, and yield the fraction each time.

        k per tensor is rank_for_fraction, at most the columns of its basis; a tensor without a basis has P = 0.
        """
        check_mode(mode)
        sweeps = {name: _TensorSweep(self, name, bases.get(name), max(fractions), mode) for name in self.parameters}
        total = sum(s.total for s in sweeps.values())
        for fraction in sorted(fractions):
            for one in sweeps.values():
                one.advance(fraction)
            parallel = sum(s.kept for s in sweeps.values()) / total if total else 0.0
            self.energy_kept = parallel if mode == "parallel" else 1 - parallel
            yield fraction

    def _stored(self, checkpoint: Checkpoint, name: str) -> Tensor:
        parameter = self.parameters[name]
        return checkpoint.tensor(name).to(device=parameter.device, dtype=parameter.dtype)


class _TensorSweep:
    """One parameter on its way through rising k; the sum is kept in float32 beside a parameter of 16 bits."""

    def __init__(self, live: LiveUpdate, name: str, basis: Tensor | None, fraction: float, mode: Mode):
        self.parameter, self.k, self.kept = live.parameters[name], 0, 0.0
        precision = torch.float64 if self.parameter.dtype == torch.float64 else torch.float32
        start, tuned = (c.tensor(name).to(self.parameter.device, precision) for c in (live.aligned, live.task))
        difference = tuned - start
        self.total = float(difference.double().square().sum())
        begin = start if mode == "parallel" else tuned
        self.sign = 1 if mode == "parallel" else -1
        self.parameter.copy_(begin)
        self.basis = basis if self.total else None
        if self.basis is None:
            return
        self.basis = basis[:, : self._rank(fraction)].to(difference)
        self.coordinates = self.basis.T @ difference.reshape(len(difference), -1)  # (k, n)
        self.running = self.parameter if self.parameter.dtype == precision else begin.clone()

    def _rank(self, fraction: float) -> int:
        return min(rank_for_fraction(self.parameter.shape, fraction), self.basis.shape[1])

    def advance(self, fraction: float) -> None:
        """Go on to the k of a fraction."""
        if self.basis is None:
            return
        k = self._rank(fraction)
        step = self.coordinates[self.k : k]  # (k₂ − k₁, n)
        self.running.view(len(self.running), -1).addmm_(self.basis[:, self.k : k], step, alpha=self.sign)
        if self.running is not self.parameter:
            self.parameter.copy_(self.running)
        self.kept += float(step.double().square().sum())
        self.k = k


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
