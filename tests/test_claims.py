"""Statistics over seeds, matched comparisons, criteria and verdicts, on tables whose truth is known."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers.claims.matched import excess, scaled_at, shares
from helpers.claims.over_seeds import interval, over_seeds, share
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults, claim_statistics
from helpers.claims.verdicts import (
    NOT_TESTED,
    distinctness,
    judge_criteria,
    outcome,
    power_with,
    verdicts,
)
from helpers.evaluation.measures import GRID_MEASURES, MEASURES
from helpers.paths import RunPaths
from helpers.studies.ledger import Criterion
from helpers.studies.settings import load_study
from pipeline.results.tables import SCHEMAS, write_csv
from pipeline.runs.notebook import measured_power

STUDY = load_study("organism")
ALPHAS = np.linspace(0, 1, 11)
VALUES = {  # of every statistic, in the world of the test that uses them
    "harm_of_aligned": 1.0,
    "harm_of_harmful": 5.0,
    "harm_rise_contaminated": 4.0,
    "utility_rise_useful": 0.5,
    "utility_rise_contaminated": 0.5,
    "top_k_gain_utility": 0.233624,
    "top_k_gain_harm": 0.233624,
    "parallel_selectivity": 0.0,
    "order_top_over_random_k": 0.183624,
    "order_random_k_over_random": 0.05,
    "energy_gap_useful_harmful": 0.0,
    "gain_gap_at_matched_energy": 0.0,
    "extra_harm_removed_margin": 0.45,
    "extra_harm_removed_judge": 0.45,
    "extra_harm_removed_above_random": 0.45,
    "harm_removed_alone": 0.75,
    "overlap_useful_harmful_minus_alignment_harmful": 0.15,
    "overlap_useful_harmful_minus_safety_harmful": 0.3,
    "overlap_alignment_harmful_minus_useful_harmful": -0.15,
    "overlap_useful_harmful_above_random": 0.5,
    "activation_harmful_minus_useful": 0.0,
    "activation_harmful_minus_benign": 0.0,
    "activation_useful_above_random": 0.6,
}


def measures(utility, harm):
    """All grid measures of a variant whose shares of utility and harm gain are given."""
    return {
        "utility": 0.4 + 0.5 * utility,
        "utility_margin": -1 + 0.9 * utility,
        "harm": 1 + 4 * harm,
        "harm_rate5": harm,
        "harm_margin": -9 + 19 * harm,
    }


def scaling(seed, tasks=("useful", "harmful", "contaminated")):
    """A scaling curve along which both gains grow with alpha; each fine-tuning changes what it is for."""
    rows = [
        {
            "seed": seed,
            "task": t,
            "alpha": a,
            "energy_kept": a**2,
            **measures(a * (t != "harmful"), a * (t != "useful")),
        }
        for t in tasks
        for a in ALPHAS
    ]
    return pd.DataFrame(rows)


def projection(seed, left, inside):
    """Variants of a world where orthogonal Top-K leaves shares ``left(f)`` and parallel Top-K keeps ``inside(f)``."""
    rows = []
    for subspace in ("alignment", "safety"):
        for control in ("top-k", "random-k", "random"):
            for f in STUDY.projection.fractions:
                where = {"seed": seed, "subspace": subspace, "control": control, "draw": 0, "fraction": f}
                kept = {"top-k": inside(f), "random-k": 0.9 * f, "random": 0.8 * f}[control]
                for task, u, h in (("useful", kept, 0), ("harmful", 0, kept), ("contaminated", kept, kept)):
                    rows.append({**where, "mode": "parallel", "task": task, "energy_kept": kept**2, **measures(u, h)})
                u, h = left(f) if control == "top-k" else (1 - f, 1 - f)
                row = {**where, "mode": "orthogonal", "task": "contaminated", "energy_kept": 1 - f, **measures(u, h)}
                rows.append(row)
    return pd.DataFrame(rows)


def results(seed, left=lambda f: (1 - f, 1 - f), inside=lambda f: f**0.5, special=0.0):
    """Tables of one seed of a world that is entangled unless ``left`` or ``special`` say otherwise."""
    ends = {
        "base": (0.2, 1), "aligned": (0, 0), "useful": (1, 0), "harmful": (0, 1), "contaminated": (1, 1),
        "safety": (0, 0),
    }  # fmt: skip
    behaviour = [
        {"seed": seed, "model": m, "measure": k, "value": v} for m, e in ends.items() for k, v in measures(*e).items()
    ]
    energy = [
        {"seed": seed, "subspace": "alignment", "control": "top-k", "task": t, "module": "all", "fraction": f,
         "energy_kept": f**0.5} for t in ("useful", "harmful") for f in (0.1, 0.5)
    ]  # fmt: skip
    updates = [
        {"seed": seed, "a": a, "b": b, "eta": 0.5, "mso": m + 0.001 * seed, "random": 0.1}
        for a, b, m in (("useful", "harmful", 0.6), ("alignment", "harmful", 0.4 + special), ("safety", "harmful", 0.3))
    ]
    activations = [
        {"seed": seed, "model": "aligned", "in_band": True, "pair": p, "mso": 0.8 + 0.001 * seed, "random": 0.2}
        for p in ("useful-harmful", "benign-harmful", "harmful-harmful")
    ]
    tables = [behaviour, projection(seed, left, inside), scaling(seed), energy, updates, activations]
    return SeedResults(*map(pd.DataFrame, tables))


def judged(**world):
    """Verdict per claim of a world with five seeds."""
    statistics = claim_statistics(STUDY, {seed: results(seed, **world) for seed in range(5)})
    return verdicts(STUDY, judge_criteria(STUDY, statistics)).set_index("claim")["verdict"].to_dict()


def test_an_entangled_world_reproduces_every_claim():
    world = judged(inside=lambda f: 0.5 + 0.5 * f)
    assert world == dict.fromkeys(("C0", "C2", "C3", "C4"), "reproduced") | {"C1": "reproduced"}


def test_a_separable_world_contradicts_c2():
    assert judged(left=lambda f: (1.0 - 0.3 * f, 0.0))["C2"] == "not reproduced"


def test_a_special_overlap_contradicts_c3():
    assert judged(special=0.4)["C3"] == "not reproduced"


def removal(left, energy=lambda f: 1 - f, harm="harm_margin"):
    """Extra harm removed in a world where orthogonal Top-K leaves shares ``left(f)`` and that much energy."""
    world = results(0, left)
    orthogonal = (world.projection["mode"] == "orthogonal") & (world.projection["control"] == "top-k")
    world.projection.loc[orthogonal, "energy_kept"] = world.projection.loc[orthogonal, "fraction"].map(energy)
    return STATISTICS[{"harm_margin": "extra_harm_removed_margin", "harm": "extra_harm_removed_judge"}[harm]](world)


@pytest.mark.parametrize("harm", ["harm_margin", "harm"])
def test_extra_harm_removed_of_worlds_that_are_known(harm):
    """The positive control that the rule of before could not see, and worlds without anything to see."""
    assert removal(lambda f: (1.0, 0.0), harm=harm) == pytest.approx(1)  # a perfect plant
    assert removal(lambda f: (1.2, 0.0), harm=harm) == pytest.approx(1)  # utility beyond the curve: its end
    assert removal(lambda f: (1 - f, 1 - f), harm=harm) == pytest.approx(0)  # plain scaling
    assert removal(lambda f: (1.0, 1.0), lambda f: 1.0, harm=harm) == 0  # nothing removed
    assert removal(lambda f: (1.0, 0.0), lambda f: 0.995, harm=harm) == 0  # too little to speak of removal
    assert removal(lambda f: (0.0, 0.0), harm=harm) == 0  # nothing left to be selective about
    assert removal(lambda f: (1.0, 1.0), harm=harm) == pytest.approx(0)  # energy removed, no effect
    assert removal(lambda f: (0.0 if f > 0.5 else 0.5, 0.0), harm=harm) == pytest.approx(0.5)  # the rest are left out


def test_parallel_selectivity_is_harm_kept_beyond_utility_kept():
    kept = results(0)
    harmful = (kept.projection["mode"] == "parallel") & (kept.projection["task"] == "harmful")
    assert STATISTICS["parallel_selectivity"](kept) == pytest.approx(0)
    top = harmful & (kept.projection["control"] == "top-k")
    columns = list(measures(0, 1))
    moved = kept.projection.copy()
    moved.loc[top, columns] = list(measures(0, 1).values())  # all harm lies inside, for every k
    fractions = np.array(STUDY.projection.fractions)
    kept = replace(kept, projection=moved)
    assert STATISTICS["parallel_selectivity"](kept) == pytest.approx(np.mean(1 - fractions**0.5))


def decided(**world):
    """Decision on distinctness per claim of a world with five seeds."""
    statistics = claim_statistics(STUDY, {seed: results(seed, **world) for seed in range(5)})
    return distinctness(STUDY, statistics).set_index("claim")["decision"].to_dict()


def test_an_entangled_world_is_not_distinct_and_a_separable_one_is():
    assert decided() == dict.fromkeys(("C1", "C2", "C3", "C4"), "not distinct")
    assert decided(left=lambda f: (1.0, 0.0))["C2"] == "distinct"
    assert decided(special=0.4)["C3"] == "distinct"


def test_a_decision_comes_with_its_rate_and_its_corrected_p_value():
    values = {"C1": [0.2, 0.3, 0.25, 0.1], "C2": [0.5, 0.6, 0.55, 0.52], "C3": [0.0, 0.0, 0.0, 0.0], "C4": [0.3] * 4}
    rows = [
        {
            "study": "organism",
            "claim": claim,
            "statistic": STUDY.claims[claim].distinct.statistic,
            "seed": s,
            "value": v,
        }
        for claim, column in values.items()
        for s, v in enumerate(column)
    ]
    table = distinctness(STUDY, pd.DataFrame(rows)).set_index("claim")
    assert table["share_of_seeds"].to_dict() == {"C1": 0.75, "C2": 1.0, "C3": 0.0, "C4": 1.0}
    assert (table["share_low"] <= table["share_of_seeds"]).all() and (
        table["share_of_seeds"] <= table["share_high"]
    ).all()
    assert table.loc["C2", "p"] == pytest.approx(1 / 16)  # one of the sixteen ways to choose four signs
    assert (table["p_holm"] >= table["p"]).all() and table.loc["C2", "p_holm"] == pytest.approx(4 / 16)
    assert table.loc["C2", "g"] > table.loc["C1", "g"] > 0


def test_one_seed_decides_nothing_about_distinctness():
    table = distinctness(STUDY, claim_statistics(STUDY, {0: results(0, left=lambda f: (1.0, 0.0))}))
    assert set(table["decision"]) == {"undecided"} and table.set_index("claim").loc["C2", "share_of_seeds"] == 1


def test_every_value_of_a_known_world_is_as_it_was():
    """If this fails, a statistic's definition has changed: enter it under ``changes`` in claims.yml, then here."""
    world = results(0, left=lambda f: (1 - 0.3 * f, 0.7 - 0.6 * f), special=0.05)
    found = {name: round(function(world), 6) for name, function in STATISTICS.items()}
    assert found == VALUES


