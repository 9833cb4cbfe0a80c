"""Inference over few seeds: algebra as properties, known values, and intervals that cover a known truth."""

import numpy as np
import pandas as pd
import pytest
from benchmarks import coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from helpers.claims.inference import (
    combine,
    decide,
    decision,
    prompt_weights,
    rate_interval,
)
from helpers.claims.over_seeds import interval
from helpers.claims.power import detectable, effect_needed, power_of, response, seeds_needed

numbers = st.floats(-10, 10).map(lambda x: round(x, 3))
samples = st.integers(2, 8).flatmap(lambda n: arrays(float, n, elements=numbers))
p_values = st.integers(1, 12).flatmap(lambda n: arrays(float, n, elements=st.floats(0, 1)))


def bootstrap(values, ids=None, replicates=2000):
    """The interval of the mean of values (prompts,) per seed, from replicates made as the verdict makes them."""
    names = [i * 1000 + np.arange(len(v)) for i, v in enumerate(values)] if ids is None else ids
    weights = prompt_weights(names, replicates, np.random.default_rng(0))
    drawn = np.array([w @ v for w, v in zip(weights, values, strict=True)])
    return combine(np.array([v.mean() for v in values]), drawn, len(values[0]), 0.95, float(ids is not None))


@given(st.integers(0, 1000), st.integers(3, 6))
@settings(max_examples=20, deadline=None)
def test_with_own_prompts_the_hierarchical_interval_is_the_t_interval(seed, n):
    rng = np.random.default_rng(seed)
    values = [rng.normal(rng.normal(), 1, 60) for _ in range(n)]
    found = bootstrap(values, replicates=50)
    expected = interval([v.mean() for v in values], 0.95)
    assert [found[k] for k in ("mean", "low", "high", "seeds")] == pytest.approx(list(expected.values()))
    assert found["over"] == "seeds" and found["prompts"] == 60


def test_prompt_sd_is_the_standard_error_over_prompts():
    rng = np.random.default_rng(0)
    values = [rng.exponential(size=200) for _ in range(3)]
    expected = np.sqrt(np.mean([stats.sem(v) ** 2 for v in values]))
    assert bootstrap(values)["prompt_sd"] == pytest.approx(expected, rel=0.05)


def test_one_seed_has_an_interval_over_its_prompts_and_says_so():
    values = np.random.default_rng(1).normal(size=100)
    found = bootstrap([values], replicates=4000)
    assert found["over"] == "prompts" and found["seeds"] == 1 and np.isnan(found["seed_sd"])
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, 99) * stats.sem(values), rel=0.05)


def test_two_seeds_have_an_interval_over_the_prompts_of_both_however_far_they_lie_apart():
    rng = np.random.default_rng(1)
    values = [rng.normal(size=100), rng.normal(5, 1, size=100)]
    found = bootstrap(values, replicates=4000)
    assert found["over"] == "prompts" and found["seeds"] == 2 and found["seed_sd"] > 3
    error = np.sqrt(sum(stats.sem(v) ** 2 for v in values)) / 2
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, 99) * error, rel=0.05)
    same = bootstrap([values[0], values[0] + 5], ids=[np.arange(100)] * 2, replicates=4000)  # the same prompts twice
    assert same["high"] - same["mean"] == pytest.approx(stats.t.ppf(0.975, 99) * stats.sem(values[0]), rel=0.05)


def test_shared_prompts_widen_the_interval():
    common = np.random.default_rng(3).normal(size=80)
    values = [common + shift for shift in (0.01, -0.01, 0.0)]
    own, shared = bootstrap(values), bootstrap(values, ids=[np.arange(80)] * 3)
    assert own["high"] - own["low"] < 0.06
    assert shared["high"] - shared["mean"] == pytest.approx(1.99 * stats.sem(common), rel=0.07)


def test_a_prompt_has_one_weight_in_every_seed():
    first, second = prompt_weights([np.array([1, 2, 3]), np.array([3, 2, 9])], 5, np.random.default_rng(0))
    assert first.sum(axis=1) == pytest.approx(1) and second.shape == (5, 3)
    assert first[:, 1] / first[:, 2] == pytest.approx(second[:, 1] / second[:, 0])


def test_without_any_spread_the_interval_is_a_point():
    found = combine(np.ones(3), np.ones((3, 10)), 5, 0.95)
    assert (found["low"], found["high"], found["prompt_sd"]) == (1, 1, 0)


def test_replicates_in_which_nothing_could_be_compared_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2, 4000))
    some = np.where(rng.random(drawn.shape) < 0.5, np.nan, drawn)
    for seeds in (1, 2):
        whole, part = (combine(np.arange(seeds), one[:seeds], 50, 0.95, 1.0) for one in (drawn, some))
        assert part["prompt_sd"] == pytest.approx(whole["prompt_sd"], rel=0.05)
        assert part["high"] - part["low"] == pytest.approx(whole["high"] - whole["low"], rel=0.05)


def test_what_is_known_in_two_of_five_seeds_has_an_interval_over_seeds_and_in_one_has_none():
    """Those seeds were not chosen at random: 0.15 and 0.45 would else be sure to be above 0.1 by their prompts."""
    drawn = np.random.default_rng(0).normal(0, 0.05, (2, 4000)) + [[0.15], [0.45]]
    two = combine(np.array([0.15, 0.45]), drawn, 50, 0.95, seeds=5)
    low, high = stats.t.interval(0.95, 1, 0.3, stats.sem([0.15, 0.45]))
    assert (two["low"], two["high"], two["over"]) == (pytest.approx(low), pytest.approx(high), "seeds")
    assert decision(two, 0.1) == "undecided" != decision(combine(np.array([0.15, 0.45]), drawn, 50, 0.95), 0.1)
    one = combine(np.array([0.45]), drawn[1:], 50, 0.95, seeds=5)
    assert np.isnan([one["low"], one["high"]]).all() and decision(one, 0.1) == "undecided" and one["mean"] == 0.45


