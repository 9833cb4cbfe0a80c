"""What becomes of a figure before it is shown: no empty panels, nothing beyond what is possible, a PNG per width."""

import base64
import io
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.legend import Legend

LETTERS_PER_INCH = 14  # of a legend
LINES_WITHIN = 3  # of a legend, for which a figure has room; for more it becomes higher
LINE = 0.14  # inches from one line of small letters to the next
LETTERS_OF_NAME = 24  # of a name beside a panel, in a line of a narrow figure
NARROW = 3.6  # inches: the letters of a figure as wide as a telephone then are as large as on a page


def is_empty(ax: Axes) -> bool:
    """Whether a panel shows no data: no finite point and no matrix, whatever levels and bands are drawn in it."""
    lines = [line for line in ax.get_lines() if line.get_transform() == ax.transData]
    points_ = any(np.isfinite(line.get_xydata()).all(axis=1).any() for line in lines)
    return not points_ and not any(isinstance(one, QuadMesh) for one in ax.collections)


def named(ax: Axes) -> str:
    """A panel by its title and what it measures."""
    titles = [ax.get_title(where) for where in ("center", "left", "right")]
    return ", ".join(filter(None, [*titles, ax.get_ylabel()])) or "one panel"


def leave_out(figure: Figure, empty: list[Axes]) -> None:
    """Take panels out of a figure; the others move up into their places."""
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    for ax in empty:
        ax.remove()
    _arrange(figure, min(columns, len(figure.axes)))


def _arrange(figure: Figure, columns: int) -> None:
    """Put the panels into so many columns, each as high as it was."""
    height = figure.get_figheight() / figure.axes[0].get_subplotspec().get_gridspec().nrows
    rows = -(-len(figure.axes) // columns)
    figure.set_figheight(rows * height)
    places = figure.add_gridspec(rows, columns)
    for ax, place in zip(figure.axes, places, strict=False):
        ax.set_subplotspec(place)


def stack(figure: Figure) -> None:
    """Put the panels one below the other, as narrow as a telephone; long names beside them take several lines."""
    figure.set_figwidth(NARROW)
    _arrange(figure, 1)
    heights = [figure.get_figheight() / len(figure.axes)]
    for ax in figure.axes:
        names = [label.get_text() for label in ax.get_yticklabels()]
        if max(map(len, names), default=0) > LETTERS_OF_NAME:
            folded = [textwrap.fill(name, LETTERS_OF_NAME) for name in names]
            ax.set_yticks(ax.get_yticks(), folded)
            heights.append(LINE * (len(folded) * (max(name.count("\n") for name in folded) + 1) + 4))
    figure.set_figheight(max(heights) * len(figure.axes))


def cut(ax: Axes, possible: Mapping[str, tuple[float, float]]) -> bool:
    """Cut bands, bars and caps at what a panel's measures, known by their labels, can be; whether any was."""
    ends = np.array([possible.get(label, (-np.inf, np.inf)) for label in (ax.get_xlabel(), ax.get_ylabel())]).T
    beyond = False
    for one in ax.collections:
        if not isinstance(one, PolyCollection | LineCollection):
            continue
        paths_ = [np.array(path_.vertices) for path_ in one.get_paths()]
        within = [np.clip(vertices, *ends) for vertices in paths_]
        beyond |= any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(paths_, within, strict=True))
        (one.set_verts if isinstance(one, PolyCollection) else one.set_segments)(within)
    for line in ax.get_lines():
        if line.get_transform() == ax.transData:
            line.set_data(*np.clip(line.get_xydata(), *ends).T)
    return beyond


def drawn(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG with what ``dress`` adds to it; afterwards it is without, and as high as it was."""
    height, added = figure.get_figheight(), dress(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    for one in added:
        one.remove()
    figure.set_figheight(height)
    return buffer.getvalue()


def as_link(image: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def dress(figure: Figure) -> list[Colorbar | Legend]:
    """Add a colour bar of the matrices and one legend of the panels without their own, and room for a long one."""
    added: list[Colorbar | Legend] = []
    meshes = {ax: one for ax in figure.axes for one in ax.collections if isinstance(one, QuadMesh)}
    entries = {}
    for ax in figure.axes:
        if ax.get_legend() is None:
            entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if meshes:
        mesh, where = next(iter(meshes.values())), {"location": "bottom", "shrink": 0.6, "aspect": 40}
        added.append(figure.colorbar(mesh, ax=list(meshes), label=mesh.get_gid(), **where))
    if entries:
        letters = int(LETTERS_PER_INCH * figure.get_figwidth())
        names = [textwrap.fill(name, letters - 6) for name in entries]  # beside a mark
        columns = max(1, min(len(names), letters // (max(map(len, entries)) + 6)))
        where = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        added.append(figure.legend(entries.values(), names, **where))
        lines = sum(name.count("\n") + 1 for name in names) / columns
        figure.set_figheight(figure.get_figheight() + max(0, lines - LINES_WITHIN) * LINE * 1.5)
    return added
