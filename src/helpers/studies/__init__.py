"""The settings of a study: what each key may hold, read from its file and checked."""

from importlib import import_module

_PLACES = {  # public name -> the module it is imported from when it is asked for
    "load_study": "helpers.studies.settings",
    "read_study": "helpers.studies.settings",
    "LanguageSettings": "helpers.studies.sections",
}
__all__ = [*_PLACES]


def __getattr__(name: str):
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
