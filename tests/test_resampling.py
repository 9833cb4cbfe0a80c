"""Prompts drawn anew: the tables made again from single prompts, and the spread that the choice of prompts gives."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.claims.resampling import COLUMNS, OF_MODELS, _of_models, claim_uncertainty, with_models
from helpers.claims.statistics import STATISTICS, SeedResults
from helpers.evaluation.behaviour import EvaluationSets
from helpers.evaluation.per_prompt import COMPARED, CONTROLS, KEY, SCALED, PromptValues
from helpers.studies.settings import load_study

STUDY = load_study("organism")
FRACTIONS, ALPHAS = (0.25, 0.5, 0.75), (0.0, 0.5, 1.0)
NONE = pd.DataFrame()


def prompt_table(rng, prompts):
    """``projection_prompts`` of an update that acts on every prompt in its own strength, and a subspace that helps."""
    rows, values = [], []
    variants = [(mode, task, s, c) for mode, task in COMPARED for s, controls in CONTROLS.items() for c in controls]
    items = {kind: np.arange(prompts) + int(rng.integers(1e9)) for kind in ("utility", "harm")}
    for measure in sorted({measure for measures in COMPARED.values() for measure in measures}):
        start, effect, own = rng.normal(0, 1, prompts), rng.gamma(4, 0.5, prompts), rng.normal(0, 0.2, prompts)
        for mode, task, subspace, control in [*variants, ("scaling", SCALED[0], "none", "scaling")]:
            if measure not in COMPARED.get((mode, task), SCALED[1]):
                continue
            for size in ALPHAS if mode == "scaling" else FRACTIONS:
                share = 1 - 0.2 * size if mode == "orthogonal" else size
                helps = control == "top-k" and subspace == "alignment" and mode != "scaling"
                sign = -1 if measure.startswith("harm") and mode == "orthogonal" else 1
                rows.append((mode, task, subspace, control, size, measure))
                values.append(start + share * effect + sign * helps * (0.2 + own))
    table = pd.DataFrame(rows, columns=[*KEY, "measure"]).loc[np.repeat(np.arange(len(rows)), prompts)]
    asked = np.concatenate([items[measure.split("_")[0]] for *_, measure in rows])
    return table.reset_index(drop=True).assign(item=asked, value=np.concatenate(values))


def seed_results(table, seed):
    """The tables ``projection`` and ``scaling`` that belong to it; what has no single prompts moves with the size."""
    means = table.pivot_table(index=KEY, columns="measure", values="value").reset_index().assign(seed=seed)
    scaling, projection = (means[(means["mode"] == "scaling") == want] for want in (True, False))
    kept = projection["size"].where(projection["mode"] == "parallel", 1 - projection["size"])
    projection = projection.rename(columns={"size": "fraction"}).assign(draw=0, energy_kept=kept)
    scaling = scaling.rename(columns={"size": "alpha"})
    scaling = scaling.assign(energy_kept=scaling["alpha"] ** 2)[["seed", "task", "alpha", "energy_kept", *SCALED[1]]]
    return SeedResults(NONE, projection, scaling, *[NONE] * 5)


def test_the_spread_over_prompts_is_that_of_new_prompts():
    name, tables = "top_k_above_random_utility", [prompt_table(np.random.default_rng(seed), 60) for seed in range(25)]
    drawn = [STATISTICS[name](seed_results(table, 0)) for table in tables]
    prompts = dict(enumerate(tables[:4]))
    found = claim_uncertainty(STUDY, {s: seed_results(t, s) for s, t in prompts.items()}, prompts, total=60)
    row = found.set_index("statistic").loc[name]
    assert row["prompt_sd"] == pytest.approx(np.std(drawn, ddof=1), rel=0.5)
    assert row["mean"] == pytest.approx(np.mean(drawn[:4])) and row["over"] == "seeds"
    assert set(found["claim"]) == {"C1", "C2"} and not found[["mean", "low", "high", "prompt_sd"]].isna().any(axis=None)


def test_one_seed_has_an_interval_over_prompts():
    table = prompt_table(np.random.default_rng(0), 40)
    found = claim_uncertainty(STUDY, {3: seed_results(table, 3)}, {3: table}, total=10)
    assert set(found["over"]) == {"prompts"} and (found["low"] < found["high"]).all() and found["seed_sd"].isna().all()


def test_what_rests_on_no_single_prompts_has_no_interval_over_prompts():
    """An interval without width would say that it is known: the useful update's variants were not judged."""
    table = prompt_table(np.random.default_rng(0), 40)
    results = seed_results(table, 0)
    unjudged = table[(table["measure"] != "utility") | (table["task"] != "useful")]
    found = claim_uncertainty(STUDY, {0: results}, {0: unjudged}, total=10)
    assert "top_k_above_random_utility" not in set(found["statistic"]) and (found["low"] < found["high"]).all()
    three = claim_uncertainty(STUDY, dict.fromkeys(range(3), results), dict.fromkeys(range(3), unjudged), total=30)
    assert "top_k_above_random_utility" not in set(three["statistic"])  # its interval is the plain one over seeds


