"""What the first page begins with: one sentence for each study, made by rule from its verdicts, then the conditions."""

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

UNCLEAR = {
    NOT_MEASURABLE: "not measurable",
    NO_RISE: "no sure rise, so no verdict on",
    NOT_TESTED: "not tested",
}
STATED = {"direction": "in direction only", "undecided": "undecided", "no": "not seen"} | UNCLEAR  # beside yes
STRICT = {"undecided": "undecided", "not distinct": "not distinct"} | UNCLEAR  # beside distinct


def answer(studies: list[Staged], missing: list[Study]) -> str:
    """One sentence per study, real models first, then what is not tested, then what the controls say of the method."""
    found = [_sentence(staged) for staged in in_order(studies) if staged.selection.study.control is None]
    own = [study for study in missing if study.model.aligned]  # base and aligned as published, as the paper's are
    others = [study for study in missing if study not in own]
    controls = {one["positive"]: one | {"said": passed(one["rows"])} for one in controls_of(studies)}
    return render("answer.md", found=found, papers=own, others=others, controls=controls)


def _sentence(staged: Staged) -> dict:
    """What one study found, in words: how many claims are seen as stated, and how many are strictly distinct."""
    study, rows = staged.selection.study, verdicts_of(staged)
    stated = {name: rows[name]["stated"] if name in rows else NOT_TESTED for name in study.claims}
    strict = {
        name: rows[name]["strict"] if name in rows and pd.notna(rows[name]["strict"]) else NOT_TESTED
        for name, claim in study.claims.items()
        if claim.strict
    }
    facts = {"stated": counted(stated, "yes", STATED), "strict": counted(strict, "distinct", STRICT)}
    tested = {*stated.values(), *strict.values()} != {NOT_TESTED}
    return {"study": study, "place": staged.places.get("15_verdict"), "seeds": len(staged.selection.seeds)} | {
        "tested": tested,
        "caveated": sorted(study.caveats),
        **facts,
    }


def passed(rows: Iterable[Mapping]) -> str:
    """Of each claim, in how many seeds of a control it was found distinct; in few words where all are alike."""
    shares: dict[str, list[str]] = {}
    for row in rows:
        known = pd.notna(row["share_of_seeds"])
        seeds = int(row["share_seeds"]) if known else 0
        share = f"in {round(row['share_of_seeds'] * seeds)} of {seeds} seeds" if known else "not measurable"
        shares.setdefault(share, []).append(row["claim"])
    if len(shares) == 1:
        return f"every claim {next(iter(shares))}"
    return "; ".join(f"{', '.join(claims)} {share}" for share, claims in shares.items()) or "no claim"


def counted(verdicts: Mapping[str, str], first: str, words: Mapping[str, str]) -> str:
    """How many claims have the verdict that is asked for, and which have another: *2 of 4 (C1, C3); undecided C2*."""
    names = [name for name, verdict in verdicts.items() if verdict == first]
    parts = [f"{len(names) or 'none'} of {len(verdicts)}" + (f" ({', '.join(names)})" if names else "")]
    for verdict, said in words.items():
        if other := [name for name, one in verdicts.items() if one == verdict]:
            parts.append(f"{said} {', '.join(other)}")
    return "; ".join(parts)


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
