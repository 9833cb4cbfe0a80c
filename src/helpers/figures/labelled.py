"""Figures of labelled subspaces: each with its twin below it, and groups of tensors in a matrix of signed numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.figures import LEVEL, look_in, reach

BAND = 0.6  # of the height of a row, over which its points are spread


def pairs(ax: Axes, table: pd.DataFrame, order: list[str], twins: Mapping[str, str], by: str, label: str) -> None:
    """Subspaces one below the other, means over seeds with their intervals by ``by``; chance where there is a column.

    A twin that follows its subspace is called so, and a line sets the pairs apart.
    """
    groups = list(table.groupby(by, sort=False))
    for place, (name, own) in enumerate(groups):
        colour, marker = look_in(ax, name)
        at = own["subspace"].map(order.index) + BAND * ((place + 0.5) / len(groups) - 0.5)
        ax.errorbar(own["mean"], at, xerr=reach(own), fmt=marker, color=colour, ms=3.5, elinewidth=1.0, label=name)
        if "chance" in own:
            ax.plot(own["chance"], at, "|", color=LEVEL, ms=5, mew=1.2, label="chance of equal rank")
    ax.axvline(0, color="#999999", lw=0.6)
    names = ["its twin" if i and twins.get(order[i - 1]) == name else name for i, name in enumerate(order)]
    for edge in (i for i, name in enumerate(names) if i and name != "its twin"):
        ax.axhline(edge - 0.5, color="#CCCCCC", lw=0.6)
    ax.set_yticks(range(len(order)), names, fontsize=6.5)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set(xlabel=label)


def _short(value: float) -> str:
    """A number between −1 and 1 in hundredths, as narrow as can be: −.05, .17, 0; nothing where there is none."""
    text = "" if np.isnan(value) else f"{value:+.2f}".replace("0.", ".", 1).replace("-", "−").removeprefix("+")
    return "0" if text.strip("−") == ".00" else text


def signed(ax: Axes, table: pd.DataFrame, order: list[str], title: str, unit: str, limit: float) -> None:
    """Means by subspace and group in colours from −limit to limit; a star where the whole interval is off zero."""
    import seaborn as sns  # here, as in helpers.figures.heatmap

    groups = list(dict.fromkeys(table["group"]))
    means = table.pivot(index="subspace", columns="group", values="mean").reindex(index=order, columns=groups)
    clear = table.assign(clear=(table["low"] > 0) | (table["high"] < 0))
    stars = clear.pivot(index="subspace", columns="group", values="clear").reindex_like(means).eq(True)
    words = means.map(_short) + stars.replace({True: "*", False: ""})
    look = {"vmin": -limit, "vmax": limit, "cmap": "PuOr", "cbar": False, "fmt": ""}
    sns.heatmap(means, ax=ax, annot=words, annot_kws={"fontsize": 6}, **look)
    ax.collections[0].set_gid(unit)
    ax.set(title=title, xlabel="", ylabel="")
    ax.grid(False)
    ax.set_yticks(np.arange(len(order)) + 0.5, order, rotation=0, fontsize=6.5)
    ax.tick_params(axis="x", rotation=60, labelsize=6.5)
