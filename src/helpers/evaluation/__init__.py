"""Behaviour of a model: utility, harm, their margins, and the judges."""

from helpers.lazily import from_places

_PLACES = {
    "generate": "helpers.models.generate",
    "log_odds": "helpers.models.generate",
    "log_probability": "helpers.models.generate",
    "judge_text": "helpers.evaluation.judges.classifier",
}
__all__ = [*_PLACES]
__getattr__ = from_places(__name__, _PLACES)
