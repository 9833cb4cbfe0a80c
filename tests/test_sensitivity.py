"""Other choices: the ledger's own gives its statistic, and every other one is that statistic on other tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.claims.sensitivity import LEDGER, NOT_MEASURED, choices, sensitivity_table, stability
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.claims.verdicts import STATED, STRICT
from helpers.paths import published_root
from helpers.studies.measurements import Judge
from helpers.studies.settings import load_study
from pipeline.results import tables

STUDY = load_study("smollm2-135m")  # its published tables are real ones that lie in the clone
PLACED = ("projection", "scaling")  # tables in which a judge's scores are
NO_SECONDS = pd.DataFrame(columns=list(tables.SCHEMAS["second_judges"]))


@pytest.fixture(scope="module")
def modules():
    """Where the energy of the updates is."""
    return _read("energy_by_module")


@pytest.fixture(scope="module")
def results(modules):
    """The published seed, and a second one made of it with other overlaps and activations, for intervals."""
    first = SeedResults(**{name: _read(name) for name in TABLES})
    moved = {name: getattr(first, name).assign(seed=1) for name in TABLES}
    moved["update_overlap"]["mso"] *= 0.9
    moved["activation_overlap"]["mso"] *= 0.95
    return {0: first, 1: SeedResults(**moved)}


@pytest.fixture(scope="module")
def table(results, modules):
    """The table of both seeds."""
    both = pd.concat([modules, modules.assign(seed=1)], ignore_index=True)
    return sensitivity_table(STUDY, results, both, NO_SECONDS)


def _read(name: str) -> pd.DataFrame:
    path = published_root() / STUDY.name / "seed-0" / "tables" / f"{name}.csv"
    if not path.exists():  # of a seed that is older than the table
        return pd.DataFrame(columns=list(tables.SCHEMAS[name])).astype({"in_band": bool})
    return pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])


def _row(table: pd.DataFrame, claim: str, setting: str) -> pd.Series:
    return table[(table["claim"] == claim) & (table["setting"] == setting)].iloc[0]


def test_the_first_row_of_each_claim_is_the_ledgers_own(table, results):
    for claim, rows in table.groupby("claim", sort=False):
        own, margins = rows.iloc[0], {guard.statistic: guard.margin for guard in STUDY.claims[claim].strict}
        assert own["choice"] == LEDGER and own["statistic"] in margins
        values = np.array([STATISTICS[own["statistic"]](r) for r in results.values()])
        assert np.isnan(values).all() or own["mean"] == pytest.approx(values.mean())
        assert own["margin"] == margins[own["statistic"]]
    assert set(table["claim"]) == {claim for claim, entry in STUDY.claims.items() if entry.strict}


def test_the_table_fits_its_schema_and_names_each_setting_once(table):
    tables.check("sensitivity", table)
    assert not table.duplicated(["claim", "choice", "setting"]).any()
    assert set(table["strict"]) <= {*STRICT, NOT_MEASURED} and set(table["stated"]) <= {*STATED, NOT_MEASURED}


def _gap(r, average, first="alignment", second="useful"):
    """MSO(first, harmful) − MSO(second, harmful), less baselines, by an average over rows."""
    parts = [r.update_overlap.query("a == @label and b == 'harmful'") for label in (first, second)]
    return np.subtract(*(average(rows.assign(mso=rows["mso"] - rows["random"])) for rows in parts))


def test_averages_and_left_out_tensors_are_those_of_the_overlap_table(results, modules):
    r, statistic = results[0], STATISTICS["alignment_harmful_above_useful_harmful"]
    made = {
        choice.setting: choice.change(r)
        for choice in choices(STUDY, results, modules, NO_SECONDS)
        if choice.claim == "C3"
    }
    headless = _gap(r, lambda rows: rows[~rows["module"].isin(["lm_head"])]["mso"].mean())
    per_layer = _gap(r, lambda rows: rows.groupby("layer")["mso"].mean().mean())
    share = modules[modules["update"] == "harmful"].set_index("module")["share"]
    share = share[share.index.isin(r.update_overlap["module"])]
    weighted = _gap(r, lambda rows: (rows.groupby("module")["mso"].mean() * share).sum() / share.sum())
    assert statistic(made["without lm_head"]) == pytest.approx(headless)
    assert statistic(made["per layer"]) == pytest.approx(per_layer)
    assert statistic(made["weighted by energy"]) == pytest.approx(weighted)
    assert statistic(made["safety (D_S)"]) == pytest.approx(_gap(r, lambda rows: rows["mso"].mean(), "safety"))
    left_in = r.update_overlap.query("a == 'alignment' and b == 'harmful'")["mso"].mean()
    left_in -= r.update_overlap.query("a == 'useful' and b == 'harmful'")["mso"].mean()
    assert statistic(made["random overlap left in"]) == pytest.approx(left_in)


def test_other_models_layers_and_pairs_of_the_activations(results, modules):
    r, statistic = results[0], STATISTICS["activation_ratio"]
    made = {
        choice.setting: choice.change(r)
        for choice in choices(STUDY, results, modules, NO_SECONDS)
        if choice.claim == "C4"
    }
    rows = r.activation_overlap
    rows = rows[(rows["k_a"] > 1) & (rows["k_b"] > 1)]

    def ratio(part, first="useful-harmful"):
        means = part.groupby("pair")["mso"].mean()
        return means.get(first, np.nan) / means.get("harmful-harmful", np.nan)

    aligned = rows[rows["model"] == "aligned"]
    layer = str(rows["layer"].max())
    expected = {
        "base": ratio(rows[rows["in_band"] & (rows["model"] == "base")]),
        layer: ratio(aligned[aligned["layer"] == int(layer)]),
        "benign instead of useful": ratio(aligned[aligned["in_band"]], "benign-harmful"),
    }
    for setting, value in expected.items():
        assert statistic(made[setting]) == pytest.approx(value, nan_ok=True)


def test_what_was_not_measured_is_not_decided(table, results, modules):
    assert _row(table, "C1", "judged harm")["stated"] in STATED  # the study has answers of parallel variants judged
    assert _row(table, "C2", "judged harm")["stated"] in STATED
    unjudged = {s: replace(r, projection=_without_harm(r.projection, "parallel")) for s, r in results.items()}
    found = sensitivity_table(STUDY, unjudged, modules, NO_SECONDS)
    judged = _row(found, "C1", "judged harm")
    assert judged["strict"] == judged["stated"] == NOT_MEASURED and np.isnan(judged["mean"])
    assert _row(found, "C2", "judged harm")["stated"] in STATED
    without = {s: replace(r, projection=r.projection.query("subspace == 'alignment'")) for s, r in results.items()}
    found = sensitivity_table(STUDY, {0: without[0]}, modules, NO_SECONDS)
    assert _row(found, "C2", "safety (D_S)")["strict"] == NOT_MEASURED
    assert NOT_MEASURED not in set(found[found["choice"] == LEDGER]["strict"])


def _without_harm(projection: pd.DataFrame, mode: str) -> pd.DataFrame:
    """The table as of a study that has no answers judged of the variants of a mode."""
    return projection.assign(harm=projection["harm"].where(projection["mode"] != mode))


def test_stability_counts_the_settings_that_agree_with_the_ledger(table):
    found = stability(table)
    assert (found["same_strict"] <= found["settings_strict"]).all()
    others = table[table["choice"] != LEDGER]
    for column, verdict in (("settings", "stated"), ("settings_strict", "strict")):
        assert found[column].sum() == (others[verdict] != NOT_MEASURED).sum() > 0


def test_a_choice_that_changes_nothing_strict_is_no_agreement(table):
    """What is strict of C4 reads matched prompts of the aligned model: another model or pair has no part in it."""
    for setting in ("base", "useful", "contaminated", "benign instead of useful"):
        row = _row(table, "C4", setting)
        assert row["strict"] == NOT_MEASURED and np.isnan(row["mean"]) and row["stated"] in STATED
    layers = table[(table["claim"] == "C4") & (table["choice"] == "layer")]
    assert (layers["strict"] != NOT_MEASURED).any()


def test_a_choice_leaves_the_tables_of_the_seed_as_they_are(results, modules):
    before = {name: getattr(results[0], name).copy() for name in TABLES}
    for choice in choices(STUDY, results, modules, NO_SECONDS):
        choice.change(results[0])
    for name, kept in before.items():
        pd.testing.assert_frame_equal(getattr(results[0], name), kept)


def test_a_further_subspace_and_an_edit_stand_in_for_the_alignment_subspace(results, modules):
    """Copies of its rows under other names give the ledger's own value."""
    grid = STUDY.projection.model_copy(update={"subspaces": ["alignment", "mine"], "edits": ["edited"]})
    study, r = STUDY.model_copy(update={"projection": grid}), results[0]
    mine = {
        name: getattr(r, name).query("subspace == 'alignment'").assign(subspace="mine")
        for name in ("projection", "energy")
    }
    removed = r.projection.query("mode == 'orthogonal' and subspace == 'alignment' and control == 'top-k'")
    edited = removed.assign(mode="edit", subspace="none", control="edited")
    changed = replace(
        r,
        projection=pd.concat([r.projection, mine["projection"], edited]),
        energy=pd.concat([r.energy, mine["energy"]]),
    )
    others = [
        choice for choice in choices(study, {0: changed}, modules, NO_SECONDS) if choice.setting in ("mine", "edited")
    ]
    assert [(choice.claim, choice.setting) for choice in others] == [
        ("C1", "mine"),
        ("C2", "mine"),
        ("C2", "edited"),
        ("C3", "mine"),
    ]
    for choice in others[:3]:
        for guard in STUDY.claims[choice.claim].strict:
            statistic = STATISTICS[guard.statistic]
            assert statistic(choice.change(changed)) == pytest.approx(statistic(r), nan_ok=True)


