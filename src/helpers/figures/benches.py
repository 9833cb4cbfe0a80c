"""The figure of the bench: what every method removes beyond scaling, study by study."""

import pandas as pd
from matplotlib.axes import Axes

from helpers.figures import DECISIONS, LEVEL, reach

TRAINED = "during training"  # kind of the methods whose names say so
LOOKS = {"works beyond scaling": DECISIONS["distinct"], "does not": DECISIONS["not distinct"]}


def methods(ax: Axes, summary: pd.DataFrame, order: list[str], margin: float, title: str) -> None:
    """One study's methods, one below the other: S with its interval by the decision, and the hardest null's mean.

    A method without a value in this study has no row.
    """
    known = summary.dropna(subset="mean").set_index("method")
    rows = known.loc[[name for name in order if name in known.index]]
    places = pd.Series(range(len(rows)), index=rows.index)
    for decision, own in rows.groupby("decision", sort=False):
        colour, marker = LOOKS.get(decision, DECISIONS["undecided"])
        how = {"fmt": marker, "color": colour, "ms": 4.5, "elinewidth": 1.2, "label": decision}
        ax.errorbar(own["mean"], places[own.index], xerr=reach(own), **how)
    ax.plot(rows["mean"] - rows["above_null_mean"], places, "|", color=LEVEL, ms=7, mew=1.5, label="its null")
    ax.axvline(margin, color=LEVEL, ls="--", lw=0.9, label="margin")
    ax.axvline(0, color="#999999", lw=0.6)
    marks = [f"{name} ({TRAINED})" if kind == TRAINED else name for name, kind in rows["kind"].items()]
    ax.set_yticks(places, marks, fontsize=6.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set(title=title, xlabel="harm removed beyond scaling")
