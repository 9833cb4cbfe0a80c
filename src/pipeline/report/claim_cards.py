"""A card per claim on the first page: what the paper says, what was found, how sure, and what would change it."""

from collections.abc import Mapping
from itertools import groupby

import pandas as pd

from helpers.claims.over_seeds import t_quantile
from helpers.claims.verdicts import NO_RISE, NOT_MEASURABLE, NOT_TESTED
from helpers.paths import RunPaths
from helpers.studies.ledger import label_of
from pipeline.report.chapters import Staged
from pipeline.report.records import revisions
from pipeline.report.templates import render
from pipeline.report.verdicts import in_order, number_of, seen_of, verdicts_of
from pipeline.results.tables import read_csv

MOST_SEEDS = 200  # more are not recommended: the effect may as well be at its margin


def claim_cards(judged: list[Staged], turned: list[Staged]) -> str:
    """The cards of all claims, empty without studies; controls are left to the page of all numbers."""
    shown = [staged for staged in in_order(judged) if staged.selection.study.control is None]
    first = shown[0].selection.study.claims if shown else {}
    cards = [
        {
            "name": name,
            "entry": entry,
            "found": [_found(staged, name) for staged in shown],
            "conditions": [under for staged in turned if (under := _conditions(staged, name))],
        }
        for name, entry in first.items()
    ]
    return render("claim_cards.md", cards=cards)


def _found(staged: Staged, name: str) -> dict:
    """What one study found of a claim, with the places of its evidence."""
    study, verdict = staged.selection.study, verdicts_of(staged).get(name)
    entry = study.claims[name]
    strict = bool(entry.strict) and verdict is not None and pd.notna(verdict["strict"])
    return {
        "study": study,
        "entry": entry,
        "verdict": verdict,
        "stated": verdict["stated"] if verdict else NOT_TESTED,
        "strict": verdict["strict"] if strict else (NOT_TESTED if entry.strict else ""),
        "seen": seen_of(name, verdict, study),
        "change": what_would_change(verdict, study.confidence) if strict else "",
        "caveat": study.caveats.get(name, ""),
        "place": staged.places.get(entry.notebook),
        "table": entry.table if RunPaths(study.name).table(entry.table).exists() else "",
        "revisions": revisions(staged.selection),
    }


def what_would_change(verdict: Mapping, confidence: float) -> str:
    """What a further run would have to find for another strict verdict, in one sentence, by rule."""
    strict, margin, by = verdict["strict"], f"{verdict['margin']:g}", f"“{label_of(str(verdict['strict_by']))}”"
    if strict == NO_RISE:
        return "Fine-tuning that surely raises harm and utility: until then there is nothing to keep or remove."
    if strict == NOT_MEASURABLE:
        return f"A run in which {by} can be measured, which these results do not allow."
    if pd.isna(verdict["mean"]):
        return f"A run that measures {by}, which these results do not hold, and more seeds."
    if pd.isna(verdict["low"]):
        return "More seeds: one has no interval over seeds, and a verdict needs a whole interval."
    if strict == "not distinct":
        return (
            f"An interval of {by} that reaches its margin of {margin}; its upper end is {number_of(verdict['high'])}."
        )
    if strict == "distinct":
        low = number_of(verdict["low"])
        return f"An interval of {by} that reaches down to its margin of {margin}; its lower end is {low}."
    seeds = seeds_to_tell(verdict, confidence) if verdict["over"] == "seeds" else None
    many = f"about {seeds} would do if mean and spread stay" if seeds else "the mean is too near for seeds to tell"
    return f"More seeds: the margin of {margin} lies within the interval of {by}; {many}."


def seeds_to_tell(verdict: Mapping, confidence: float) -> int | None:
    """Seeds with which a t interval leaves out the margin, if mean and SD stay; None beyond ``MOST_SEEDS``."""
    seeds = int(verdict["seeds"])
    error = (verdict["high"] - verdict["low"]) / 2 / t_quantile(confidence, seeds - 1)  # of the mean
    sd, distance = error * seeds**0.5, abs(verdict["mean"] - verdict["margin"])
    enough = (n for n in range(seeds + 1, MOST_SEEDS + 1) if t_quantile(confidence, n - 1) * sd / n**0.5 < distance)
    return next(enough, None)


def _conditions(staged: Staged, claim: str) -> dict | None:
    """At how many places of all dials a claim has which strict verdict, and where it is another than at most places."""
    table = RunPaths(staged.selection.study.name).table("conditions_verdicts")
    own = read_csv(table, "conditions_verdicts") if table.exists() else None
    if own is None or own[own["claim"] == claim].empty:
        return None
    own = own[own["claim"] == claim]
    counts = own["strict"].value_counts().to_dict()
    titles = {condition.dial: condition.label for condition in staged.selection.study.conditions}
    labels = {(c.dial, place.at): place.label for c in staged.selection.study.conditions for place in c.places}
    other = own[own["strict"] != max(counts, key=counts.get)].to_dict("records")
    named = [
        {"dial": titles[dial], "at": [labels[dial, row["at"]] for row in rows], "verdict": verdict}
        for (dial, verdict), group in groupby(other, key=lambda row: (row["dial"], row["strict"]))
        for rows in [list(group)]
    ]
    return {"counts": counts, "others": named, "places": len(own), "place": staged.chapters[0].place}
