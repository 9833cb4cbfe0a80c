"""The map on the page "How the project is built": the rooms of the code and which uses which, made from the imports."""

import ast
from pathlib import Path

import grimp

from helpers.paths import ROOT
from pipeline.report.templates import render

WINGS = ("pipeline", "helpers")  # from the top down: what stands higher may use what stands lower


def code_map() -> str:
    """The picture and the table of all rooms, as Markdown."""
    uses = imports()
    rooms = sorted(uses, key=lambda room: (WINGS.index(room.split(".")[0]), -len(_reached(room, uses)), room))
    place = {room: number for number, room in enumerate(rooms)}
    arrows = sorted((place[a], place[b]) for a in rooms for b in _shown(a, uses))
    facts = [{"name": room, "holds": _holds(room), "lines": _lines(room)} for room in rooms]
    return render("rooms.md", rooms=facts, arrows=arrows)


def imports() -> dict[str, set[str]]:
    """Each room (``helpers.weights``, ``pipeline.build``) and the rooms that its modules import."""
    graph = grimp.build_graph(*WINGS, cache_dir=None)
    found: dict[str, set[str]] = {_room(name): set() for name in graph.modules if "." in name}
    for name in graph.modules:
        for other in graph.find_modules_directly_imported_by(name) if "." in name else ():
            found[_room(name)] |= {_room(other)} & set(found) - {_room(name)}
    return found


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _reached(room: str, uses: dict[str, set[str]]) -> set[str]:
    """The rooms that a room needs, directly or through others."""
    found, waiting = set(), set(uses[room])
    while waiting:
        found |= waiting
        waiting = set().union(*(uses[other] for other in waiting)) - found
    return found


def _shown(room: str, uses: dict[str, set[str]]) -> set[str]:
    """The rooms to which an arrow is drawn: of those used, the ones that are not reached through another anyway."""
    through = {other: _reached(other, uses) for other in uses[room]}
    return {a for a in through if not any(a in below for b, below in through.items() if b != a)}


def _files(room: str) -> list[Path]:
    path = ROOT / "src" / room.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _holds(room: str) -> str:
    """The first line of what a room says of itself."""
    text = next(file for file in _files(room) if file.stem in ("__init__", room.split(".")[1]))
    return (ast.get_docstring(ast.parse(text.read_text(encoding="utf-8"))) or "").partition("\n")[0].replace("``", "")


def _lines(room: str) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in _files(room))
