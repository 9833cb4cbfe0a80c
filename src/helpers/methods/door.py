"""The doors: a decorator registers a function as a subspace or an edit, and the experiments find it by its name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import torch
from torch import Tensor

from helpers import methods
from helpers.errors import StudyError
from helpers.methods.context import Context, Weights
from helpers.subspaces import Modes
from helpers.weights.edits import Side


@dataclass(frozen=True)
class Subspace:
    """Per tensor (m, n) an orthonormal basis of the output side, (m, r), or of the input side, (n, r)."""

    name: str
    make: Callable[[str, Context], Modes | Tensor | None]
    side: Side

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

    def edited(self, weights: Weights, context: Context, dial: float) -> Tensor:
        """The edited tensor. Raises StudyError unless it is finite and has the shape of the given one."""
        found = self.make(weights, context, dial)
        if found.shape != weights.aligned.shape or not torch.isfinite(found).all():
            raise StudyError(
                f"edit {self.name!r} with dial {dial:g} made of tensor {weights.name} {tuple(weights.aligned.shape)} one "
                f"of shape {tuple(found.shape)}, or one that is not finite: return finite weights of the same shape"
            )
        return found


_SUBSPACES: dict[str, Subspace] = {}
_EDITS: dict[str, Edit] = {}


def subspace(name: str, side: Side = "output") -> Callable:
    """Register ``function(tensor, context)``, which gives a basis, or Modes, or None for a tensor without one."""
    return lambda make: _add(_SUBSPACES, name, Subspace(name, make, side))


def edit(name: str, dials: Sequence[float] = (1.0,)) -> Callable:
    """Register ``function(weights, context, dial)``, which gives the edited weights of one tensor."""
    return lambda make: _add(_EDITS, name, Edit(name, make, tuple(dials)))


def subspace_named(name: str) -> Subspace:
    """A registered subspace. Raises StudyError where there is none of that name."""
    return _found(_SUBSPACES, name, "subspace")


def edit_named(name: str) -> Edit:
    """A registered edit. Raises StudyError where there is none of that name."""
    return _found(_EDITS, name, "edit")


def _add(registry: dict, name: str, entry: Subspace | Edit) -> Callable:
    if name in registry and registry[name].make.__module__ != entry.make.__module__:
        places = " and ".join(x.make.__module__ for x in (registry[name], entry))
        raise StudyError(f"{name!r} is registered in {places}: give one of them another name")
    registry[name] = entry
    return entry.make


def _found(registry: dict, name: str, kind: str):
    _import_all()
    if name not in registry:
        raise StudyError(f"{kind} {name!r} does not exist: choose one of {', '.join(registry)}")
    return registry[name]


@cache
def _import_all() -> None:
    for module in iter_modules(methods.__path__):
        if module.name != "__main__":
            import_module(f"helpers.methods.{module.name}")


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
