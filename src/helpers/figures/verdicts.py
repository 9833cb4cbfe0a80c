"""Figures of verdicts: statistics against the bounds and margins of the ledger, by their plain labels."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.figures import BOUND, DECISIONS, LEVEL, reach
from helpers.studies.ledger import label_of


def forest(ax: Axes, table: pd.DataFrame, bounds: Iterable[Iterable[float]], title: str) -> None:
    """Criteria of a claim, one below the other: mean and interval of each, and its bounds as bars."""
    places = np.arange(len(table))
    ax.errorbar(table["mean"], places, xerr=reach(table), fmt="o", capsize=3)
    for place, ends in zip(places, bounds, strict=True):
        ends = list(ends)
        ax.plot(ends, [place] * len(ends), "|", color=BOUND, ms=16, mew=2)
        _say_unmeasured(ax, place, table["mean"].iloc[place])
    ax.set_yticks(places, table["statistic"].map(label_of))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set(title=title)


def _say_unmeasured(ax: Axes, place: int, mean: float) -> None:
    """Say of a row that has no mean that it was not measurable, at the right end of the panel."""
    if np.isnan(mean):
        how = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 7, "color": LEVEL}
        ax.text(0.98, place, "not measurable", **how)


def against_margins(ax: Axes, table: pd.DataFrame, title: str) -> None:
    """A claim's strict statistics (rows of the table ``strict``), one below the other, each against its margin."""
    for place, row in enumerate(table.to_dict("records")):
        colour, marker = DECISIONS.get(row["decision"], DECISIONS["undecided"])
        found = pd.DataFrame([row])
        ax.errorbar(found["mean"], [place], xerr=reach(found), fmt=marker, color=colour, ms=5, capsize=3)
        ax.plot([row["margin"]] * 2, [place - 0.4, place + 0.4], color=LEVEL, ls="--", lw=1)
        _say_unmeasured(ax, place, row["mean"])
    ax.axvline(0, color="#999999", lw=0.6)
    ax.set_yticks(range(len(table)), table["statistic"].map(label_of), fontsize=7)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_title(title)


def choices(ax: Axes, table: pd.DataFrame) -> None:
    """One claim's deciding statistic under every choice (rows of ``sensitivity``): interval, verdict and margin."""
    rows = table.assign(place=range(len(table)))
    for decision, own in rows.groupby("strict"):
        colour, marker = DECISIONS.get(decision, DECISIONS["undecided"])
        how = {"fmt": marker, "color": colour, "ms": 4.5, "elinewidth": 1.2, "label": decision}
        ax.errorbar(own["mean"], own["place"], xerr=reach(own), **how)
    ax.axvline(rows["margin"].iloc[0], color=LEVEL, ls="--", lw=0.9, label="margin")
    ax.axvline(0, color="#999999", lw=0.6)
    for edge in rows.loc[rows["choice"] != rows["choice"].shift(), "place"].iloc[1:]:
        ax.axhline(edge - 0.5, color="#CCCCCC", lw=0.6)
    ax.set_yticks(rows["place"], (rows["choice"] + ": " + rows["setting"]).str.removesuffix(": "), fontsize=6.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_title(rows["claim"].iloc[0], loc="right", fontsize=7.5)


def differences(ax: Axes, table: pd.DataFrame) -> None:
    """Differences in their natural units (columns ``relative``, with its ends), one below the other, by defect."""
    places = np.arange(len(table))
    ends = reach(table, "relative", "relative_low", "relative_high")
    ax.errorbar(table["relative"], places, xerr=ends, fmt="o", ms=4, capsize=3)
    ax.axvline(0, color=LEVEL, ls="--", lw=0.9)
    ax.set_yticks(places, [f"{row.defect}: {row.quantity} ({row.setting})" for row in table.itertuples()], fontsize=6.5)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set(xlabel="difference, natural units")
