"""The first page's figure: both verdicts on every claim in every study, and the deciding effect against its margin.

Effects of different statistics share one axis as multiples of their margins: 0 is no effect, 1 the margin.
"""

from collections.abc import Iterable, Mapping
from math import ceil, floor

import pandas as pd

from helpers.claims.verdicts import NOT_TESTED, power_with
from helpers.figures import DECISIONS
from helpers.paths import RunPaths
from pipeline.report.chapters import Staged
from pipeline.report.templates import render
from pipeline.report.verdicts import in_order, verdicts_of
from pipeline.results.tables import read_csv
from pipeline.runs.notebook import measured_power

FARTHEST = 10  # multiples of the margin, to either side: what lies beyond is drawn as an arrow at the edge
MARKS = {"D": "◆", "o": "●", "X": "✕"}  # of DECISIONS, as text


def forest(studies: list[Staged]) -> str:
    """The figure as a table with a drawn column, empty without studies: real models first, controls last."""
    rows = {staged.selection.study.name: verdicts_of(staged) for staged in studies}
    claims = [
        {"name": name, "entry": entry, "rows": [_row(staged, name, rows) for staged in in_order(studies)]}
        for name, entry in (studies[0].selection.study.claims if studies else {}).items()
    ]
    axis = axis_of(row["effect"] for claim in claims for row in claim["rows"] if row["effect"])
    shown = {"claims": claims, "axis": axis, "place": lambda value: place_on(axis, value), "marks": MARKS}
    return render("forest.md", decisions=DECISIONS, **shown)


def axis_of(effects: Iterable[Mapping[str, float]]) -> tuple[int, int]:
    """Ends of the axis, whole multiples of the margin that hold 0, 1 and every interval, as far as ``FARTHEST``."""
    ends = [value for one in effects for value in (one["low"], one["high"], one["mean"]) if value == value]
    return max(-FARTHEST, floor(min([-1, *ends]))), min(FARTHEST, ceil(max([2, *ends])))


def place_on(axis: tuple[int, int], value: float) -> float:
    """Where on the axis a value is, in per cent of its length; beyond an end, that end."""
    low, high = axis
    return round(100 * (min(max(value, low), high) - low) / (high - low), 2)


def _row(staged: Staged, claim: str, found: Mapping[str, Mapping[str, dict]]) -> dict:
    study = staged.selection.study
    verdict = found[study.name].get(claim)
    known = verdict is not None
    strict = verdict["strict"] if known and pd.notna(verdict["strict"]) else NOT_TESTED
    return {
        "study": study,
        "place": staged.places.get("15_verdict"),
        "stated": verdict["stated"] if known else NOT_TESTED,
        "strict": strict if study.claims[claim].strict else "",
        "caveat": study.caveats.get(claim, ""),
        "asked": verdict if known and not study.claims[claim].strict and pd.notna(verdict["stated_mean"]) else None,
        "effect": effect(staged, claim, verdict) if known and study.claims[claim].strict else None,
    }


def effect(staged: Staged, claim: str, verdict: Mapping) -> dict | None:
    """The deciding statistic in multiples of its margin: mean, low, high, and ``seen``, what would be found.

    Where the deciding one was not measured, the weakest of those that were, and ``missing``, how many were not. None
    where none was.
    """
    deciding, missing = verdict, 0
    if pd.isna(verdict["mean"]):
        table = RunPaths(staged.selection.study.name).table("strict")
        own = read_csv(table, "strict") if table.exists() else pd.DataFrame(columns=["claim", "mean", "margin"])
        own = own[own["claim"] == claim]
        measured = own.dropna(subset=["mean"])
        if measured.empty:
            return None
        missing = len(own) - len(measured)
        deciding = measured.loc[(measured["mean"] - measured["margin"]).idxmin()].to_dict()
        deciding["strict_by"] = deciding["statistic"]
    margin = deciding["margin"]
    scaled = {end: deciding[end] / margin for end in ("mean", "low", "high")}
    return scaled | {
        "statistic": deciding["strict_by"],
        "of": deciding,
        "seeds": int(deciding["seeds"]),
        "missing": missing,
        "seen": _seen(staged, claim, int(deciding["seeds"])),
    }


def _seen(staged: Staged, claim: str, seeds: int) -> float:
    """The smallest effect that so many seeds would find, in multiples of its margin; NaN where it is not known."""
    best = power_with(measured_power(staged.selection.study), claim, seeds)
    return float("nan") if best is None else best["effect"] / best["margin"]
