"""Other choices: the ledger's own gives its statistic, and every other one is that statistic on other tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.claims.inference import Decision, decide
from helpers.claims.sensitivity import LEDGER, NOT_MEASURED, choices, sensitivity_table, stability
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.paths import published_root
from helpers.studies.settings import load_study
from pipeline.results import tables

STUDY = load_study("smollm2-135m")  # its published tables are real ones that lie in the clone


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
    return sensitivity_table(STUDY, results, both)


def _read(name: str) -> pd.DataFrame:
    folder = published_root() / STUDY.name / "seed-0" / "tables"
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=["", "nan"])


def _row(table: pd.DataFrame, claim: str, setting: str) -> pd.Series:
    return table[(table["claim"] == claim) & (table["setting"] == setting)].iloc[0]


def test_the_first_row_of_each_claim_is_the_ledgers_own(table, results):
    for claim, rows in table.groupby("claim", sort=False):
        distinct, own = STUDY.claims[claim].distinct, rows.iloc[0]
        values = np.array([STATISTICS[distinct.statistic](r) for r in results.values()])
        assert own["choice"] == LEDGER and own["mean"] == pytest.approx(values.mean())
        assert own["decision"] == decide(values, distinct.margin, STUDY.confidence) and own["margin"] == distinct.margin
    assert set(table["claim"]) == {claim for claim, entry in STUDY.claims.items() if entry.distinct}


def test_the_table_fits_its_schema_and_names_each_setting_once(table):
    tables.check("sensitivity", table)
    assert not table.duplicated(["claim", "choice", "setting"]).any()
    assert set(table["decision"]) <= {*Decision.__args__, NOT_MEASURED}


def test_settings_of_a_choice_average_to_the_ledgers_value(table):
    for claim, choice in (("C1", "k"), ("C3", "η"), ("C4", "η")):
        own = table[(table["claim"] == claim) & (table["choice"] == choice)]["mean"]
        assert own.mean() == pytest.approx(_row(table, claim, "")["mean"])


def test_averages_and_left_out_tensors_are_those_of_the_overlap_table(table, results, modules):
    def gap(average):
        pairs = [("alignment", 1), ("useful", -1)]
        return np.mean([sum(sign * average(r.update_overlap.query("a == @a and b == 'harmful'")) for a, sign in pairs)
                        for r in results.values()])  # fmt: skip

    headless = gap(lambda rows: rows[~rows["module"].isin(["lm_head"])]["mso"].mean())
    per_layer = gap(lambda rows: rows.groupby("layer")["mso"].mean().mean())
    share = modules[modules["update"] == "harmful"].set_index("module")["share"]
    share = share[share.index.isin(results[0].update_overlap["module"])]
    weighted = gap(lambda rows: (rows.groupby("module")["mso"].mean() * share).sum() / share.sum())
    assert _row(table, "C3", "without lm_head")["mean"] == pytest.approx(headless)
    assert _row(table, "C3", "per layer")["mean"] == pytest.approx(per_layer)
    assert _row(table, "C3", "weighted by energy")["mean"] == pytest.approx(weighted)


def test_the_safety_subspace_is_the_alignment_subspace_exchanged(table, results):
    r = results[0]
    renamed = r.update_overlap.query("a == 'safety' and b == 'harmful'")["mso"].mean() - r.mso("useful", "harmful")
    scale = np.mean([1, 0.9])
    assert _row(table, "C3", "safety (D_S)")["mean"] == pytest.approx(renamed * scale)


def test_other_models_layers_and_pairs_of_the_activations(table, results):
    rows = results[0].activation_overlap
    band = rows[rows["in_band"]]

    def gap(part, second="benign-harmful"):
        means = part.groupby("pair")["mso"].mean()
        return (means["harmful-harmful"] - means[second]) * np.mean([1, 0.95])

    layer = int(band["layer"].min())
    aligned = band[band["model"] == "aligned"]
    assert _row(table, "C4", "base")["mean"] == pytest.approx(gap(band[band["model"] == "base"]))
    assert _row(table, "C4", str(layer))["mean"] == pytest.approx(gap(aligned[aligned["layer"] == layer]))
    assert _row(table, "C4", "useful instead of benign")["mean"] == pytest.approx(gap(aligned, "useful-harmful"))


def test_what_was_not_measured_is_not_decided(table, results, modules):
    rows = _row(table, "C1", "judge and exact match")  # parallel variants of the study are not judged
    assert rows["decision"] == rows["verdict"] == NOT_MEASURED and np.isnan(rows["mean"]) and rows["seeds"] == 0
    without = {s: replace(r, projection=r.projection.query("subspace == 'alignment'")) for s, r in results.items()}
    one = {0: without[0]}
    found = sensitivity_table(STUDY, one, modules)
    assert _row(found, "C2", "safety (D_S)")["decision"] == NOT_MEASURED
    assert NOT_MEASURED not in set(found[found["choice"] == LEDGER]["decision"])


def test_stability_counts_the_settings_that_agree_with_the_ledger(table):
    found = stability(table)
    assert (found["same_decision"] <= found["settings"]).all() and (found["lowest"] <= found["highest"]).all()
    measured = table[(table["choice"] != LEDGER) & (table["decision"] != NOT_MEASURED)]
    assert found["settings"].sum() == len(measured)


def test_a_choice_leaves_the_tables_of_the_seed_as_they_are(results, modules):
    before = {name: getattr(results[0], name).copy() for name in TABLES}
    for choice in choices(STUDY, results, modules):
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
    others = [choice for choice in choices(study, {0: changed}, modules) if choice.setting in ("mine", "edited")]
    assert [(choice.claim, choice.setting) for choice in others] == [
        ("C1", "mine"),
        ("C2", "mine"),
        ("C2", "edited"),
        ("C3", "mine"),
    ]
    for choice in others[:3]:
        statistic = STATISTICS[STUDY.claims[choice.claim].distinct.statistic]
        assert statistic(choice.change(changed)) == pytest.approx(statistic(r))
