"""Behaviour of a model: utility, harm, their margins, and the judges."""

from importlib import import_module

_PLACES = {  # public name -> the module it is imported from when it is asked for
    "generate": "helpers.models.generate",
    "log_odds": "helpers.models.generate",
    "log_probability": "helpers.models.generate",
    "judge_text": "helpers.evaluation.judges.rules",
}
__all__ = [*_PLACES]


def __getattr__(name: str):
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