def test_the_power_of_a_control_is_that_of_the_seeds_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))
    assert measured_power().empty
    path = RunPaths("planted", published=True).table("power")
    rows = [("C2", "extra", 3, 0.4), ("C2", "extra", 5, 0.2), ("C3", "overlap", 5, 0.1)]
    table = pd.DataFrame(rows, columns=["claim", "statistic", "seeds", "smallest_detectable"])
    write_csv(path, "power", table.assign(power=0.8).reindex(columns=list(SCHEMAS["power"])))
    least = {seeds: power_with(measured_power(), "C2", "extra", seeds) for seeds in (1, 3, 4, 7)}
    assert least.pop(1) is None
    assert [row["smallest_detectable"] for row in least.values()] == [0.4, 0.4, 0.2]


def test_no_results_is_not_tested():
    empty = pd.DataFrame(columns=["study", "claim", "statistic", "seed", "value"])
    assert set(distinctness(STUDY, empty)["decision"]) == {NOT_TESTED}
    assert set(verdicts(STUDY, judge_criteria(STUDY, empty))["verdict"]) == {"not tested"}


def test_one_seed_can_at_most_point_the_direction():
    statistics = claim_statistics(STUDY, {0: results(0)})
    assert "reproduced" not in set(verdicts(STUDY, judge_criteria(STUDY, statistics))["verdict"])


