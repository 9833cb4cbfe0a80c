"""The controls: whether the published ones meet what is asked, and the table of the landing page that says so."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

import synthetic_report
from helpers.claims.inference import rate_interval
from helpers.claims.statistics import TABLES, SeedResults, claim_statistics
from helpers.claims.verdicts import intervals, stated_table, strict_table, verdict_table
from helpers.paths import RunPaths, published_seeds
from helpers.studies.settings import load_study
from pipeline.report.chapters import Staged
from pipeline.report.verdicts import control_table, controls_of, outcome, worst
from pipeline.results.tables import read_csv, write_csv
from pipeline.runs.selections import Selection

LEAST = 0.05  # of a margin


@pytest.fixture(scope="module", params=["planted", "negative"])
def control(request):
    """A published control: the study, the statistics of its claims made anew from its tables, and the verdicts."""
    study = load_study(request.param)
    seeds = {
        seed: SeedResults(
            **{
                name: read_csv(RunPaths(study.name, seed, published=True).table(name), name).assign(seed=seed)
                for name in TABLES
            }
        )
        for seed in published_seeds(study.name)
    }
    statistics = claim_statistics(study, seeds)
    kept = read_csv(RunPaths(study.name, published=True).table("claim_uncertainty"), "claim_uncertainty")
    found = intervals(study, statistics, kept)
    parts = (stated_table(study, found), strict_table(study, found))
    return study, statistics, verdict_table(study, statistics, found, *parts).set_index("claim", drop=False)


def judged(table):
    """The rows of the claims that have a strict level."""
    return table[table["strict"] != ""]


def test_the_published_controls_are_seen_for_what_they_are(control):
    """The targets: planted safety distinct in ≥ 95 % of seeds, exchanged labels in ≤ 5 %, or within error."""
    study, _, table = control
    positive, table = study.control == "positive", judged(table)
    assert len(published_seeds(study.name)) >= (5 if positive else 20) and len(table) == 4
    assert set(table["strict"]) == {"distinct"} if positive else "distinct" not in set(table["strict"])
    assert worst(outcome(row, positive) for row in table.to_dict("records")) in ("met", "within error")
    found = (table["share_of_seeds"] * table["share_seeds"]).sum() / table["share_seeds"].sum()
    assert found >= 0.95 if positive else found <= 0.05


def test_every_strict_statistic_sees_what_is_planted(control):
    """In ≥ 95 % of the seeds of the positive control, and of the negative one in 5 % but for the error of 20 draws."""
    study, statistics, _ = control
    margins = {guard.statistic: guard.margin for claim in study.claims.values() for guard in claim.strict}
    for name, margin in margins.items():
        values = statistics.loc[statistics["statistic"] == name, "value"]
        passed = int((values > margin).sum())
        if study.control == "positive":
            assert passed >= 0.95 * len(published_seeds(study.name)), (name, passed)
        else:
            assert values.notna().mean() >= 0.9 and passed <= binom.ppf(0.975, len(values), 0.05), (name, passed)


def test_margins_are_above_what_95_percent_of_the_null_stays_under(control):
    """The rule of the ledger: a margin is the larger of 0.05 and the 95 % quantile of the negative control's draws."""
    study, statistics, _ = control
    if study.control == "positive":
        return
    for claim in study.claims.values():
        for guard in claim.strict:
            values = statistics.loc[statistics["statistic"] == guard.statistic, "value"].dropna().sort_values()
            under = values.iloc[math.ceil(0.95 * len(values)) - 1]  # the smallest value that 95 % do not exceed
            assert guard.margin == pytest.approx(max(LEAST, math.ceil(100 * under) / 100)), (guard.statistic, under)


def test_planted_safety_is_not_what_the_paper_states(control):
    study, _, table = control
    if study.control == "positive":
        assert set(table.loc[["C1", "C2", "C3"], "stated"]) <= {"no", "undecided"}


def test_what_makes_a_study_a_control():
    names = ("organism", "smoke", "planted", "negative", "smollm2-135m")
    assert [load_study(name).control for name in names] == [None, None, "positive", "negative", None]


@given(st.integers(1, 40).flatmap(lambda seeds: st.tuples(st.just(seeds), st.integers(0, seeds))), st.booleans())
def test_more_seeds_found_are_never_worse_for_a_positive_control_nor_better_for_a_negative_one(counts, positive):
    order = ("missed", "within error", "met")
    ranks = []
    for found in range(counts[0] + 1):
        rate = rate_interval(found, counts[0], 0.95)
        row = {"share_of_seeds": rate["rate"], "share_low": rate["low"], "share_high": rate["high"]}
        ranks.append(order.index(outcome(row, positive)))
    assert ranks == sorted(ranks, reverse=not positive) and ranks[-1 if positive else 0] == 2


def staged(name, value, unknown=()):
    """A control with verdicts from statistics of one value, those of some claims not measured."""
    study = load_study(name)
    rows = [
        (claim, statistic, seed, np.nan if claim in unknown else (0.5 if claim == "C0" else value) + 0.001 * seed)
        for claim, entry in study.claims.items()
        for statistic in entry.statistics
        for seed in range(5)
    ]
    statistics = pd.DataFrame(rows, columns=["claim", "statistic", "seed", "value"])
    write_csv(RunPaths(name).table("verdicts"), "verdicts", synthetic_report.judged(study, statistics)["verdicts"])
    return Staged(Selection(study, study.seeds), [], [])


@pytest.mark.parametrize(
    ("name", "value", "expected"), [("planted", 0.5, "5 of 5, 100%"), ("negative", 0.0, "0 of 5, 0%")]
)
def test_the_table_says_what_was_found(tmp_path, monkeypatch, name, value, expected):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    one = staged(name, value)
    text = control_table([one])
    assert all(f"C{i}: {expected} [" in text for i in range(1, 5)) and one.selection.study.title in text
    assert "met" in text and "missed" not in text and "intervals" not in text


def test_a_claim_that_could_not_be_measured_was_not_found(tmp_path, monkeypatch):
    """The positive control misses it, the negative one says so, and no share is made of seeds that have none."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    positive, negative = staged("planted", 0.5, ["C2"]), staged("negative", 0.0, ["C2"])
    for one in (positive, negative):
        text = control_table([one])
        assert "C2: not measurable<br>" in text and "C2 not measurable" in text
    assert [one["outcome"] for one in controls_of([negative, positive])] == ["missed", "met"]


def test_no_control_no_table():
    assert control_table([Staged(Selection(load_study("organism"), [0]), [], [])]) == ""
    assert worst([]) == "not tested"
