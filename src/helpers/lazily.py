"""Public names of a package, imported from where they are defined only when they are asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def from_places(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose public names have these modules as their places."""

    def __getattr__(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
