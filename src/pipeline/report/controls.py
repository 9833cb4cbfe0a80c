"""The landing page's table of controls: whether the method sees what is there, and sees nothing where nothing is."""

import html
from collections.abc import Iterable

from helpers.claims.verdicts import NOT_TESTED
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from pipeline.report.claims import badge, found_by
from pipeline.report.html import Html, lines, link, table
from pipeline.report.staging import Staged
from pipeline.results.tables import read_csv

SEEN, ALARMS = 0.95, 0.05  # share of seeds that must be found distinct, and at most may be
LEVEL, BAND = 0.95, (0.93, 0.97)  # nominal coverage of an interval, and what is asked of the measured one
INTERVAL = "corrected hierarchical"  # that of this report, among the methods of table `coverage`
STATISTICS = "21_statistics"
HEADS = ("Check", "Asked", "Seeds found distinct", "")
INTRODUCTION = """**Can the method see it?** What it says of models whose answer is known, seed by seed, and of data
whose truth is known; behind a share is its exact {level:.0%} interval. *Within error*: the share misses what is asked,
but its interval does not.
"""


def control_table(studies: list[Staged]) -> str:
    """A row for each control among the studies and one for the intervals; empty without a control."""
    controls = [staged for staged in studies if staged.selection.study.control]
    if not controls:
        return ""
    rows = [_control(staged) for staged in sorted(controls, key=lambda one: one.selection.study.control, reverse=True)]
    introduction = INTRODUCTION.format(level=controls[0].selection.study.confidence)
    return f"{introduction}\n{table(HEADS, [*rows, *_coverage(studies)], 'controls')}"


def _control(staged: Staged) -> list[Html]:
    study = staged.selection.study
    distinct = found_by(study)[1].dropna(subset="share_of_seeds")
    positive = study.control == "positive"
    asked = f"distinct in ≥ {SEEN:.0%} of seeds" if positive else f"distinct in ≤ {ALARMS:.0%} of seeds"
    found = [_rate(row) for row in distinct.to_dict("records")]
    decided = ", ".join(f"{claim} {decision}" for claim, decision in distinct["decision"].items())
    outcomes = [outcome(row, positive) for row in distinct.to_dict("records")]
    return [
        lines([_title(staged, study), Html(f"<small>{html.escape(_kind(study))}</small>")]),
        lines([asked, "of every claim"]),
        lines([*found, Html(f"<small>over all seeds: {html.escape(decided)}</small>")]),
        badge(worst(outcomes)),
    ]


def _kind(study: Study) -> str:
    return "safety is planted in a subspace" if study.control == "positive" else "harm is utility under another name"


def _title(staged: Staged, study: Study) -> Html:
    place = staged.places.get("15_verdict")
    return link(f"{place}.html", study.title) if place else Html(html.escape(study.title))


def _rate(row: dict) -> str:
    seeds = int(row["seeds"])
    share = f"{row['share_of_seeds']:.0%} [{row['share_low']:.0%}, {row['share_high']:.0%}]"
    return f"{row['claim']}: {round(row['share_of_seeds'] * seeds)} of {seeds}, {share}"


def outcome(row: dict, positive: bool) -> str:
    """Whether a claim's share of seeds found distinct is as asked (met), or its interval is (within error)."""
    if (row["share_of_seeds"] >= SEEN) if positive else (row["share_of_seeds"] <= ALARMS):
        return "met"
    within = row["share_high"] >= SEEN if positive else row["share_low"] <= ALARMS
    return "within error" if within else "missed"


def worst(outcomes: Iterable[str]) -> str:
    """The worst of some outcomes; of none, *not tested*."""
    order = ("missed", "within error", "met")
    return min(outcomes, key=order.index, default=NOT_TESTED)


def _coverage(studies: list[Staged]) -> list[list[Html]]:
    """A row on how often the report's interval holds the truth of simulated data, if the chapter on that is there."""
    shown = [staged for staged in studies if STATISTICS in staged.places]
    if not shown:
        return []
    own = read_csv(RunPaths(shown[0].selection.study.name).table("coverage"), "coverage").query("method == @INTERVAL")
    held = int(own["met"].isin(["yes", "within error"]).sum())
    mean = f"the truth held in {own['coverage'].mean():.1%} on average"
    chapter = link(f"{shown[0].places[STATISTICS]}.html", f"{LEVEL:.0%} intervals")
    return [
        [
            lines([chapter, Html("<small>simulated data of known truth</small>")]),
            Html(f"hold the truth in {BAND[0]:.0%} to {BAND[1]:.0%}"),
            Html(f"{mean}; as asked, or within error, in {held} of {len(own)} settings"),
            badge("met" if held == len(own) else "mostly met"),
        ]
    ]
