"""Checkpoints read tensor by tensor, the geometry of their updates, and edits of a live model."""

from helpers.lazily import from_places

_PLACES = {
    "Checkpoint": "helpers.weights.checkpoints",
    "weight_geometry": "helpers.weights.geometry",
    "energy_table": "helpers.weights.geometry",
}
__all__ = [*_PLACES]
__getattr__ = from_places(__name__, _PLACES)
