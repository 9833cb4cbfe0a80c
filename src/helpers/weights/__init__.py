"""Checkpoints read tensor by tensor, the geometry of their updates, and edits of a live model."""

from importlib import import_module

_PLACES = {  # public name -> the module it is imported from when it is asked for
    "Checkpoint": "helpers.weights.checkpoints",
    "weight_geometry": "helpers.weights.geometry",
    "energy_table": "helpers.weights.geometry",
}
__all__ = [*_PLACES]


def __getattr__(name: str):
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
