"""The landing page's tables: what was claimed and found, and whether the method sees what is known to be there.

A claim has a row for each of the two questions that are put to it, and a table of its own with the numbers behind them:
what was found, how sure one may be, and what would have been seen.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from helpers.claims.verdicts import NOT_TESTED, power_with
from helpers.paths import RunPaths
from helpers.studies.ledger import NOT_RECORDED, UNCHANGED
from helpers.studies.settings import Study
from pipeline.report.chapters import Staged
from pipeline.report.templates import render
from pipeline.results.tables import SCHEMAS, read_csv
from pipeline.runs.notebook import measured_power

SEEN, ALARMS = 0.95, 0.05  # share of seeds that must be found distinct, and at most may be
LEVEL, BAND = 0.95, (0.93, 0.97)  # nominal coverage of an interval, and what is asked of the measured one
INTERVAL = "corrected hierarchical"  # that of this report, among the methods of table `coverage`
OUTCOMES = ("missed", "within error", "met")  # of a control, from the worst


def in_order(studies: Iterable[Staged]) -> list[Staged]:
    """Studies as the first page names them: real models, then organisms, then controls."""
    return sorted(studies, key=lambda staged: _rank(staged.selection.study))


def _rank(study: Study) -> tuple[bool, bool]:
    return study.control is not None, study.kind != "pretrained"


def verdict_table(studies: list[Staged]) -> str:
    """Each claim with both verdicts of each study that is no control, and how to read them; empty without studies."""
    shown = [staged for staged in in_order(studies) if staged.selection.study.control is None]
    found = [(staged, verdicts_of(staged)) for staged in shown]
    titles = [staged.selection.study.title for staged in shown]
    return render("verdicts.md", claims=_claims(found), titles=titles, caveats=_caveats(shown))


def number_tables(studies: list[Staged]) -> str:
    """The numbers behind the verdicts, claim by claim, controls as well; empty without studies."""
    found = [(staged, verdicts_of(staged)) for staged in in_order(studies)]
    words = {"not_recorded": NOT_RECORDED, "unchanged": UNCHANGED}
    return render("numbers.md", claims=_claims(found), **words)


def _claims(found: list[tuple[Staged, dict]]) -> list[dict]:
    """Each claim of the ledger with a row for each study."""
    if not found:
        return []
    places = found[0][0].places
    return [
        {
            "name": name,
            "entry": entry,
            "place": places.get(entry.notebook),
            "rows": [_row(name, *one) for one in found],
        }
        for name, entry in found[0][0].selection.study.claims.items()
    ]


def _caveats(studies: Iterable[Staged]) -> list[tuple[str, str, str]]:
    """Title of the study, claim and text of what keeps a study from speaking about the paper on a claim."""
    known = [staged.selection.study for staged in studies]
    return [(study.title, claim, text) for study in known for claim, text in study.caveats.items()]


def verdicts_of(staged: Staged) -> dict[str, dict]:
    """The rows of a study's table ``verdicts`` by their claims; what an older version did not write is empty."""
    path = RunPaths(staged.selection.study.name).table("verdicts")
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["claim"])
    return table.reindex(columns=list(SCHEMAS["verdicts"])).set_index("claim", drop=False).to_dict("index")


def _row(claim: str, staged: Staged, verdicts: dict) -> dict:
    """What one study found of one claim; ``verdict`` is None where its table does not have the claim."""
    study, verdict = staged.selection.study, verdicts.get(claim)
    entry = study.claims[claim]
    seen = seen_of(claim, verdict, study)
    facts = {"verdict": verdict, "seen": seen, "caveat": study.caveats.get(claim, "")}
    return {"study": study, "entry": entry, "place": staged.places.get(entry.notebook), **facts}


def seen_of(claim: str, verdict: Mapping | None, study: Study) -> pd.Series | str:
    """The row of table ``power`` on what would have been found with the seeds at hand, or why there is none."""
    power = measured_power(study)
    if verdict is None or pd.isna(verdict["seeds"]) or power[power["claim"] == claim].empty:
        return "not measured"  # or on another grid than the graded control's
    best = power_with(power, claim, int(verdict["seeds"]))
    return "too few seeds" if best is None else best


def number_of(value: float) -> str:
    """A number in a sentence, as the tables show it."""
    return f"{value:.3f}".replace("-", "−")


def control_table(studies: list[Staged]) -> str:
    """A row for each control among the studies and one for the intervals; empty without a control."""
    controls = controls_of(studies)
    if not controls:
        return ""
    asked = {"level": controls[0]["study"].confidence, "nominal": LEVEL, "band": BAND, "seen": SEEN, "alarms": ALARMS}
    return render("controls.md", controls=controls, coverage=_coverage(studies), **asked)


def controls_of(studies: Iterable[Staged]) -> list[dict]:
    """What every control among the studies found, the positive one first."""
    controls = [staged for staged in studies if staged.selection.study.control]
    return [_control(one) for one in sorted(controls, key=lambda one: one.selection.study.control, reverse=True)]


def _control(staged: Staged) -> dict:
    study, positive = staged.selection.study, staged.selection.study.control == "positive"
    rows = [row for name, row in verdicts_of(staged).items() if study.claims[name].strict]
    counted = [row for row in rows if positive or pd.notna(row["share_of_seeds"])]
    facts = {"rows": rows, "outcome": worst(outcome(row, positive) for row in counted)}
    return {"study": study, "place": staged.places.get("15_verdict"), "positive": positive, **facts}


def outcome(row: Mapping, positive: bool) -> str:
    """Whether a claim's share of seeds found distinct is as asked (met), or its interval is (within error).

    What could not be measured was not found.
    """
    if (row["share_of_seeds"] >= SEEN) if positive else (row["share_of_seeds"] <= ALARMS):
        return "met"
    within = row["share_high"] >= SEEN if positive else row["share_low"] <= ALARMS
    return "within error" if within else "missed"


def worst(outcomes: Iterable[str]) -> str:
    """The worst of some outcomes; of none, *not tested*."""
    return min(outcomes, key=OUTCOMES.index, default=NOT_TESTED)


def _coverage(studies: list[Staged]) -> dict | None:
    """How often the report's interval holds the truth of simulated data, if the chapter on that is there."""
    for staged in studies:
        if place := staged.places.get("21_statistics"):
            table = read_csv(RunPaths(staged.selection.study.name).table("coverage"), "coverage")
            own = table[table["method"] == INTERVAL]
            held = own["met"].isin(["yes", "within error"]).sum()
            return {"place": place, "mean": own["coverage"].mean(), "held": held, "settings": len(own)}
    return None
