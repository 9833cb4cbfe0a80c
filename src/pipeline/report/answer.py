"""What the first page begins with, by rule from verdicts: a finding, a sentence for each study, and the conditions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby

import pandas as pd

from helpers.claims.verdicts import NO_RISE, NOT_MEASURABLE, NOT_TESTED
from helpers.paths import RunPaths
from helpers.studies.sections import Condition
from helpers.studies.settings import Study
from pipeline.report.chapters import Staged
from pipeline.report.templates import render
from pipeline.report.verdicts import controls_of, in_order, verdicts_of
from pipeline.results.tables import read_csv

OPEN = {NOT_MEASURABLE: NOT_MEASURABLE, NO_RISE: "without a sure rise to judge", NOT_TESTED: NOT_TESTED}
STRICT = {"distinct": "distinct", "not distinct": "not distinct", "undecided": "undecided"} | OPEN
STATED = {"yes": "as in the paper", "direction": "so in direction only", "undecided": "undecided"}
STATED |= {"no": "not as in the paper"} | OPEN


def answer(studies: list[Staged], missing: list[Study]) -> str:
    """A finding over all studies, one sentence for each, real models first, and what the controls say of the method."""
    found = [_sentence(staged) for staged in in_order(studies) if staged.selection.study.control is None]
    own = [study for study in missing if study.model.aligned]  # base and aligned as published, as the paper's are
    others = [study for study in missing if study not in own]
    controls = {one["positive"]: one | {"said": passed(one["rows"])} for one in controls_of(studies)}
    finding = finding_of({one["study"].title: one["strict"].values() for one in found if one["tested"]})
    return render("answer.md", finding=finding, found=found, papers=own, others=others, controls=controls)


def finding_of(verdicts: Mapping[str, Iterable[str]]) -> dict:
    """What the strict tests of all models together say, by the model's title: a word, and how many of them say what.

    ``only``: the model that all tests that say no are of, if it is one of several.
    """
    by_model = {title: Counter(found) for title, found in verdicts.items()}
    counts = sum(by_model.values(), Counter())
    yes, no, tests = counts["distinct"], counts["not distinct"], counts.total()
    sure = [title for title, found in by_model.items() if found["not distinct"]]
    if not tests:
        word = "Not tested yet."
    elif yes:
        word = "Yes, in every test." if yes == tests else "In part."
    else:
        some = "most" if 2 * (tests - no) > tests else "some"
        word = "No." if no == tests else f"No safety subspace was found, but {some} tests cannot tell."
    only = sure[0] if len(sure) == 1 < len(by_model) else ""
    facts = {"tests": tests, "yes": yes, "no": no, "open": tests - yes - no, "undecided": counts["undecided"]}
    return {"word": word, "only": only, "models": len(by_model)} | facts


def _sentence(staged: Staged) -> dict:
    """What one study found, in words: which claims are strictly distinct, and how many are seen as stated."""
    study, rows = staged.selection.study, verdicts_of(staged)
    stated = {name: rows[name]["stated"] if name in rows else NOT_TESTED for name in study.claims}
    strict = {
        name: rows[name]["strict"] if name in rows and pd.notna(rows[name]["strict"]) else NOT_TESTED
        for name, claim in study.claims.items()
        if claim.strict
    }
    tested = {*stated.values(), *strict.values()} != {NOT_TESTED}
    facts = {"strict": strict, "said": counted(strict, STRICT), "stated": counted(stated, STATED), "tested": tested}
    names = {"study": study, "kind": kind_of(study), "caveated": sorted(study.caveats), "comparisons": len(stated)}
    return names | facts | {"place": staged.places.get("15_verdict"), "seeds": len(staged.selection.seeds)}


def kind_of(study: Study) -> str:
    """What sort of model a study is about, in a few words."""
    if study.kind == "organism":
        return "a tiny model, trained here on an invented language"
    return "base and aligned as published" if study.model.aligned else "a real base model, aligned here"


def passed(rows: Iterable[Mapping]) -> str:
    """Which tests find something, in how many seeds of a control; in few words where all say the same."""
    hits: dict[str, tuple[int, int]] = {}
    for row in rows:
        seeds = int(row["share_seeds"]) if pd.notna(row["share_of_seeds"]) else 0
        hits[row["claim"]] = (round(row["share_of_seeds"] * seeds) if seeds else 0, seeds)
    known = sorted({seeds for _, seeds in hits.values()})
    span = " to ".join(str(seeds) for seeds in dict.fromkeys(known[:1] + known[-1:]))
    if known and known[0] and all(seen == seeds for seen, seeds in hits.values()):
        return f"every test finds one, in each of {span} seeds"
    if known and known[0] and not any(seen for seen, _ in hits.values()):
        return f"no test finds one, in {span} seeds"
    said = [
        f"{claim} finds one in {seen} of {seeds} seeds" if seeds else f"{claim} cannot be measured"
        for claim, (seen, seeds) in hits.items()
    ]
    return "; ".join(said) or "no test was made"


def counted(verdicts: Mapping[str, str], words: Mapping[str, str]) -> str:
    """How many tests have which verdict: *3 not distinct, 1 undecided*."""
    counts = Counter(verdicts.values())
    return ", ".join(f"{counts[one]} {said}" for one, said in words.items() if counts[one])


def conditions(turned: Iterable[Staged]) -> str:
    """Under which conditions each claim is distinct, of studies that turn dials: from ``conditions_verdicts``."""
    parts = []
    for staged in turned:
        study = staged.selection.study
        table = read_csv(RunPaths(study.name).table("conditions_verdicts"), "conditions_verdicts")
        dials = [_dial(condition, table[table["dial"] == condition.dial]) for condition in study.conditions]
        facts = {"claims": list(table["claim"].unique()), "seeds": len(staged.selection.seeds)}
        parts.append(render("conditions.md", dials=dials, place=staged.chapters[0].place, **facts))
    return "\n".join(parts)


def _dial(condition: Condition, rows: pd.DataFrame) -> dict:
    """One dial: its label, and each claim's strict verdicts from one end to the other, equal neighbours as one."""
    labels, runs = {place.at: place.label for place in condition.places}, {}
    for claim, own in rows.groupby("claim", sort=False):
        verdicts = dict(zip(own["at"], own["strict"], strict=True))
        runs[claim] = []
        for verdict, group in groupby(labels, key=verdicts.get):
            ends = [labels[at] for at in group]
            runs[claim].append({"verdict": verdict, "from": ends[0], "to": ends[-1]})
    return {"name": condition.label, "runs": runs}
