"""Subspaces and edits, one decorated function each: every file put into this folder is found by itself.

``python -m helpers.methods`` lists them. The page "Add your own" of the book shows how to write one.
"""

from importlib import import_module

__all__ = ["Context", "Weights", "edit", "subspace"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module("helpers.methods.door" if name.islower() else "helpers.methods.context"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
