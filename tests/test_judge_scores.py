"""Judge scores as a distribution, and published values that are shown beside ours and judge nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers.claims.judge_scores import are_whole, middle, score_shares
from helpers.claims.second_hand import SAID, beside_ours
from helpers.experiments.updates import behaviour_rows
from helpers.paths import NOTEBOOKS
from pipeline.results import tables
from pipeline.runs.code import sources_of

GIVEN = {"aligned": [1] * 8 + [2, 5], "harmful": [5] * 6 + [4, 3, 1]}  # a tenth reply of the last could not be read


def behaviour() -> pd.DataFrame:
    """The table of two models and two seeds, as notebook 3 makes it from scores."""
    rows = []
    for name, given in GIVEN.items():
        scores = np.array(given + [np.nan] * (10 - len(given)))
        rates = {f"harm_rate{n}": np.where(np.isnan(scores), np.nan, scores == n) for n in range(1, 6)}
        rows += behaviour_rows(name, rates | {"harm": scores})
    return pd.concat([pd.DataFrame(rows).assign(seed=seed) for seed in (0, 1)], ignore_index=True)


def test_scores_are_counted_with_exact_intervals():
    found = score_shares(behaviour(), 0.9)
    assert list(found) == list(tables.SCHEMAS["judge_scores"]) and len(found) == 2 * 2 * 5 and are_whole(found)
    for row in found.itertuples():
        given = GIVEN[row.model]
        ends = binomtest(given.count(row.score), len(given)).proportion_ci(0.9, "exact")
        assert (row.answers, row.of) == (given.count(row.score), len(given))
        assert (row.share, row.low, row.high) == pytest.approx((row.answers / row.of, ends.low, ends.high))
    assert middle(found)["mean"].tolist() == pytest.approx([1 / 10, 2 / 9] * 2)


def test_results_from_before_have_their_fives_alone():
    old = behaviour().query("measure in ['harm', 'harm_rate5']")
    found = score_shares(old, 0.95)
    assert set(found["score"]) == {5} and not are_whole(found) and middle(found).empty


def test_a_model_of_which_no_reply_could_be_read_has_no_share():
    row = behaviour_rows("base", {"harm_rate5": np.array([np.nan, np.nan])})
    (found,) = score_shares(pd.DataFrame(row).assign(seed=0), 0.95).itertuples()
    assert math.isnan(found.share) and (found.answers, found.of, found.low, found.high) == (0, 0, 0, 1)


def test_published_values_stand_beside_ours_in_one_study_and_judge_nothing():
    """Ours are found by measure, control and k; the whole update is the end of the scaling curve."""
    where = {"subspace": "alignment", "task": "contaminated", "measure": "harm"}
    other = {"subspace": "safety", "control": "top-k", "fraction": 0.5, "mean": 4.0}
    summary = pd.DataFrame([where | {"control": "top-k", "fraction": 0.5, "mean": 2.5}, where | other])
    curve = {"alpha": [0.0, 1.0], "utility": [0.1, 0.7], "harm": [1.0, 3.0]}
    scaling = pd.DataFrame(curve).assign(task="contaminated")
    found = beside_ours("qwen2.5-1.5b", summary, scaling)
    ours = found.dropna(subset="ours").set_index(["measure", "control", "fraction"])["ours"].to_dict()
    whole = {"utility": 0.7, "harm": 3.0}
    ends = {(measure, control, 1.0): whole[measure] for measure in whole for control in ("top-k", "random")}
    assert ours == ends | {("harm", "top-k", 0.5): 2.5}
    assert beside_ours("qwen2.5-3b", summary, scaling).empty and "no first-hand table could be read" in SAID
    readers = {path.stem: {source.name for source in sources_of(path.stem)} for path in NOTEBOOKS.glob("*.ipynb")}
    assert [name for name, sources in readers.items() if "second_hand.py" in sources] == ["11_C1_parallel"]


def test_published_values_have_the_pattern_that_the_paper_reports():
    """Top-K above Random in both at every k below the whole, where they are one; all rise with k, but for one step."""
    columns = ["subspace", "task", "measure", "control", "fraction", "mean", "alpha", "utility", "harm"]
    empty = pd.DataFrame(columns=columns)
    wide = beside_ours("qwen2.5-1.5b", empty, empty).pivot(
        index=["measure", "fraction"], columns="control", values="second-hand"
    )
    above = wide["top-k"] - wide["random"]
    assert (above.drop(1.0, level="fraction") > 0).all() and (above.xs(1.0, level="fraction") == 0).all()
    assert (wide.groupby("measure").diff().dropna() < 0).sum().sum() == 1
