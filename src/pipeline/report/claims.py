"""The landing page's table of claims: what was claimed, what was found, how sure one may be, what would be seen."""

import pandas as pd

from helpers.claims.statistics import STATISTICS
from helpers.claims.verdicts import power_with
from helpers.paths import RunPaths
from helpers.studies.ledger import NOT_RECORDED, UNCHANGED, Claim
from helpers.studies.settings import Study
from pipeline.report.staging import Staged
from pipeline.report.templates import render
from pipeline.results.tables import SCHEMAS
from pipeline.runs.notebook import measured_power


def verdict_table(studies: list[Staged]) -> str:
    """A group of rows for each claim, with a row in it for each study, and how to read them; empty without studies."""
    ordered = sorted(studies, key=lambda staged: staged.selection.study.control is not None)
    found = [(staged, *found_by(staged.selection.study)) for staged in ordered]
    power, claims = measured_power(), []
    for name, entry in studies[0].selection.study.claims.items() if studies else ():
        meaning = STATISTICS[entry.distinct.statistic].__doc__.splitlines()[0].rstrip(".") if entry.distinct else ""
        rows = [_row(name, *one, power) for one in found]
        claims.append({"name": name, "entry": entry, "meaning": meaning, "rows": rows})
    return render("verdicts.md", claims=claims, not_recorded=NOT_RECORDED, unchanged=UNCHANGED)


def found_by(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables ``verdicts`` and ``distinct`` of a study by claim; what an older version did not write is empty."""
    return _table(study, "verdicts"), _table(study, "distinct")


def _table(study: Study, name: str) -> pd.DataFrame:
    path = RunPaths(study.name).table(name)
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["claim"])
    return table.reindex(columns=list(SCHEMAS[name])).set_index("claim", drop=False)


def _row(claim: str, staged: Staged, verdicts: pd.DataFrame, distinct: pd.DataFrame, power: pd.DataFrame) -> dict:
    """What one study found of one claim; ``verdict`` and ``effect`` are None where its tables do not have the claim."""
    study = staged.selection.study
    entry = study.claims[claim]
    verdict, effect = (table.loc[claim].to_dict() if claim in table.index else None for table in (verdicts, distinct))
    if effect is not None:
        effect["above"] = round(effect["share_of_seeds"] * effect["seeds"]) if effect["seeds"] else 0
    facts = {"verdict": verdict, "effect": effect, "seen": _seen(claim, entry, effect, power)}
    return {"study": study, "entry": entry, "place": staged.places.get(entry.notebook), **facts}


def _seen(claim: str, entry: Claim, effect: dict | None, power: pd.DataFrame) -> pd.Series | str:
    """The row of table ``power`` on what would have been found with the seeds at hand, or why there is none."""
    name = entry.distinct.statistic if entry.distinct else None
    if effect is None or power[(power["claim"] == claim) & (power["statistic"] == name)].empty:
        return "not measured"
    best = power_with(power, claim, name, int(effect["seeds"]))
    return "too few seeds" if best is None else best
