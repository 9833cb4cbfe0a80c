"""The landing page's table of controls: whether the method sees what is there, and sees nothing where nothing is."""

from collections.abc import Iterable, Mapping

from helpers.claims.verdicts import NOT_TESTED
from helpers.paths import RunPaths
from pipeline.report.claims import found_by
from pipeline.report.staging import Staged
from pipeline.report.templates import render
from pipeline.results.tables import read_csv

SEEN, ALARMS = 0.95, 0.05  # share of seeds that must be found distinct, and at most may be
LEVEL, BAND = 0.95, (0.93, 0.97)  # nominal coverage of an interval, and what is asked of the measured one
INTERVAL = "corrected hierarchical"  # that of this report, among the methods of table `coverage`
STATISTICS = "21_statistics"


def control_table(studies: list[Staged]) -> str:
    """A row for each control among the studies and one for the intervals; empty without a control."""
    controls = [staged for staged in studies if staged.selection.study.control]
    if not controls:
        return ""
    ordered = sorted(controls, key=lambda staged: staged.selection.study.control, reverse=True)
    level = controls[0].selection.study.confidence
    asked = {"level": level, "nominal": LEVEL, "band": BAND, "seen": SEEN, "alarms": ALARMS}
    return render("controls.md", controls=[_control(one) for one in ordered], coverage=_coverage(studies), **asked)


def _control(staged: Staged) -> dict:
    study, positive = staged.selection.study, staged.selection.study.control == "positive"
    rows = found_by(study)[1].dropna(subset="share_of_seeds").to_dict("records")
    for row in rows:
        row["found"] = round(row["share_of_seeds"] * int(row["seeds"]))
    facts = {"rows": rows, "outcome": worst(outcome(row, positive) for row in rows)}
    return {"study": study, "place": staged.places.get("15_verdict"), "positive": positive, **facts}


def outcome(row: Mapping, positive: bool) -> str:
    """Whether a claim's share of seeds found distinct is as asked (met), or its interval is (within error)."""
    if (row["share_of_seeds"] >= SEEN) if positive else (row["share_of_seeds"] <= ALARMS):
        return "met"
    within = row["share_high"] >= SEEN if positive else row["share_low"] <= ALARMS
    return "within error" if within else "missed"


def worst(outcomes: Iterable[str]) -> str:
    """The worst of some outcomes; of none, *not tested*."""
    order = ("missed", "within error", "met")
    return min(outcomes, key=order.index, default=NOT_TESTED)


def _coverage(studies: list[Staged]) -> dict | None:
    """How often the report's interval holds the truth of simulated data, if the chapter on that is there."""
    shown = next((staged for staged in studies if STATISTICS in staged.places), None)
    if shown is None:
        return None
    own = read_csv(RunPaths(shown.selection.study.name).table("coverage"), "coverage").query("method == @INTERVAL")
    held = int(own["met"].isin(["yes", "within error"]).sum())
    return {"place": shown.places[STATISTICS], "mean": own["coverage"].mean(), "held": held, "settings": len(own)}
