"""The names that methods and judges are registered under, read from their files without importing them.

A *door* is a folder in which any file may hold a decorated function: ``@subspace("name")`` and ``@edit("name")`` in
``helpers/methods``, ``@judge("name")`` in ``helpers/evaluation/judges``. Settings are checked against these names, and
``make help`` lists them, in the time it takes to read the files: importing a method takes torch, and seconds.
"""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

FOLDERS = {"subspace": "methods", "edit": "methods", "judge": "evaluation/judges"}  # kind -> folder below helpers


@dataclass(frozen=True)
class Entry:
    """One decorated function."""

    kind: str
    name: str
    summary: str  # first line of its docstring
    file: Path


@functools.cache
def entries(kind: str) -> tuple[Entry, ...]:
    """Everything registered as ``subspace``, ``edit`` or ``judge``, file by file."""
    found = []
    for file in sorted((Path(__file__).parent / FOLDERS[kind]).glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8"), file).body:
            for name in _registered(node, kind):
                found.append(Entry(kind, name, (ast.get_docstring(node) or "").partition("\n")[0], file))
    return tuple(found)


def names(kind: str) -> tuple[str, ...]:
    """The names a study may choose from, each once."""
    return tuple(dict.fromkeys(entry.name for entry in entries(kind)))


def _registered(node: ast.stmt, decorator: str) -> list[str]:
    """The names under which a decorator registers a function or class."""
    calls = [call for call in getattr(node, "decorator_list", []) if isinstance(call, ast.Call) and call.args]
    own = [call for call in calls if ast.unparse(call.func).split(".")[-1] == decorator]
    return [call.args[0].value for call in own if isinstance(call.args[0], ast.Constant)]
