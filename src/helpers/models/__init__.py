"""Models and tokenizers: where they come from, how they are asked, what they answer."""

from importlib import import_module

_PLACES = {  # public name -> the module it is imported from when it is asked for
    "load_model": "helpers.models.load",
    "build_tokenizer": "helpers.models.organism",
    "Language": "helpers.models.language",
}
__all__ = [*_PLACES]


def __getattr__(name: str):
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