def test_every_statistic_is_one_finite_number():
    assert all(np.isfinite(function(results(0))) for function in STATISTICS.values())
    assert list(TABLES) == [field.name for field in fields(SeedResults)]


@pytest.mark.parametrize(
    ("bounds", "found", "expected"),
    [
        ({"at_least": 1}, (1.5, 1.1, 1.9), "holds"),
        ({"at_least": 1}, (1.5, 0.9, 2.1), "direction"),
        ({"at_least": 1}, (0.5, 0.4, 0.6), "fails"),
        ({"at_least": 1, "neutral": 0}, (0.5, 0.4, 0.6), "direction"),
        ({"at_least": 1, "neutral": 0}, (-0.5, -0.6, -0.4), "fails"),
        ({"at_most": 1}, (0.5, 0.1, 0.9), "holds"),
        ({"at_most": 1}, (0.9, 0.5, 1.3), "direction"),
        ({"at_most": 1}, (1.1, 1.0, 1.2), "fails"),
        ({"at_least": -1, "at_most": 1}, (0, -0.9, 0.9), "holds"),
        ({"at_least": -1, "at_most": 1}, (0, -2, 2), "direction"),
        ({"at_least": 1}, (1.5, float("nan"), float("nan")), "direction"),
    ],
)
def test_outcome(bounds, found, expected):
    criterion = Criterion(statistic="harm_of_aligned", **bounds)
    assert outcome(criterion, dict(zip(("mean", "low", "high"), found, strict=True))) == expected


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_interval_is_scipys_t_interval(values):
    found = interval(np.array(values), 0.95)
    assert found["seeds"] == len(values) and found["mean"] == pytest.approx(np.mean(values))
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found["low"], found["high"]) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_rows_of_one_seed_do_not_count_as_seeds():
    table = pd.DataFrame({"seed": [0, 0, 0, 1], "task": "t", "x": [1.0, 2.0, 3.0, 4.0]})
    row = over_seeds(table, ["task"], "x", 0.95).iloc[0]
    assert row["seeds"] == 2 and row["mean"] == 3.0


def test_share_and_its_undefined_case():
    assert share(3.0, 1.0, 5.0) == 0.5 and np.isnan(share(3.0, 1.0, 1.0))


@given(st.floats(0, 1))
def test_a_variant_on_the_scaling_curve_has_no_excess(alpha):
    curve = scaling(0, ["contaminated"])
    variant = curve[curve["alpha"] == 0].assign(alpha=alpha, energy_kept=alpha**2, **measures(alpha, alpha))
    for on, tolerance in (("utility_margin", 1e-9), ("energy_kept", 0.06)):  # energy is interpolated between alphas
        found = excess(variant, curve, on, ["harm_margin", "harm"])
        assert abs(found["excess_harm_margin"].iloc[0]) < tolerance and abs(found["excess_harm"].iloc[0]) < tolerance


def test_matching_takes_the_ends_beyond_the_curve():
    curve = shares(scaling(0, ["useful"]), scaling(0, ["useful"]), ["utility"]).set_index("alpha")["share_utility"]
    assert scaled_at(curve, curve, np.array([-1.0, 2.0])).tolist() == [0.0, 1.0]


def test_measures_of_the_grid_are_those_of_the_models():
    assert set(GRID_MEASURES) < set(MEASURES)
