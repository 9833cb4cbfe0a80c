"""What a figure shows, by rule from what is drawn in it: said of figures for which their notebook says nothing itself.

The notebooks of single runs leave it to this, so that what is said of their figures can change and no seed runs again.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from helpers.claims.takeaways import NOTHING, highest, leading, together
from helpers.figures.finish import named

Lines = dict[str, np.ndarray]  # points of each line, (places, 2), by its label
SCALING, MARGIN, PREDICTED = "scaling", "margin", "predicted"  # labels of a line, of a level and of an axis
CEILING = "-ceiling"  # how lines are called that show the most that others can be, and are no finding


def finding(figure: Figure) -> str:
    """A sentence for each panel, by the kind of what it holds; nothing of a panel without data."""
    return together(_of_panel(ax) for ax in figure.axes)


def _of_panel(ax: Axes) -> str:
    if mesh := next((one for one in ax.collections if isinstance(one, QuadMesh)), None):
        return highest(_cells(ax, mesh), "of", named(ax))
    lines, what = _lines(ax), named(ax)
    margins = [line.get_ydata()[0] for line in ax.get_lines() if line.get_label() == MARGIN]
    if not lines:
        return NOTHING
    if margins:
        return _above(lines, max(margins), what)
    if isinstance(ax.yaxis.get_major_locator(), FixedLocator):
        return leading(_by_name(ax, lines), "x", "of", ax.get_xlabel())
    if ax.get_xlabel() == PREDICTED:
        rows = [{"of": name, "mean": np.abs(np.diff(points)).mean()} for name, points in lines.items()]
        return highest(pd.DataFrame(rows), "of", f"{what}, mean distance from what is predicted")
    if SCALING in lines and len(lines) > 1:
        return _beside_scaling(ax, lines)
    parts = [pd.DataFrame(points, columns=["x", "mean"]).assign(of=name) for name, points in lines.items()]
    table = pd.concat(parts, ignore_index=True)
    return leading(table, "x", "of", what) if len(lines) > 1 else _ends(table, what)


def _lines(ax: Axes) -> Lines:
    """The finite points of lines with a label, but for ceilings; of those without where none has one."""
    handles = {
        label: handle[0] if isinstance(handle, ErrorbarContainer) else handle
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    named_ = {label: line for label, line in handles.items() if isinstance(line, Line2D)}
    lines = {
        label: line.get_xydata()[np.isfinite(line.get_xydata()).all(axis=1)]
        for label, line in (named_ or dict(enumerate(ax.get_lines()))).items()
        if line.get_transform() == ax.transData and not str(label).endswith(CEILING)
    }
    return {str(label): points for label, points in lines.items() if len(points)}


def _by_name(ax: Axes, lines: Lines) -> pd.DataFrame:
    """What lies beside which name of a list, where values run across: each point is of the name that is nearest."""
    names = {label.get_position()[1]: label.get_text() for label in ax.get_yticklabels()}
    rows = [
        {"x": names[min(names, key=lambda place: abs(place - down))], "of": name, "mean": across}
        for name, points in lines.items()
        for across, down in points
    ]
    return pd.DataFrame(rows)


def _cells(ax: Axes, mesh: QuadMesh) -> pd.DataFrame:
    """The cells of a matrix that are not empty and whose row and column have a name, with their values."""
    across, down = (
        {int(label.get_position()[axis]): label.get_text() for label in labels}
        for axis, labels in enumerate((ax.get_xticklabels(), ax.get_yticklabels()))
    )
    values = np.ma.filled(mesh.get_array().astype(float), np.nan)  # (rows, columns)
    cells = [(f"{down.get(i)} and {across.get(j)}", value) for (i, j), value in np.ndenumerate(values)]
    return pd.DataFrame([cell for cell in cells if "None" not in cell[0].split()], columns=["of", "mean"])


def _ends(table: pd.DataFrame, what: str) -> str:
    """What a single curve begins and ends with."""
    said = [f"{mean:.3g} at {place:g}" for place, mean in table.sort_values("x")[["x", "mean"]].to_numpy()]
    return f"{what}: {said[0]}." if len(said) == 1 else f"{what}: from {said[0]} to {said[-1]}."


def _above(lines: Lines, margin: float, what: str) -> str:
    """How many lines lie above the largest margin where the axis begins, and where it ends."""
    places = np.unique(np.concatenate([points[:, 0] for points in lines.values()]))[[0, -1]]
    counts = [sum((p[p[:, 0] == place, 1] > margin).any() for p in lines.values()) for place in places]
    at = ", ".join(f"{count} at {place:g}" for count, place in zip(counts, places, strict=True))
    return f"{what}: of {len(lines)}, above every margin lie {at}."


def _beside_scaling(ax: Axes, lines: Lines) -> str:
    """At how many of its places each path lies below the scaled update with the same value across."""
    curve = lines.pop(SCALING)  # (places, 2), in the order of α
    x = np.maximum.accumulate(curve[:, 0])  # so that each value is reached once
    below = {name: points[:, 1] < np.interp(points[:, 0], x, curve[:, 1]) for name, points in lines.items()}
    said = ", ".join(f"{name} at {places.sum()} of {len(places)} places" for name, places in below.items())
    return f"{ax.get_ylabel()} below that of scaling at equal {ax.get_xlabel()}: {said}."
