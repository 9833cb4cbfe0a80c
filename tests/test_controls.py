"""The controls: whether the published ones meet what is asked, and the table of the landing page that says so."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.claims.inference import rate_interval
from helpers.claims.statistics import TABLES, SeedResults, claim_statistics
from helpers.paths import RunPaths
from helpers.studies.settings import load_study
from pipeline.report.chapters import Staged
from pipeline.report.verdicts import control_table, controls_of, outcome, worst
from pipeline.results.tables import read_csv, write_csv
from pipeline.runs.selections import Selection
from synthetic_report import judged


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
    """Planted safety passes every margin in ≥ 95 % of seeds, two tasks of one form in ≤ 5 %, or within error."""
    study, statistics = control
    positive = study.control == "positive"
    verdicts = judged(study, statistics)["verdicts"].query("strict != ''")
    assert len(study.seeds) >= (5 if positive else 20) and len(verdicts) == 4
    assert worst(outcome(row, positive) for row in verdicts.to_dict("records")) in ("met", "within error")
    assert set(verdicts["strict"]) == {"distinct"} if positive else "distinct" not in set(verdicts["strict"])


def test_every_margin_is_above_what_nothing_gives(control):
    """What the ledger says of its margins: 95 % of the seeds of the negative control stay under each, or within error.

    And no margin is as high as what is planted: the positive control passes each in all but 5 % of its seeds.
    """
    study, statistics = control
    for name, claim in study.claims.items():
        for guard in claim.strict:
            own = statistics[(statistics["claim"] == name) & (statistics["statistic"] == guard.statistic)]["value"]
            above = rate_interval(int((own > guard.margin).sum()), len(own), study.confidence)
            if study.control == "positive":
                assert above["high"] >= 0.95, (name, guard.statistic)
            elif len(claim.strict) == 1:  # of several the seeds must pass all: what is asked of them together is above
                assert above["low"] <= 0.05, (name, guard.statistic)


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
    write_csv(RunPaths(name).table("verdicts"), "verdicts", judged(study, statistics)["verdicts"])
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
