"""The code that a notebook's results depend on, as a hash that comments, docstrings and formatting do not change."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path

from helpers.paths import NOTEBOOKS, ROOT

SOURCES = ROOT / "src"
NAME = re.compile(r"helpers(\.\w+)+")
SILENT = {  # modules that cannot change a number: they name, check, read and write what others compute
    "helpers.errors", "helpers.files", "helpers.lifeline", "helpers.memory", "helpers.paths", "helpers.studies",
}  # fmt: skip


def code_of(notebook: str, without: Collection[str] = ()) -> str:
    """Hash of a notebook's code and of the modules of ``helpers`` behind it, but for SILENT ones and ``without``."""
    modules = modules_of(notebook, without)
    parts = [_notebook(NOTEBOOKS / f"{notebook}.ipynb")[1], *(_module(path)[1] for path in modules)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def modules_of(notebook: str, without: Collection[str] = ()) -> list[Path]:
    """Files of the modules of ``helpers`` that a notebook imports, and those they import."""
    found: set[Path] = set()
    waiting = set(_notebook(NOTEBOOKS / f"{notebook}.ipynb")[0])
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is not None and path not in found and not _left_out(name, {*SILENT, *without}):
            found.add(path)
            waiting |= set(_module(path)[0])
    return sorted(found)


def _left_out(name: str, rooms: Collection[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def _file(name: str) -> Path | None:
    """The file of a module or package; None for what is no module, such as a function's name."""
    path = SOURCES.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@functools.cache
def _module(path: Path) -> tuple[frozenset[str], str]:
    """What a module imports, and its code without docstrings and comments."""
    return _read(path.read_text(encoding="utf-8"))


@functools.cache
def _notebook(path: Path) -> tuple[frozenset[str], str]:
    """The same of the code cells of a notebook, but for the one with its parameters."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [
        cell for cell in cells if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    return _read("\n".join("".join(cell["source"]) for cell in code))


def _read(text: str) -> tuple[frozenset[str], str]:
    tree = ast.parse(text)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            names.add(node.value)  # a public name's place, which a package imports when it is asked for
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]) and not isinstance(node, ast.If):
            node.body = body[1:]
    return frozenset(names), ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
