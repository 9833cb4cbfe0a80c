"""Models and tokenizers: where they come from, how they are asked, what they answer."""

from helpers.lazily import from_places

_PLACES = {
    "load_model": "helpers.models.load",
    "build_tokenizer": "helpers.models.organism",
    "Language": "helpers.models.language",
}
__all__ = [*_PLACES]
__getattr__ = from_places(__name__, _PLACES)