@pytest.mark.parametrize("design", coverage.DESIGNS)
def test_the_corrected_interval_covers(design):
    setting = coverage.Setting("normal", design, 5, 50, 1.0)
    rows = {row["method"]: row for row in coverage.coverage(setting, 400, 200, np.random.default_rng(0))}
    assert rows["corrected hierarchical"]["low"] < 0.95 < rows["corrected hierarchical"]["high"]
    if design == "same prompts":
        assert rows["t over seeds"]["high"] < 0.93


@pytest.mark.parametrize("outcome", coverage.OUTCOMES)
def test_the_truth_of_the_simulation_is_its_mean(outcome):
    setting = coverage.Setting(outcome, "own prompts", 4, 50, 1.0)
    values = setting.draw(4000, np.random.default_rng(0))
    assert abs(values.mean() - setting.truth) < 4 * values.mean(axis=(1, 2)).std() / np.sqrt(4000)


@given(samples, numbers, st.floats(0.5, 0.99))
def test_decisions_mirror_each_other(values, margin, confidence):
    opposite = {"distinct": "not distinct", "not distinct": "distinct", "undecided": "undecided"}
    assert decide(-values, -margin, confidence) == opposite[decide(values, margin, confidence)]


def test_decisions():
    assert decide(np.array([1.0, 1.1, 0.9]), 0.2, 0.95) == "distinct"
    assert decide(np.array([0.01, np.nan, -0.01, 0.0]), 0.2, 0.95) == "not distinct"
    assert decide(np.array([0.1, 0.4, 0.2]), 0.2, 0.95) == decide(np.array([9.0]), 0.2, 0.95) == "undecided"


def test_rates_have_exact_intervals():
    assert rate_interval(0, 20, 0.95)["high"] == pytest.approx(1 - 0.025 ** (1 / 20))
    some = stats.binomtest(7, 20).proportion_ci(0.95)
    assert rate_interval(7, 20, 0.95) == {
        "rate": 0.35,
        "low": pytest.approx(some.low),
        "high": pytest.approx(some.high),
    }
    assert rate_interval(20, 20, 0.95) == {"rate": 1, "low": pytest.approx(0.025 ** (1 / 20)), "high": 1}


@given(st.floats(0.01, 3), st.integers(2, 40), st.floats(0.3, 0.95), numbers)
@settings(deadline=None)
def test_the_effect_needed_has_the_power(sd, n, power, margin):
    assert power_of(effect_needed(sd, margin, n, power), sd, margin, n, 0.95) == pytest.approx(power, abs=1e-6)


def test_power_is_that_of_simulated_decisions():
    rng = np.random.default_rng(0)
    said = [decide(rng.normal(0.4, 0.2, 5), 0.1, 0.95) for _ in range(2000)]
    found = rate_interval(said.count("distinct"), 2000, 0.999)
    assert found["low"] < power_of(0.4, 0.2, 0.1, 5, 0.95) < found["high"]
    assert power_of(0.4, 0.0, 0.1, 5, 0.95) == 1 and np.isnan(power_of(0.4, 0.1, 0.1, 1, 0.95))


DIAL = np.linspace(0, 1, 6)


@given(st.floats(0.3, 2), st.floats(0.01, 0.3), st.integers(3, 20))
@settings(max_examples=30, deadline=None)
def test_the_detectable_dial_is_where_the_curve_meets_the_effect_needed(slope, sd, seeds):
    noise = np.resize([-1.0, 0.0, 1.0], (6, 3)) * sd  # pooled SD: sd
    curve = slope * DIAL[:, None] + noise
    found, needed = detectable(DIAL, curve, 0.1, seeds), effect_needed(sd, 0.1, seeds)
    assert np.isnan(found) if needed > slope + 1e-9 else found == pytest.approx(needed / slope)
    if found > 0:
        assert seeds_needed(DIAL, curve, 0.1, found + 1e-6) == seeds


def test_a_smaller_dial_needs_more_seeds_and_one_below_the_margin_cannot_be_found():
    curve = DIAL[:, None] + np.array([-0.1, 0.0, 0.1])
    few, many = (seeds_needed(DIAL, curve, 0.1, dial) for dial in (0.4, 0.2))
    assert few < many and np.isnan(seeds_needed(DIAL, curve, 0.1, 0.05))
    assert np.isnan(detectable(DIAL, 0 * curve, 0.1, 5))
    assert np.isnan(detectable(DIAL, DIAL[:, None], 0.1, 5))  # one seed has no SD


def test_a_response_is_made_monotone_and_missing_seeds_are_left_out():
    dials, means, sd = response([1, 0, 0.5], [[0.8, 1.0], [0.1, np.nan], [0.0, 0.2]])
    assert dials.tolist() == [0, 0.5, 1] and np.all(np.diff(means) >= 0)
    assert sd == pytest.approx(np.std([0.8, 1.0], ddof=1))


def test_the_published_tables_are_whole():
    table = pd.read_csv(coverage.PUBLISHED / "coverage.csv")
    assert len(table) == len(coverage.settings()) * len(coverage.METHODS) and table["draws"].min() >= 1000
    five = table.query("seeds == 5 and design == 'own prompts' and method == 'corrected hierarchical'")
    assert five.query("outcome == 'normal'")["coverage"].between(0.93, 0.97).all()
