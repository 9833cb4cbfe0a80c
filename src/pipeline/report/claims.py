"""The landing page's table of claims: what was claimed, what was found, how sure one may be, what would be seen."""

import html
import math

import pandas as pd

from helpers.claims.statistics import STATISTICS
from helpers.claims.verdicts import NOT_TESTED, power_with
from helpers.paths import RunPaths
from helpers.studies.ledger import NOT_RECORDED, UNCHANGED, Claim
from helpers.studies.settings import Study
from pipeline.report.html import Html, link, rows_of
from pipeline.report.staging import Staged
from pipeline.results.tables import SCHEMAS
from pipeline.runs.notebook import measured_power

HEADS = ("Study and its evidence", "Verdict", "Distinct?", "Effect over seeds", "Would be seen from")
READING = """**How to read it.** *Verdict*: whether the paper's finding is seen again, with the weakest of the criteria
that decide it; a control has none, for it is made to be distinct, or not to be. *Distinct?*: whether what the claim
speaks of can be told apart: *distinct* if the whole interval of the effect lies above the margin, *not distinct* if all
of it lies below; *undecided* if it holds the margin, so that more seeds or a larger effect would be needed. *Would be
seen from*: how much of a planted safety subspace, from 0 (nothing) to 1 (all of it), the method finds distinct with so
many seeds, and how large its effect must be, both measured on the embedded model; less than that can be there and go
unseen. The claims with their criteria and margins, and what was changed in them, when and why, are in {ledger} and in
[the method](#criteria).
"""

NONE = Html('<span class="none">–</span>')


def verdict_table(studies: list[Staged]) -> str:
    """A group of rows for each claim, with a row in it for each study, and how to read them; empty without studies."""
    if not studies:
        return ""
    ordered = sorted(studies, key=lambda staged: staged.selection.study.control is not None)
    found = [(staged, found_by(staged.selection.study)) for staged in ordered]
    power, groups = measured_power(), []
    for claim, entry in studies[0].selection.study.claims.items():
        head = f'<tr class="claim"><th scope="rowgroup" colspan="{len(HEADS)}">{_claim(claim, entry)}</th></tr>'
        rows = rows_of([_row(staged, claim, tables, power) for staged, tables in found], HEADS)
        groups.append(f"<tbody>{head}\n{rows}</tbody>\n")
    heads = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
    inside = f"<thead><tr>{heads}</tr></thead>\n{''.join(groups)}"
    reading = READING.format(ledger=link("claims.yml", "claims.yml"))
    return f'<div class="wide"><table class="table verdicts">{inside}</table></div>\n\n{reading}'


def found_by(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables ``verdicts`` and ``distinct`` of a study by claim; what an older version did not write is empty."""
    return _table(study, "verdicts"), _table(study, "distinct")


def _table(study: Study, name: str) -> pd.DataFrame:
    path = RunPaths(study.name).table(name)
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["claim"])
    return table.reindex(columns=list(SCHEMAS[name])).set_index("claim", drop=False)


def _claim(name: str, entry: Claim) -> Html:
    """What was claimed, and what would be found if it were otherwise."""
    said = f"<strong>{name}</strong> {html.escape(entry.statement)}<br><small>The paper: {html.escape(entry.paper)}"
    if entry.distinct is not None:
        meaning = STATISTICS[entry.distinct.statistic].__doc__.splitlines()[0].rstrip(".")
        said += f"<br>Distinct would be an effect above {entry.distinct.margin:g}. Effect: {html.escape(meaning)}."
    return Html(f"{said}</small>")


def _row(staged: Staged, claim: str, found: tuple[pd.DataFrame, pd.DataFrame], power: pd.DataFrame) -> list[Html]:
    """What one study found of one claim."""
    study, (verdicts, distinct) = staged.selection.study, found
    entry = study.claims[claim]
    place = staged.places.get(entry.notebook)
    title = link(f"{place}.html", study.title) if place else Html(html.escape(study.title))
    verdict = verdicts.loc[claim] if claim in verdicts.index else None
    effect = distinct.loc[claim] if claim in distinct.index else None
    said = Html(f"<small>{study.control} control</small>") if study.control else _verdict(verdict)
    return [title, said, *_effect(entry, effect, verdict), _seen(claim, entry, effect, power)]


def _verdict(row: pd.Series | None) -> Html:
    """Verdict, what decided it and what was asked of that, and a mark if the criteria are not those of the results."""
    if row is None or row["verdict"] == NOT_TESTED:
        return badge(NOT_TESTED)
    value = NOT_TESTED if math.isnan(row["mean"]) else with_interval(row)
    asked = f"{row['deciding'].replace('_', ' ')}: {value}; asked: {row['criterion']}"
    then = NOT_RECORDED if pd.isna(row["ledger_then"]) else row["ledger_then"]
    marks = {UNCHANGED: "", NOT_RECORDED: "<br>criteria not recorded with the results"}
    mark = marks.get(then, f"<br><strong>criteria {html.escape(then)}</strong>")
    return Html(f"{badge(row['verdict'])}<br><small>{html.escape(asked)}{mark}</small>")


def _effect(entry: Claim, row: pd.Series | None, verdict: pd.Series | None) -> list[Html]:
    """Whether it is distinct, and the effect with its interval; of a claim that has no such question, dashes."""
    if entry.distinct is None:
        return [NONE, NONE]
    if row is None:
        return [badge(NOT_TESTED if verdict is None else NOT_RECORDED), NONE]
    seeds = int(row["seeds"])
    above = round(row["share_of_seeds"] * seeds) if seeds else 0
    small = f"{seeds} seed{'' if seeds == 1 else 's'}, {above} above {row['margin']:g}"
    return [
        badge(row["decision"]),
        Html(f'<span class="effect">{html.escape(with_interval(row))}</span><br><small>{small}</small>'),
    ]


def _seen(claim: str, entry: Claim, row: pd.Series | None, power: pd.DataFrame) -> Html:
    """The smallest separability that the graded control says would have been found with the seeds at hand."""
    if entry.distinct is None:
        return NONE
    name = entry.distinct.statistic
    if row is None or power[(power["claim"] == claim) & (power["statistic"] == name)].empty:
        return Html("<small>not measured</small>")
    best = power_with(power, claim, name, int(row["seeds"]))
    if best is None:
        return Html("<small>too few seeds</small>")
    least = "none" if math.isnan(best["smallest_detectable"]) else number(best["smallest_detectable"], 2)
    small = f"an effect of {number(best['effect'], 2)}; {best['power']:.0%} power, {int(best['seeds'])} seeds"
    return Html(f"{least}<br><small>{small}</small>")


def badge(verdict: str) -> Html:
    """A verdict as a coloured word."""
    return Html(f'<span class="verdict verdict-{html.escape(verdict.replace(" ", "-"))}">{html.escape(verdict)}</span>')


def with_interval(row: pd.Series) -> str:
    """A mean and, where there are several seeds, its interval."""
    interval = "" if math.isnan(row["low"]) else f" [{number(row['low'])}, {number(row['high'])}]"
    return number(row["mean"]) + interval


def number(value: float, decimals: int = 3) -> str:
    """A rounded number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")
