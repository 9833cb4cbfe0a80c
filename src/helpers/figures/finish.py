"""What becomes of a drawn figure before it is shown: no empty panels, nothing beyond what a measure can be, a PNG."""

import io
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure

LETTERS_PER_LINE = 100  # of a legend as wide as the page


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
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    left, height = [ax for ax in figure.axes if ax not in empty], figure.get_figheight() / grid.nrows
    for ax in empty:
        ax.remove()
    columns = min(grid.ncols, len(left))
    rows = -(-len(left) // columns)
    figure.set_figheight(rows * height)
    places = figure.add_gridspec(rows, columns)
    for ax, place in zip(left, places, strict=False):
        ax.set_subplotspec(place)


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


def drawn(figure: Figure) -> bytes:
    """A figure as PNG, under it a colour bar of its matrices and one legend of the panels without their own."""
    meshes = {ax: one for ax in figure.axes for one in ax.collections if isinstance(one, QuadMesh)}
    if meshes:
        mesh = next(iter(meshes.values()))
        figure.colorbar(mesh, ax=list(meshes), label=mesh.get_gid(), location="bottom", shrink=0.6, aspect=40)
    entries = {}
    for ax in figure.axes:
        if ax.get_legend() is None:
            entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if entries:
        columns = max(1, min(len(entries), LETTERS_PER_LINE // (max(map(len, entries)) + 6)))
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
