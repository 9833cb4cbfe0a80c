"""The controls: whether the published ones meet what is asked, and the table of the landing page that says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.claims.inference import rate_interval
from helpers.claims.statistics import TABLES, SeedResults, claim_statistics
from helpers.claims.verdicts import distinctness, judge_criteria, verdicts
from helpers.paths import RunPaths
from helpers.studies.settings import load_study
from pipeline.report.chapters import Staged
from pipeline.report.verdicts import control_table, outcome, worst
from pipeline.results.tables import read_csv, write_csv
from pipeline.runs.selections import Selection


@pytest.fixture(scope="module", params=["planted", "negative"])
def control(request):
    """A published control: the study, and the statistics of its claims made anew from its published tables."""
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
    return study, claim_statistics(study, seeds)


def test_the_published_controls_are_seen_for_what_they_are(control):
    """The targets: planted safety distinct in ≥ 95 % of seeds, exchanged labels in ≤ 5 %, or within error."""
    study, statistics = control
    table = distinctness(study, statistics)
    positive = study.control == "positive"
    assert len(study.seeds) >= (5 if positive else 20) and len(table) == 4
    assert set(table["decision"]) == {"distinct" if positive else "not distinct"}
    assert worst(outcome(row, positive) for row in table.to_dict("records")) in ("met", "within error")
    found = (table["share_of_seeds"] * table["seeds"]).sum() / table["seeds"].sum()
    assert found >= 0.95 if positive else found <= 0.05


def test_a_criterion_that_a_control_does_not_measure_is_what_decides(control):
    study, statistics = control
    criteria = judge_criteria(study, statistics)
    row = verdicts(study, criteria).set_index("claim").loc["C1"]
    if study.control == "negative":  # it has no Random-K, so nothing can be said of the order
        assert (row["verdict"], row["deciding"]) == ("direction only", "order_top_over_random_k")
    else:
        assert row["verdict"] == "not reproduced"


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
    study, statistics = control
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    write_csv(RunPaths(study.name).table("distinct"), "distinct", distinctness(study, statistics))
    staged = Staged(Selection(study, study.seeds, published=True), [], [])
    text = control_table([staged])
    seeds = len(study.seeds)
    expected = f"C1: {seeds} of {seeds}, 100%" if study.control == "positive" else f"C1: 0 of {seeds}, 0%"
    assert expected in text and study.title in text and "intervals" not in text


def test_no_control_no_table():
    assert control_table([Staged(Selection(load_study("organism"), [0]), [], [])]) == ""
    assert worst([]) == "not tested"
