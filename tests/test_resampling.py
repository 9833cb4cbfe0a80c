"""Prompts drawn anew: the tables made again from single prompts, and the spread that the choice of prompts gives."""

import numpy as np
import pandas as pd
import pytest

from helpers.claims.resampling import claim_uncertainty
from helpers.claims.statistics import STATISTICS, SeedResults
from helpers.evaluation.behaviour import EvaluationSets
from helpers.evaluation.per_prompt import CONTROLS, TASKS, PromptValues
from helpers.studies.settings import load_study

STUDY = load_study("organism")
FRACTIONS, ALPHAS = (0.25, 0.5, 0.75), (0.0, 0.5, 1.0)
NONE = pd.DataFrame()


def prompt_table(rng, prompts):
    """``projection_prompts`` of an update that acts on every prompt in its own strength, and a subspace that helps."""
    parts = []
    for task, (_, measures) in TASKS.items():
        for measure in measures:
            start, effect, own = rng.normal(0, 1, prompts), rng.gamma(4, 0.5, prompts), rng.normal(0, 0.2, prompts)
            item = np.arange(prompts) + int(rng.integers(1e9))
            for control in (*CONTROLS, "scaling"):
                for size in ALPHAS if control == "scaling" else FRACTIONS:
                    share = size if control == "scaling" else (1 - size if task == "contaminated" else size)
                    gain = (0.2 + own) * (control == "top-k") * (1 - 2 * (measure.startswith("harm")))
                    found = {"item": item, "value": start + share * effect + gain}
                    parts.append(pd.DataFrame(found).assign(task=task, control=control, size=size, measure=measure))
    return pd.concat(parts, ignore_index=True)


def seed_results(table, seed):
    """The tables ``projection`` and ``scaling`` that belong to it."""
    key = ["task", "control", "size"]
    means = table.pivot_table(index=key, columns="measure", values="value").reset_index().assign(seed=seed)
    scaling, projection = (means[(means["control"] == "scaling") == want] for want in (True, False))
    mode = projection["task"].map({task: mode for task, (mode, _) in TASKS.items()})
    kept = projection["size"].where(mode == "parallel", 1 - projection["size"])
    projection = projection.rename(columns={"size": "fraction"}).assign(mode=mode, subspace="alignment", draw=0)
    scaling = scaling.rename(columns={"size": "alpha"}).drop(columns="control")
    energy = scaling["alpha"] ** 2
    return SeedResults(NONE, projection.assign(energy_kept=kept), scaling.assign(energy_kept=energy), NONE, NONE, NONE)


def test_the_spread_over_prompts_is_that_of_new_prompts():
    name, tables = "top_k_gain_utility", [prompt_table(np.random.default_rng(seed), 60) for seed in range(25)]
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


def test_without_prompts_there_is_an_empty_table():
    assert claim_uncertainty(STUDY, {}, {}).empty


def test_only_values_of_compared_variants_are_kept():
    study = load_study("smoke")
    prompts = EvaluationSets.of(study, 0)
    kept, rng = PromptValues(prompts), np.random.default_rng(0)
    sizes = study.evaluation
    measured = {"utility_margin": rng.normal(size=sizes.utility_prompts), "harm": np.full(sizes.harm_prompts, np.nan)}
    for subspace in ("alignment", "safety"):
        for control in ("top-k", "random-k"):
            where = {"subspace": subspace, "control": control, "mode": "orthogonal", "task": "contaminated"}
            kept.add_projected(where, 0.5, measured)
    kept.add_scaled("useful", 1, measured)
    table = kept.table()
    assert set(zip(table["task"], table["control"], strict=True)) == {("contaminated", "top-k"), ("useful", "scaling")}
    assert set(table["measure"]) == {"utility_margin"}  # an unreadable reply has no value
    assert table.groupby("task")["item"].nunique().eq(sizes.utility_prompts).all()
    assert PromptValues(prompts).table().empty
