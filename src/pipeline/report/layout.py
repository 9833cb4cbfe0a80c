"""The order in which a chapter is read: what was found before how it was computed, and the code folded beside it."""

import re
from math import ceil

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

HOW = ("What is computed", "The model")  # sections that a reader of results may want later
LAST = "Limits"  # the section before which they stand then
SECTION = re.compile(
    r"^(?:\([\w:-]+\)=[ \t]*\n)?## (?P<name>.+?)[ \t]*$", re.MULTILINE
)  # with its label, if it has one
WORDS, FIGURES = 200, 3  # read, and looked at, in a minute
ALONE = "## Parameters"  # a heading over nothing but code


def code_folded(cells: list[NotebookNode]) -> None:
    """Fold the code of every cell away, one click from what it shows; a heading over nothing but code is dropped."""
    for cell in cells:
        if cell.cell_type == "code":
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), "hide-input"})
    cells[:] = [cell for cell in cells if cell.source.strip() != ALONE]


def results_first(cells: list[NotebookNode]) -> None:
    """Move the sections on how things are computed behind the results; cells of code keep their order."""
    moved = []
    for cell in (cell for cell in cells if cell.cell_type == "markdown"):
        parts = _parts(cell.source)
        moved += [text for name, text in parts if name in HOW]
        cell.source = "".join(text for name, text in parts if name not in HOW).rstrip()
    if not moved:
        return
    last = next(
        (cell for cell in reversed(cells) if cell.cell_type == "markdown" and LAST in dict(_parts(cell.source))), None
    )
    moved = "".join(f"{text.rstrip()}\n\n" for text in moved)
    if last is None:
        cells.append(new_markdown_cell(moved))
    else:
        last.source = "".join((moved if name == LAST else "") + text for name, text in _parts(last.source))
    cells[:] = [cell for cell in cells if cell.cell_type == "code" or cell.source.strip()]


def reading_time(cells: list[NotebookNode]) -> str:
    """How long a chapter takes to read, by its words and figures, in a sentence."""
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    shown = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", [])]
    minutes = ceil(words / WORDS + sum(html.count("<figure") for html in shown) / FIGURES)
    return f"About {minutes} minute{'' if minutes == 1 else 's'} to read."


def _parts(text: str) -> list[tuple[str, str]]:
    """The sections of a text by their names; what stands before the first has none."""
    heads = list(SECTION.finditer(text))
    ends = [*(head.start() for head in heads), len(text)]
    return [("", text[: ends[0]])] + [
        (head["name"], text[start:end]) for head, start, end in zip(heads, ends, ends[1:], strict=False)
    ]
