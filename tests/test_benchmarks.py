"""The benchmark runs, counts as the method as released does, and its tables are whole."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from benchmarks.default_study import TRIED, changed, treatment
from benchmarks.large_model import NAME, rows, write_studies
from benchmarks.tables import SCHEMAS

from helpers import paths
from helpers.studies.settings import load_study
from pipeline.report.pages import BENCHMARKS, tried

PUBLISHED = BENCHMARKS / "published"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Tables of a quick run."""
    out = tmp_path_factory.mktemp("bench")
    source = str(paths.ROOT / "src")
    command = [sys.executable, "-m", "benchmarks.weight_space", "--quick", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    subprocess.run(command, cwd=paths.ROOT, env=environment, check=True, capture_output=True)
    return out / "tables"


def test_tables_have_their_schema_and_provenance(quick):
    assert sorted(p.stem for p in quick.glob("*.csv")) == ["in_place", "models", "scaling", "shapes", "targets"]
    for path in quick.glob("*.csv"):
        origin = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert list(pd.read_csv(path).columns) and set(pd.read_csv(path).columns) == set(origin["schema"])
        assert origin["quick"] is True and origin["packages"]["torch"]


def test_counts_are_those_of_the_released_code(quick):
    counts = pd.read_csv(quick / "models.csv").set_index(["model", "workload"])
    assert counts.loc[("Llama-3.2-1B", "released"), "variants"] == 90
    assert counts.loc[("Llama-3.2-1B", "released"), "decompositions"] == 90 + 2 * 11
    assert counts.loc[("Llama-3.2-1B", "project"), "decompositions"] == 2 * 3 * 5 * 2 * 7 + 10 * 2 * 11


def test_results_equal_full_decompositions(quick):
    targets = pd.read_csv(quick / "targets.csv").set_index("quantity").measured
    assert targets["largest difference of energy kept"] < 1e-9
    assert targets["largest difference of MSO"] < 1e-9


def test_the_settings_tried_are_studies_and_the_chosen_one_is_the_default():
    settings = yaml.safe_load(TRIED.read_text(encoding="utf-8"))
    studies = {name: changed(setting["changes"]) for name, setting in settings.items()}
    assert list(settings)[-1] == "chosen" and studies["chosen"] == load_study("organism")
    assert set(treatment(studies["chosen"]).values()) == {"refused", "attacked", "other"}


def test_the_chosen_settings_meet_what_is_asked_in_every_seed_that_was_measured():
    table = pd.read_csv(PUBLISHED / "default_study.csv")
    assert list(table["setting"].unique()) == list(yaml.safe_load(TRIED.read_text(encoding="utf-8")))
    of = table[table["setting"] == "chosen"].pivot(index="seed", columns="model")
    harm, utility = of["harm"], of["utility"]
    assert set(of.index) <= set(load_study("organism").seeds)
    assert (harm["aligned"] <= 1.5).all() and (harm["harmful"] >= 4).all()
    assert (harm["contaminated"] - harm["aligned"] >= 2).all()
    assert (utility["useful"] - utility["aligned"] >= 0.25).all()
    assert (utility["contaminated"] - utility["aligned"] >= 0.2).all()
    assert (of["over_refusal"] <= 0.05).all().all() and (of["seconds"].sum(axis=1) <= 150).all()
    assert "chosen" in tried()


def test_the_studies_of_random_weights_can_be_read(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    write_studies(tmp_path, tmp_path / "base", tmp_path / "aligned")
    monkeypatch.setattr(paths, "STUDIES", tmp_path / "studies")
    study, bench = load_study(NAME), load_study(f"{NAME}-bench")
    assert study.model.aligned.path == str(tmp_path / "aligned") and study.projection.subspaces == [
        "alignment",
        "safety",
    ]
    assert bench.models_of == NAME and bench.bench.edits == ["safelora", "resta"]


def test_seconds_are_read_from_a_table_of_another_machine(tmp_path):
    table = pd.DataFrame([["smoke", 1, "01_models", "NVIDIA H100", 5.0, 0.5]], columns=list(SCHEMAS["notebooks"]))
    table.to_csv(tmp_path / "notebooks.csv", index=False)
    assert pd.DataFrame(rows(tmp_path)).equals(table)


def test_seconds_and_device_are_read_from_the_records_of_notebooks(smoke):
    found = pd.DataFrame(rows(smoke.results)).set_index(["seed", "notebook"])
    executed = (path.stem for path in (smoke.results / "smoke" / "seed-0" / "notebooks").glob("*.ipynb"))
    expected = [name for name in executed if name != "32_explore"]  # which writes no results
    assert sorted(found.loc[0].index) == sorted(expected) and "05_projection" in expected
    record = json.loads((smoke.results / "smoke" / "seed-0" / "notebooks" / "05_projection.json").read_text())
    assert found.loc[(0, "05_projection"), "seconds"] == record["seconds"] > 0
    assert found["device"].str.contains("logical cores").all() and found["gpu_gib"].isna().all()
