"""The settings of a study: what each key may hold, read from its file and checked."""

from helpers.lazily import from_places

_PLACES = {
    "load_study": "helpers.studies.settings",
    "read_study": "helpers.studies.settings",
    "LanguageSettings": "helpers.studies.sections",
}
__all__ = [*_PLACES]
__getattr__ = from_places(__name__, _PLACES)
