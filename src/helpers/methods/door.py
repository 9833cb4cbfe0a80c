"""The doors: a decorator registers a function as a subspace, an edit or a training, and its name is what finds it.

The arguments of the decorators must be written out, because settings read them without importing the file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor

from helpers.errors import StudyError
from helpers.methods.context import Context, Weights
from helpers.studies.doors import tenants
from helpers.subspaces import Modes
from helpers.training.course import Course
from helpers.weights.edits import Side


@dataclass(frozen=True)
class Subspace:
    """Per tensor (m, n) an orthonormal basis of the output side, (m, r), or of the input side, (n, r)."""

    name: str
    make: Callable[[str, Context], Modes | Tensor | None]
    side: Side
    twin: str = ""  # the same subspace made from benign requests, which it is compared with

    def modes(self, tensor: str, context: Context) -> Modes | None:
        """The basis for one tensor; None where it has none, so that nothing is projected on. Raises StudyError."""
        found = self.make(tensor, context)
        if isinstance(found, Tensor):
            _check_basis(self.name, tensor, found, context.shape(tensor)[0 if self.side == "output" else -1])
            found = Modes(found.double().cpu(), torch.ones(found.shape[1], dtype=torch.float64), found.shape[1])
        return found if found is not None and found.rank else None

    def every_modes(self, context: Context) -> dict[str, Modes]:
        """The bases of all tensors that have one."""
        found = {tensor: self.modes(tensor, context) for tensor in context.names}
        return {tensor: modes for tensor, modes in found.items() if modes is not None}


@dataclass(frozen=True)
class Edit:
    """From the weights of one tensor its edited weights, for every place of the edit's dial."""

    name: str
    make: Callable[[Weights, Context, float], Tensor]
    dials: tuple[float, ...]  # the strengths that are measured
    kind: Literal["defence", "attack", ""] = ""  # what it is for; only a defence is ever written to disk for use
    null: tuple[str, ...] = ()  # edits of the same form that know nothing of harm, which it has to beat
    card: bool = True  # whether a report card measures it

    def edited(self, weights: Weights, context: Context, dial: float) -> Tensor:
        """The edited tensor. Raises StudyError unless it is finite and has the shape of the given one."""
        found = self.make(weights, context, dial)
        if found.shape != weights.aligned.shape or not torch.isfinite(found).all():
            raise StudyError(
                f"edit {self.name!r} with dial {dial:g} made of {weights.name} {tuple(weights.aligned.shape)} a tensor "
                f"{tuple(found.shape)}, or one with NaN or infinity: return finite weights of the same shape"
            )
        return found


@dataclass(frozen=True)
class Training:
    """From what is known of the aligned model, what a method changes of its fine-tuning, at every place of a dial."""

    name: str
    make: Callable[[Context, float], Course]
    dials: tuple[float, ...]
    null: tuple[str, ...] = ()  # trainings of the same form that know nothing of harm, which it has to beat


_REGISTERED: dict[tuple[str, str], Subspace | Edit | Training] = {}  # (kind, name) -> what a decorator made


def subspace(name: str, side: Side = "output", twin: str = "") -> Callable:
    """Register ``function(tensor, context)``, which gives a basis, or Modes, or None for a tensor without one.

    ``twin``: the subspace that is made alike from benign requests. With one it is on the bench.
    """
    return lambda make: _register("subspace", Subspace(name, make, side, twin))


def edit(
    name: str,
    dials: Sequence[float] = (1.0,),
    kind: Literal["defence", "attack", ""] = "",
    null: str | Sequence[str] = (),
    card: bool = True,
) -> Callable:
    """Register ``function(weights, context, dial)``, which gives the edited weights of one tensor.

    A model edited by a ``defence`` may be written by a report card; by an attack, or where no kind is given, it is
    measured only. ``null``: edits of the same form that know nothing of harm; with one it is on the bench. ``card``:
    whether a report card measures it.
    """
    nulls = (null,) if isinstance(null, str) else tuple(null)
    return lambda make: _register("edit", Edit(name, make, tuple(map(float, dials)), kind, nulls, card))


def training(name: str, dials: Sequence[float] = (1.0,), null: str | Sequence[str] = ()) -> Callable:
    """Register ``function(context, dial)``, which gives the Course of a fine-tuning. With a ``null`` it is benched."""
    nulls = (null,) if isinstance(null, str) else tuple(null)
    return lambda make: _register("training", Training(name, make, tuple(map(float, dials)), nulls))


def subspace_named(name: str) -> Subspace:
    """A subspace of a file in this folder. Raises StudyError where there is none of that name."""
    return _found("subspace", name)


def edit_named(name: str) -> Edit:
    """An edit of a file in this folder. Raises StudyError where there is none of that name."""
    return _found("edit", name)


def training_named(name: str) -> Training:
    """A training of a file in this folder. Raises StudyError where there is none of that name."""
    return _found("training", name)


def _register(kind: str, made: Subspace | Edit | Training) -> Callable:
    _REGISTERED[kind, made.name] = made
    return made.make


def _found(kind: str, name: str) -> Subspace | Edit | Training:
    known = tenants("methods", kind)
    if name not in known:
        raise StudyError(f"{kind} {name!r} does not exist: choose one of {', '.join(known)}")
    import_module(f"helpers.methods.{known[name].module}")
    return _REGISTERED[kind, name]


def _check_basis(name: str, tensor: str, basis: Tensor, rows: int) -> None:
    fits = basis.ndim == 2 and basis.shape[0] == rows
    product = basis.double().T @ basis.double() if fits else None  # (r, r)
    if product is None or not torch.allclose(
        product, torch.eye(len(product), dtype=product.dtype).to(product), atol=1e-5
    ):
        raise StudyError(
            f"subspace {name!r} gave tensor {tensor} a basis of shape {tuple(basis.shape)}, which is not a matrix of "
            f"{rows} rows with orthonormal columns: return Q of its QR decomposition"
        )
