"""The controls: whether the published ones meet what is asked, and the table of the landing page that says so."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.claims.inference import rate_interval
from helpers.claims.statistics import TABLES, SeedResults, claim_statistics
from helpers.claims.verdicts import intervals, stated_table, strict_table, verdict_table
from helpers.paths import RunPaths
from helpers.studies.settings import load_study
from pipeline.report.chapters import Staged
from pipeline.report.verdicts import control_table, outcome, worst
from pipeline.results.tables import SCHEMAS, read_csv, write_csv
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
        for seed in study.seeds
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
    assert len(study.seeds) >= (5 if positive else 20) and len(table) == 4
    assert set(table["strict"]) == {"distinct"} if positive else "distinct" not in set(table["strict"])
    assert worst(outcome(row, positive) for row in table.to_dict("records")) in ("met", "within error")
    found = (table["share_of_seeds"] * table["share_seeds"]).sum() / table["share_seeds"].sum()
    assert found >= 0.95 if positive else found <= 0.05


def test_every_strict_statistic_sees_what_is_planted(control):
    study, statistics, _ = control
    margins = {guard.statistic: guard.margin for claim in study.claims.values() for guard in claim.strict}
    for name, margin in margins.items():
        values = statistics.loc[statistics["statistic"] == name, "value"].dropna()
        passed = (values > margin).mean()
        assert len(values) > len(study.seeds) / 2, name
        assert passed >= 0.95 if study.control == "positive" else passed <= 0.1, (name, passed)


def test_margins_are_above_what_95_percent_of_the_null_stays_under(control):
    """The rule of the ledger: a margin is the larger of 0.05 and the 95 % quantile of the negative control's seeds."""
    study, statistics, _ = control
    if study.control == "positive":
        return
    for claim in study.claims.values():
        for guard in claim.strict:
            values = statistics.loc[statistics["statistic"] == guard.statistic, "value"].dropna().sort_values()
            under = values.iloc[math.ceil(0.95 * len(values)) - 1]  # the smallest value that 95 % do not exceed
            assert guard.margin == max(LEAST, math.ceil(100 * under) / 100), (guard.statistic, under)


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


def test_the_table_says_what_was_found(control, tmp_path, monkeypatch):
    study, _, table = control
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    write_csv(RunPaths(study.name).table("verdicts"), "verdicts", table[list(SCHEMAS["verdicts"])])
    staged = Staged(Selection(study, study.seeds, published=True), [], [])
    text = control_table([staged])
    own = table.loc["C1"]
    expected = f"C1: {round(own['share_of_seeds'] * own['share_seeds'])} of {int(own['share_seeds'])}"
    assert expected in text and study.title in text and "intervals" not in text


def test_no_control_no_table():
    assert control_table([Staged(Selection(load_study("organism"), [0]), [], [])]) == ""
    assert worst([]) == "not tested"
