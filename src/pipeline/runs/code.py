"""The code that a notebook's results depend on, as a hash that comments, docstrings and formatting do not change."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from helpers.errors import StudyError
from helpers.paths import NOTEBOOKS, ROOT

DATA = (".yml", ".yaml", ".txt")  # endings of data files beside modules
NAME = re.compile(r"helpers(\.\w+)+")
SILENT = {  # modules that cannot change a number: they name, check, read and write what others compute
    "helpers.errors", "helpers.files", "helpers.lazily", "helpers.lifeline", "helpers.memory", "helpers.paths",
    "helpers.studies",
}  # fmt: skip
Chosen = Mapping[str, Collection[str]]  # module that finds others by names in a study -> those that it finds


def code_of(notebook: str, without: Collection[str], chosen: Chosen) -> str:
    """Hash of a notebook's code and of the modules of ``helpers`` behind it, but for SILENT ones and ``without``."""
    parts = [_read(path)[1] for path in sources_of(notebook, without, chosen)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def sources_of(notebook: str, without: Collection[str] = (), chosen: Chosen | None = None) -> list[Path]:
    """A notebook and the modules of ``helpers`` that it imports, and those that these import or find by name."""
    first = NOTEBOOKS / f"{notebook}.ipynb"
    found, waiting = {first}, set(_read(first)[0])
    while waiting:
        name = waiting.pop()
        path = _file(name)
        left_out = any(f"{name}.".startswith(f"{room}.") for room in (*SILENT, *without))
        if path is not None and path not in found and not left_out:
            found.add(path)
            waiting |= {*_read(path)[0], *(chosen or {}).get(name, ())}
    return sorted(found)


def needs(notebook: str, library: str) -> bool:
    """Whether a notebook, or a module behind it, imports a library."""
    return any(library in _read(path)[0] for path in sources_of(notebook))


@functools.cache
def _file(name: str) -> Path | None:
    """The file of a module or package of ``helpers``; None for anything else, such as a function's name."""
    path = ROOT.joinpath("src", *name.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py") if name.split(".")[0] == "helpers" else ()
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _read(path: Path) -> tuple[frozenset[str], str]:
    """The names that a module or notebook imports, and its code without docstrings and comments.

    With the code of a module goes the data that it reads; to that of a notebook its parameters do not belong.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        code = [cell for cell in code if "parameters" not in cell["metadata"].get("tags", [])]
        return _parsed(_plain(path.name, ["".join(cell["source"]) for cell in code]))
    names, code = _parsed(text)
    beside = sorted(file for file in path.parent.iterdir() if file.suffix in DATA)
    data = [file.read_text(encoding="utf-8") for file in beside if file.stem == path.stem or file.name in text]
    return names, "\0".join([code, *data])


def _plain(name: str, cells: list[str]) -> str:
    """Code of a notebook's cells as plain Python: IPython's own words, such as ``%time``, become calls.

    Raises StudyError if that is no Python.
    """
    code = "\n".join(cells)
    with suppress(SyntaxError):
        ast.parse(code)
        return code
    from IPython.core.inputtransformer2 import TransformerManager  # here, for the few notebooks that need it

    code = "\n".join(TransformerManager().transform_cell(cell) for cell in cells)
    try:
        ast.parse(code)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise StudyError(f"notebooks/{name} has code that is no Python ({error.msg}: {line!r}): correct it") from None
    return code


def _parsed(text: str) -> tuple[frozenset[str], str]:
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
