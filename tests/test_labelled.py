"""Labelled subspaces: shares against dense computations, variants by groups, and summaries of tables that are known."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.claims.labelled import at_largest, behaviour_summary, geometry_summary
from helpers.errors import StudyError
from helpers.experiments.bases import Basis
from helpers.experiments.labelled import ALL, Labelled, geometry, groups, shares_of
from helpers.experiments.projection import Grid
from helpers.experiments.updates import study_geometry
from helpers.methods.context import Context
from helpers.methods.door import subspace_named
from helpers.paths import RunPaths
from helpers.studies.measurements import AFTER_THE_BENCH, Bench
from helpers.studies.settings import load_study
from helpers.weights.geometry import energy_table
from helpers.weights.names import layer_of, module_of
from pipeline.results.tables import SCHEMAS
from pipeline.runs.stages import over_seeds
from test_bench import Unkept

OUTPUT, INPUT = "refusal-cone", "probe"
SMALL = ["alignment", "alignment-input", OUTPUT, f"{OUTPUT}-benign", INPUT, f"{INPUT}-benign"]


@pytest.fixture
def benched(context, study) -> Context:
    """The same, of a bench of two labelled subspaces."""
    bench = study.model_copy(update={"bench": Bench(of="smoke", labelled=[OUTPUT, INPUT])})
    return Context(bench, 0, context.checkpoints)


def test_the_bench_decides_on_none_that_came_after_it():
    bench = load_study("organism-bench").bench
    assert set(bench.labelled) - set(bench.subspaces) == set(AFTER_THE_BENCH)
    assert bench.compared[:4] == ["alignment", "alignment-input", *next(iter(bench.twins.items()))]
    assert len(bench.compared) == 2 + 2 * len(bench.labelled)


def test_groups_hold_every_matrix_once(benched):
    found, depth = groups(benched), benched.study.model.num_hidden_layers
    matrices = {name for name in benched.names if len(benched.shape(name)) == 2}
    assert found[ALL] == benched.names
    assert sorted(name for (grouping, _), names in found.items() if grouping == "module" for name in names) == sorted(
        matrices
    )
    assert all({module_of(name) for name in found[key]} == {key[1]} for key in found if key[0] == "module")
    thirds = {key[1]: {layer_of(name) for name in names} for key, names in found.items() if key[0] == "depth"}
    assert thirds == {"first third": {0, 1}, "middle third": {2}, "last third": {3}} and depth == 4


def test_shares_and_chance_equal_dense_computations(benched):
    found = geometry(benched)
    assert {*found.columns, "seed"} == set(SCHEMAS["labelled_geometry"]) and not found.isna().any(axis=None)
    assert list(dict.fromkeys(found["subspace"])) == SMALL
    found = found.set_index(["subspace", "group", "fraction", "quantity", "of"])
    names = {"all": benched.names, "o_proj": [name for name in benched.names if module_of(name) == "o_proj"]}
    for group, tensors in names.items():
        kept = chance = whole = 0.0
        shared = []
        for name in tensors:
            d = benched.update("harmful", name).reshape(benched.shape(name)[0], -1)
            whole += float(d.square().sum())
            if module_of(name) in ("o_proj", "down_proj"):
                q = subspace_named(OUTPUT).modes(name, benched).vectors  # (width, 3)
                kept += float((q @ q.T @ d).square().sum())
                chance += 3 / len(d) * float(d.square().sum())
                u = torch.linalg.svd(benched.update("alignment", name))[0][:, :3]
                shared.append(float(torch.trace(q @ q.T @ u @ u.T)) / 3)
        row = found.loc[(OUTPUT, group, 0.1, "energy", "harmful")]
        assert row[["value", "chance", "directions"]].tolist() == pytest.approx([kept / whole, chance / whole, 3])
        row = found.loc[(OUTPUT, group, 0.1, "overlap", "alignment")]
        assert row[["value", "chance"]].tolist() == pytest.approx([np.mean(shared), 3 / 32])
    reader = [name for name in benched.names if module_of(name) == "q_proj"]
    inside, sizes = [], []
    for name in reader:
        v = subspace_named(INPUT).modes(name, benched).vectors
        inside.append(float((benched.update("useful", name) @ v).square().sum()))
        sizes.append(float(benched.update("useful", name).square().sum()))
    assert found.loc[(INPUT, "q_proj", 0.02, "energy", "useful"), "value"] == pytest.approx(sum(inside) / sum(sizes))
    itself = found.query("quantity == 'overlap' and of == 'alignment'")["value"]
    assert itself["alignment"].tolist() == pytest.approx([1] * len(itself["alignment"]))
    assert itself["alignment-input"].tolist() == pytest.approx([1] * len(itself["alignment-input"]))


def test_what_is_kept_and_what_is_removed_are_the_two_parts_of_an_update(benched, model, tokenizer):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = Labelled(model, tokenizer, benched, Unkept()).behaviour()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert {*found.columns, "seed"} == set(SCHEMAS["labelled_behaviour"])
    assert found["harm"].notna().tolist() == (found["grouping"] == "all").tolist()
    assert not found[["utility_margin", "harm_margin", "energy_kept"]].isna().any(axis=None)
    scaled = found[found["mode"] == "scaling"]
    assert scaled["fraction"].tolist() == sorted(benched.study.projection.scaling)
    keys = ["subspace", "group", "fraction"]
    parts = found[found["mode"] != "scaling"].pivot(index=keys, columns="mode", values="energy_kept")
    assert parts.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(parts)), abs=1e-5)
    held = geometry(benched).query("quantity == 'energy' and of == 'contaminated'")
    assert {*parts.index} == {*held.set_index(keys).index}
    whole = held[held["group"] == "all"].set_index(keys)["value"]
    assert parts.loc[whole.index, "parallel"].to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-5)
    modules = parts.loc[OUTPUT].query("group in ('o_proj', 'down_proj')")["parallel"]
    assert modules.sum() == pytest.approx(whole[OUTPUT, "all", 0.1], abs=1e-5)


def test_no_variant_is_measured_twice_for_want_of_directions(benched):
    asked = {name: subspace_named(name).every_modes(benched) for name in (INPUT, OUTPUT, "alignment")}
    bases = {name: {tensor: m.vectors for tensor, m in every.items()} for name, every in asked.items()}
    assert [shares_of(benched, one) for one in bases.values()] == [[0.02], [0.02, 0.1], [0.02, 0.1, 0.25]]


def behaving(seed: int, subspace: str, mode: str, fraction: float, utility: float, harm: float) -> dict:
    """A row whose shares of the gains of utility and of harm are given."""
    where = {"seed": seed, "subspace": subspace, "mode": mode, "grouping": "all", "group": "all", "fraction": fraction}
    return where | {
        "energy_kept": utility, "utility": utility, "utility_margin": utility - 1, "harm": 1 + 4 * harm,
        "harm_margin": 10 * harm - 5,
    }  # fmt: skip


def test_harm_removed_beyond_scaling_and_beyond_the_twin():
    rows, shift = [], [0.0, 0.02, -0.02]
    for seed in range(3):
        rows += [behaving(seed, "scaling", "scaling", alpha, alpha, alpha) for alpha in (0.0, 0.5, 1.0)]
        rows += [behaving(seed, "probe", "orthogonal", 0.02, 0.8, 0.5 + shift[seed])]
        rows += [behaving(seed, "probe-benign", "orthogonal", 0.02, 0.9, 0.8 + shift[seed])]
        rows += [behaving(seed, "alignment", "orthogonal", 0.02, 0.5, 0.5)]
    found = behaviour_summary(pd.DataFrame(rows), {"probe": "probe-benign"}, 0.95)
    assert set(found.columns) == set(SCHEMAS["labelled_behaviour_summary"])
    found = found.set_index(["subspace", "measure"])
    assert found.loc[("probe", "beyond"), "mean"] == pytest.approx(0.3)
    assert found.loc[("probe", "beyond_judged"), "mean"] == pytest.approx(0.3)
    assert found.loc[("probe", "above_twin"), ["mean", "low", "high"]].tolist() == pytest.approx([0.2] * 3)
    assert found.loc[("probe", "beyond"), "low"] < 0.3 < found.loc[("probe", "beyond"), "high"]
    assert found.loc[("alignment", "beyond"), "mean"] == pytest.approx(0)
    assert found.loc[[("alignment", "above_twin"), ("probe-benign", "above_twin")], "seeds"].tolist() == [0, 0]


def test_shares_are_summed_up_beside_chance_and_the_twin():
    rows = [
        {"seed": seed, "subspace": name, "grouping": "all", "group": "all", "fraction": share, "directions": 1,
         "quantity": "energy", "of": "useful", "value": value + seed / 100, "chance": 0.1}
        for seed in range(2) for name, value in (("probe", 0.5), ("probe-benign", 0.2)) for share in (0.02, 0.1)
    ]  # fmt: skip
    found = geometry_summary(pd.DataFrame(rows), {"probe": "probe-benign"}, 0.95)
    assert set(found.columns) == set(SCHEMAS["labelled_geometry_summary"]) and set(found["chance"]) == {0.1}
    last = at_largest(found).set_index(["subspace", "measure"])
    assert set(last["fraction"]) == {0.1}
    assert last.loc["probe", "mean"].to_dict() == pytest.approx(
        {"value": 0.505, "above_chance": 0.405, "above_twin": 0.3}
    )
    assert last.loc[("probe", "above_twin"), "low"] == pytest.approx(0.3)


def test_results_without_a_measurement_are_said_to_lack_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path))
    table = RunPaths("planted-bench", 0, published=True).table("labelled_geometry")
    table.parent.mkdir(parents=True)
    study = load_study("planted-bench")
    assert "35_labelled_figures" in over_seeds(study) and "35_labelled_figures" not in over_seeds(study, published=True)
    table.touch()
    assert "35_labelled_figures" in over_seeds(study, published=True)
    for summary in (behaviour_summary, geometry_summary):
        with pytest.raises(StudyError, match="no labelled subspace was measured in these results: run notebooks/34"):
            summary(pd.DataFrame(), {}, 0.95)


@pytest.mark.parametrize("name", ["mean-difference-stacked", "harmful-inputs"])  # of outputs, and of inputs
def test_a_study_may_project_on_a_labelled_subspace_as_on_the_alignment_s(name, context, study, model, tokenizer):
    chosen = study.changed({"projection.subspaces": ["alignment", name], "projection.fractions": [0.25]})
    grid = Grid(model, tokenizer, context.checkpoints, chosen, 0)
    table = grid.projection([Basis(name, "top-k", 0)])["projection"].set_index(["mode", "task"])
    assert {*table.index} == {
        *(("parallel", task) for task in study.projection.parallel),
        ("orthogonal", "contaminated"),
    }
    energies = energy_table(study_geometry(chosen, 0, context.checkpoints, cached=False), [0.25])
    whole = energies.query("subspace == @name and control == 'top-k' and module == 'all'").set_index("task")
    side, kept, total = subspace_named(name).side, 0.0, 0.0
    for tensor in context.names:
        change = context.update("harmful", tensor).reshape(context.shape(tensor)[0], -1)
        total += float(change.square().sum())
        if (modes := subspace_named(name).modes(tensor, context)) is not None:
            q = modes.vectors[:, : round(0.25 * min(change.shape))]
            kept += float((q.T @ (change if side == "output" else change.T)).square().sum())
    assert 0 < kept < total and table["harm_margin"].nunique() == len(table)
    assert table.loc[("parallel", "harmful"), "energy_kept"] == pytest.approx(kept / total, abs=1e-5)
    assert whole.loc["harmful", "energy_kept"] == pytest.approx(kept / total, abs=1e-9)
    split = (
        table.loc[("parallel", "contaminated"), "energy_kept"],
        table.loc[("orthogonal", "contaminated"), "energy_kept"],
    )
    assert sum(split) == pytest.approx(1, abs=1e-5)
