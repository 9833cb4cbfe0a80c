"""What the first page begins with: one sentence for each study, made by rule from its verdicts, then the conditions."""

from collections.abc import Mapping
from itertools import groupby

import pandas as pd

from helpers.claims.inference import decision
from helpers.claims.verdicts import FOUND, NO_RISE, NOT_MEASURABLE, NOT_TESTED, gate, judged_strict
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from pipeline.report.chapters import Staged
from pipeline.report.templates import render
from pipeline.report.verdicts import controls_of, in_order, verdicts_of

CONDITIONS = "conditions"  # the study that turns one dial at a time, if it has run
UNCLEAR = {NOT_MEASURABLE: "not measurable", NO_RISE: "no verdict, as nothing rose", NOT_TESTED: "not tested"}
STATED = {"direction": "in direction only", "undecided": "undecided", "no": "not seen"} | UNCLEAR  # beside yes
STRICT = {"undecided": "undecided", "not distinct": "not distinct"} | UNCLEAR  # beside distinct


def answer(studies: list[Staged], missing: list[Study]) -> str:
    """One sentence per study, real models first, then what is not tested, then what the controls say of the method."""
    found = [_sentence(staged) for staged in in_order(studies) if staged.selection.study.control is None]
    own = [study for study in missing if study.model.aligned]  # base and aligned as published, as the paper's are
    others = [study for study in missing if study not in own]
    controls = {control["positive"]: control for control in controls_of(studies)}
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


def counted(verdicts: Mapping[str, str], first: str, words: Mapping[str, str]) -> str:
    """How many claims have the verdict that is asked for, and which have another: *2 of 4 (C1, C3); undecided C2*."""
    names = [name for name, verdict in verdicts.items() if verdict == first]
    parts = [f"{len(names) or 'none'} of {len(verdicts)}" + (f" ({', '.join(names)})" if names else "")]
    for verdict, said in words.items():
        if other := [name for name, one in verdicts.items() if one == verdict]:
            parts.append(f"{said} {', '.join(other)}")
    return "; ".join(parts)


def conditions(study: Study | None = None, table: pd.DataFrame | None = None) -> str:
    """Under which conditions each claim is distinct, from the table ``conditions_summary``; empty without one.

    ``study``: whose ledger has the margins.
    """
    found = _conditions_table() if table is None else table
    if study is None or found is None or found.empty:
        return ""
    dials = [_dial(study, name, rows) for name, rows in found.groupby("dial", sort=False)]
    claims = [name for name, claim in study.claims.items() if claim.strict]
    return render("conditions.md", dials=dials, claims=claims, seeds=int(found["seeds"].max()))


def _conditions_table() -> pd.DataFrame | None:
    for published in (False, True):
        path = RunPaths(CONDITIONS, published=published).table("conditions_summary")
        if path.exists():
            return pd.read_csv(path)
    return None


def _dial(study: Study, name: str, rows: pd.DataFrame) -> dict:
    """One dial: its label, and each claim's strict verdicts from one end to the other, equal neighbours as one."""
    labels = rows.drop_duplicates("at").set_index("at")["label"]
    named = labels.nunique() > 1  # each place has a label of its own
    places = {at: str(labels[at]) if named else f"{at:g}" for at in sorted(labels.index)}
    verdicts = {at: _strict_at(study, rows[rows["at"] == at]) for at in places}
    runs = {}
    for claim in study.claims:
        runs[claim] = []
        for verdict, group in groupby(places, key=lambda at, claim=claim: verdicts[at].get(claim, NOT_TESTED)):
            ends = [places[at] for at in group]
            runs[claim].append({"verdict": verdict, "from": ends[0], "to": ends[-1]})
    return {"name": name if named else labels.iloc[0], "runs": runs}


def _strict_at(study: Study, rows: pd.DataFrame) -> dict[str, str]:
    """The strict verdict on every claim at one place of a dial, by the rule that all studies are judged by."""
    found = rows.assign(over="seeds").set_index(["claim", "statistic"])[FOUND]
    gated = any((name, one) in found.index for name, claim in study.claims.items() for one in claim.gate)
    if gated and not gate(study, found):
        return dict.fromkeys(study.claims, NO_RISE)
    verdicts = {}
    for name, claim in study.claims.items():
        own = [guard for guard in claim.strict if (name, guard.statistic) in found.index]
        judged = pd.DataFrame(
            {"statistic": guard.statistic, "margin": guard.margin, **found.loc[(name, guard.statistic)].to_dict()}
            for guard in own
        )
        if own:
            decisions = [decision(row, row["margin"]) for row in judged.to_dict("records")]
            verdicts[name] = judged_strict(judged.assign(decision=decisions))["strict"]
    return verdicts
