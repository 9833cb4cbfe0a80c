"""The plan of a study as text for the terminal, by plan.txt: tabs part its columns, > puts to the right."""

from itertools import groupby, zip_longest
from pathlib import Path

from jinja2 import Environment, StrictUndefined

TEMPLATE = Path(__file__).with_name("plan.txt")


def size(number: float) -> str:
    """Bytes in words."""
    return f"{number / 2**20:,.1f} MiB" if number < 0.1 * 2**30 else f"{number / 2**30:,.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"


def table(plan: dict) -> str:
    """All parts of a plan, with a warning for whatever this machine has too little of."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"size": size, "duration": duration}
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(plan)
    return "\n".join(
        line for tabbed, lines in groupby(text.splitlines(), lambda line: "\t" in line)
        for line in (_aligned(list(lines)) if tabbed else lines)
    )  # fmt: skip


def _aligned(lines: list[str]) -> list[str]:
    """Lines with tabs as lines of columns, as wide as their widest cell."""
    rows = list(zip(*zip_longest(*(line.split("\t") for line in lines), fillvalue=""), strict=True))
    widths = [max(len(cell.lstrip(">")) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            c[1:].rjust(w) if c.startswith(">") else c.ljust(w) for c, w in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