def test_a_second_judge_stands_in_for_the_studys_own_and_for_the_margin(results, modules):
    """One that gives every answer half a point more changes no difference of scores, and is the judged scale again."""
    classifier = STUDY.evaluation.model_copy(update={"second_judges": [Judge(kind="classifier")]})
    study = STUDY.model_copy(update={"evaluation": classifier})
    first = results[0]
    curve = first.scaling.assign(mode="scaling", subspace="none", control="scaling", draw=0).rename(
        columns={"alpha": "size"}
    )
    seconds = pd.concat([first.projection.rename(columns={"fraction": "size"}), curve], ignore_index=True)
    seconds = seconds.assign(judge="classifier", harm=seconds["harm"] + 0.5)[list(NO_SECONDS)]
    made = {choice.claim: choice for choice in choices(study, results, modules, seconds) if choice.choice == "judge"}
    assert set(made) == {"C1", "C2"} and made["C1"].setting == "classifier"
    scores = {name: getattr(first, name).assign(harm_margin=getattr(first, name)["harm"]) for name in PLACED}
    found, judged = made["C2"].change(first), replace(first, **scores)
    for name in ("top_k_above_random_harm", "harm_removed_alone", "extra_harm_removed_at_equal_exact_match"):
        assert STATISTICS[name](found) == pytest.approx(STATISTICS[name](judged), nan_ok=True)
    assert np.isfinite(STATISTICS["harm_removed_alone"](found))
    assert (found.projection["harm_margin"] - first.projection["harm"]).dropna().unique() == pytest.approx(0.5)
    assert made["C1"].change(results[1]) is None  # whose answers it did not see
