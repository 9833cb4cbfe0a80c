"""Small HTML tables for the generated parts of the report."""

import html
from collections.abc import Iterable


class Html(str):
    """Text that is HTML already; any other text is escaped when it enters a table."""


def table(header: Iterable[str], rows: Iterable[Iterable[object]], kind: str = "") -> str:
    """An HTML table; cells are escaped unless they are ``Html``."""
    head = "".join(f'<th scope="col">{_cell(name)}</th>' for name in header)
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>{rows_of(rows)}</tbody>"
    return f'<div class="wide"><table class="table {kind}">{inside}</table></div>\n'


def rows_of(rows: Iterable[Iterable[object]], heads: Iterable[str] = ()) -> str:
    """Rows of an HTML table; each cell is told the head of its column where ``heads`` are given."""
    labels = [f' data-head="{html.escape(head)}"' for head in heads]
    found = []
    for row in rows:
        cells = zip(row, labels, strict=True) if labels else ((value, "") for value in row)
        found.append("<tr>" + "".join(f"<td{label}>{_cell(value)}</td>" for value, label in cells) + "</tr>\n")
    return "".join(found)


def code(text: str) -> Html:
    """Text in a fixed-width type."""
    return Html(f"<code>{html.escape(text)}</code>")


def lines(texts: Iterable[str]) -> Html:
    """Texts one below the other; each is escaped unless it is ``Html``."""
    return Html("<br>".join(_cell(text) for text in texts))


def link(target: str, text: str) -> Html:
    """A link; ``target`` is relative to the page."""
    return Html(f'<a href="{html.escape(target)}">{html.escape(text)}</a>')


def _cell(value: object) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))