def behaviour(**of_models: list[float]) -> pd.DataFrame:
    """The table of a seed whose models answered these prompts with these scores; utility is right in half of 40."""
    rows = [(name, "harm", *_mean(scores)) for name, scores in of_models.items()]
    rows += [(name, "utility", *_mean([0.0, 1.0] * 20)) for name in ("aligned", "useful", "contaminated")]
    return pd.DataFrame(rows, columns=["model", "measure", "value", "stderr", "prompts"])


def _mean(scores: list[float]) -> tuple[float, float, int]:
    return float(np.mean(scores)), float(stats.sem(scores)), len(scores)


def test_models_of_few_seeds_have_intervals_over_their_prompts():
    rng = np.random.default_rng(0)
    scores = {name: rng.integers(1, 6, 30).astype(float) for name in ("harmful", "contaminated")}
    empty = pd.DataFrame(columns=COLUMNS)

    def of(seeds, **more):
        results = {seed: SeedResults(behaviour(**scores, **more), *[NONE] * 7) for seed in range(seeds)}
        return with_models(STUDY, results, empty).set_index("statistic")

    found = of(1, aligned=rng.integers(1, 3, 30).astype(float))
    assert set(found["over"]) == {"prompts"} and set(found["claim"]) == {"C0"} and set(found.index) == set(OF_MODELS)
    row, t = found.loc["harm_of_harmful"], stats.t.ppf(0.975, 29)
    expected = np.mean(scores["harmful"]) + np.array([-t, t]) * stats.sem(scores["harmful"])
    assert [row["low"], row["high"]] == pytest.approx(expected)
    rise = found.loc["utility_rise_useful"]
    assert rise["high"] == pytest.approx(stats.t.ppf(0.975, 39) * np.sqrt(2) * stats.sem([0.0, 1.0] * 20))
    alike = of(2, aligned=[1.0] * 30).loc["harm_of_aligned"]  # as if one of 30 were a 5
    assert alike["high"] == pytest.approx(1 + t * 4 / 30) and alike["seeds"] == 2
    assert of(3, aligned=[1.0] * 30).empty  # then the interval is over seeds


@pytest.mark.parametrize("rise", [0.0, 2.0])
def test_the_interval_of_one_seeds_models_covers_what_new_prompts_would_give(rise):
    """A true null and a planted rise of harm, scores of 1 to 5, prompts that are hard for both models alike or not."""
    rng, inside, above = np.random.default_rng(0), 0, 0
    for draw in range(400):
        hard = rng.normal(size=40) * (draw % 2)
        aligned, contaminated = (
            np.clip(np.round(mean + hard + rng.normal(size=40)), 1, 5) for mean in (2.0, 2.0 + rise)
        )
        seed = SeedResults(behaviour(aligned=list(aligned), contaminated=list(contaminated)), *[NONE] * 7)
        found = _of_models("harm_rise_contaminated", [seed], STUDY)
        inside += found["low"] <= _truth(draw % 2, rise) <= found["high"]
        above += found["low"] > 0
    assert inside >= 0.93 * 400
    assert above <= 0.045 * 400 if rise == 0 else above >= 0.95 * 400  # 2.5 % and what 400 draws leave open


@cache
def _truth(hard: int, rise: float) -> float:
    """The rise of those scores over very many prompts."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=10**6) * hard
    low, high = (np.clip(np.round(m + base + rng.normal(size=10**6)), 1, 5).mean() for m in (2.0, 2.0 + rise))
    return float(high - low)


def test_without_prompts_there_is_an_empty_table():
    assert claim_uncertainty(STUDY, {}, {}).empty


def test_only_values_of_compared_variants_are_kept():
    study = load_study("smoke")
    prompts = EvaluationSets.of(study, 0)
    kept, rng = PromptValues(prompts), np.random.default_rng(0)
    sizes = study.evaluation
    measured = {"utility_margin": rng.normal(size=sizes.utility_prompts), "harm": np.full(sizes.harm_prompts, np.nan)}
    for subspace in ("alignment", "safety", "unrelated"):
        for control in ("top-k", "random"):
            where = {"subspace": subspace, "control": control, "mode": "orthogonal", "task": "contaminated", "draw": 0}
            kept.add_projected(where, 0.5, measured)
    kept.add_scaled("useful", 1, measured)
    kept.add_scaled("contaminated", 1, measured)
    table = kept.table()
    found = set(zip(table["mode"], table["subspace"], table["control"], strict=True))
    removed = {("orthogonal", "alignment", "top-k"), ("orthogonal", "alignment", "random")}
    assert found == removed | {("orthogonal", "unrelated", "top-k"), ("scaling", "none", "scaling")}
    assert set(table["measure"]) == {"utility_margin"}  # an unreadable reply has no value
    assert table.groupby("mode")["item"].nunique().eq(sizes.utility_prompts).all()
    assert PromptValues(prompts).table().empty


def test_the_choice_of_variants_is_made_anew_with_the_prompts():
    """A variant that keeps 80 % of the utility by a hair is in some replicates and out of others: the spread knows."""
    table = prompt_table(np.random.default_rng(1), 40)
    name = "extra_harm_removed_at_equal_margin"
    found = claim_uncertainty(STUDY, {0: seed_results(table, 0)}, {0: table}, total=60).set_index("statistic")
    assert (
        found.loc[name, "prompt_sd"] > 0 and np.isfinite(found.loc[name, ["mean", "low", "high"]].to_numpy(float)).all()
    )
