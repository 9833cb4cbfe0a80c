"""The code that a notebook's results depend on, as a hash that comments, docstrings and formatting do not change."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from helpers.paths import NOTEBOOKS, ROOT

SOURCES = ROOT / "src"
DATA = (".yml", ".yaml", ".txt")  # endings of data files beside modules
NAME = re.compile(r"helpers(\.\w+)+")
SILENT = {  # modules that cannot change a number: they name, check, read and write what others compute
    "helpers.errors", "helpers.files", "helpers.lazily", "helpers.lifeline", "helpers.memory", "helpers.paths",
    "helpers.studies",
}  # fmt: skip


Chosen = Mapping[str, Collection[str]]  # module that finds others by names in a study -> those that it finds


def code_of(notebook: str, without: Collection[str] = (), chosen: Chosen = MappingProxyType({})) -> str:
    """Hash of a notebook's code and of the modules of ``helpers`` behind it, but for SILENT ones and ``without``."""
    modules = modules_of(notebook, without, chosen)
    parts = [_notebook(NOTEBOOKS / f"{notebook}.ipynb")[1], *(_module(path)[1] for path in modules)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def modules_of(notebook: str, without: Collection[str] = (), chosen: Chosen = MappingProxyType({})) -> list[Path]:
    """Files of the modules of ``helpers`` that a notebook imports, and those they import or find by name."""
    found: set[Path] = set()
    waiting = set(_notebook(NOTEBOOKS / f"{notebook}.ipynb")[0])
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is not None and path not in found and not _left_out(name, {*SILENT, *without}):
            found.add(path)
            waiting |= {*_module(path)[0], *chosen.get(name, ())}
    return sorted(found)


def needs(notebook: str, library: str) -> bool:
    """Whether a notebook, or a module behind it, imports a library."""
    parts = [_notebook(NOTEBOOKS / f"{notebook}.ipynb"), *map(_module, modules_of(notebook))]
    return any(library in names for names, _ in parts)


def _left_out(name: str, rooms: Collection[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def _file(name: str) -> Path | None:
    """The file of a module or package of ``helpers``; None for anything else, such as a function's name."""
    if name.split(".")[0] != "helpers":
        return None
    path = SOURCES.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@functools.cache
def _module(path: Path) -> tuple[frozenset[str], str]:
    """The names that a module imports, and its code without docstrings and comments, with the data files it reads."""
    text = path.read_text(encoding="utf-8")
    beside = sorted(file for file in path.parent.iterdir() if file.suffix in DATA)
    data = [file.read_text(encoding="utf-8") for file in beside if file.stem == path.stem or file.name in text]
    names, code = _read(text)
    return names, "\0".join([code, *data])


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
    tree.body = [node for node in tree.body if not _for_types(node)]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            names.add(node.value)  # a public name's place, which a package imports when it is asked for
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]) and not isinstance(node, ast.If):
            node.body = body[1:]
    return frozenset(names), ast.dump(tree)


def _for_types(node: ast.stmt) -> bool:
    """Whether a statement only imports what annotations name."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
