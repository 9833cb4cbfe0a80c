"""The map on the page "How the project is built": the rooms of the code and which uses which, made from the imports."""

import ast
from pathlib import Path

import grimp

from helpers.paths import ROOT
from pipeline.report.templates import render

WINGS = ("pipeline", "helpers")  # from the top down: what stands higher may use what stands lower


def code_map() -> str:
    """The picture and the table of all rooms, as Markdown."""
    uses, needs = imports()
    rooms = sorted(uses, key=lambda room: (WINGS.index(room.split(".")[0]), -len(needs[room]), room))
    arrows = []
    for start, room in enumerate(rooms):
        followed = set().union(*(needs[other] for other in uses[room]))  # from two other arrows
        arrows += [(start, end) for end, other in enumerate(rooms) if other in uses[room] - followed]
    return render("rooms.md", rooms=[_facts(room) for room in rooms], arrows=arrows)


def imports() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """For each room (``helpers.weights``, ``pipeline.build``) those that it imports, and those that it needs in all."""
    graph = grimp.build_graph(*WINGS, cache_dir=None)
    rooms = set().union(*map(graph.find_children, WINGS))
    for room in rooms:
        graph.squash_module(room)
    uses = {room: graph.find_modules_directly_imported_by(room) & rooms - {room} for room in rooms}
    return uses, {room: graph.find_upstream_modules(room) & rooms - {room} for room in rooms}


def _facts(room: str) -> dict[str, str | int]:
    """Name of a room, the first line of what it says of itself, and its lines of code."""
    path = ROOT / "src" / Path(*room.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    texts = [file.read_text(encoding="utf-8") for file in files]  # of a folder __init__.py comes first
    holds = (ast.get_docstring(ast.parse(texts[0])) or "").partition("\n")[0].replace("``", "")
    return {"name": room, "holds": holds, "lines": sum(len(text.splitlines()) for text in texts)}
