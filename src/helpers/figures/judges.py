"""Figures of judges: how far each agrees with people, set by set."""

import pandas as pd
from matplotlib.axes import Axes

from helpers.figures import BOUND, LEVEL, look, reach


def agreements(ax: Axes, validated: pd.DataFrame, people: pd.DataFrame, least: float) -> None:
    """κ of every judge (table ``judge_validation``) on each set, beside that of people (``human_agreement``)."""
    named = validated.assign(row=validated["data"] + ", " + validated["part"])
    rows = list(named["row"].unique())
    judges = list(named["judge"].unique())
    for place, (judge, table) in enumerate(named.groupby("judge", sort=False)):
        colour, mark = look(f"judge {judge}", place)
        y = table["row"].map(rows.index) + 0.5 * (place / max(1, len(judges) - 1) - 0.5)
        spread = reach(table, "kappa")
        ax.errorbar(table["kappa"], y, xerr=spread, fmt=mark, color=colour, ms=4, lw=1, label=f"{judge} judge")
    of_people = people.merge(named[["data", "row"]].drop_duplicates())
    y = of_people["row"].map(rows.index)
    ax.errorbar(of_people["kappa"], y, xerr=reach(of_people, "kappa"), fmt="D", color=LEVEL, ms=5, lw=1, label="people")
    ax.axvline(least, color=BOUND, ls="--", lw=1)
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set(xlabel="Cohen's κ with people", xlim=(min(-0.2, ax.get_xlim()[0]), 1.02))
    ax.legend()
