"""Long notebooks in pieces: what is kept is exact and read only where it belongs; jobs apart give the same tables."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.experiments.bases import bases_of
from helpers.files import write_tensors
from helpers.paths import ROOT
from helpers.studies.settings import load_study
from helpers.weights.checkpoints import Checkpoint
from pipeline.plan.demands import divided
from pipeline.runs import parts
from pipeline.runs.jobs import Job
from pipeline.runs.parts import SHARDS, parts_of
from pipeline.runs.pieces import Pieces

STUDY = load_study("smoke")
NOTEBOOK = "05_projection"
PAPER = ("llama-2-7b", "llama-3.2-1b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b")


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint of one tensor, and results of the test's own."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    (tmp_path / "model").mkdir()
    write_tensors(tmp_path / "model" / "model.safetensors", {"w": torch.ones(3, 2)})
    return Checkpoint(tmp_path / "model")


def made(calls: list, value: float = 0.1):
    """What makes a piece, and notes that it was asked to."""

    def make() -> dict[str, pd.DataFrame]:
        calls.append(value)
        return {"projection": pd.DataFrame({"task": ["useful"], "utility": [value]})}

    return make


def test_a_piece_is_made_once_and_cleared_at_the_end(checkpoint):
    pieces, calls = Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": checkpoint}), []
    first = pieces.obtain("one", made(calls))
    again = Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": checkpoint}).obtain("one", made(calls))
    pd.testing.assert_frame_equal(first["projection"], again["projection"])
    assert len(calls) == 1
    pieces.clear()
    pieces.obtain("one", made(calls))
    assert len(calls) == 2


def test_pieces_of_other_models_settings_or_seeds_are_not_read(checkpoint):
    calls = []
    pieces = [
        Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": checkpoint}),
        Pieces(Job(NOTEBOOK, STUDY, 1), {"aligned": checkpoint}),
    ]
    grid = STUDY.projection.model_copy(update={"fractions": [0.5]})
    pieces.append(Pieces(Job(NOTEBOOK, STUDY.model_copy(update={"projection": grid}), 0), {"aligned": checkpoint}))
    os.utime(checkpoint.files()[0], (1, 1))
    pieces.append(Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": Checkpoint(checkpoint.folder)}))
    for one in pieces:
        one.obtain("one", made(calls))
    assert len(calls) == 4


def test_a_piece_that_was_interrupted_leaves_nothing_and_the_others_stay(checkpoint):
    pieces, calls = Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": checkpoint}), []
    pieces.obtain("one", made(calls))

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pieces.obtain("two", killed)
    assert not (pieces.folder / "two").exists()
    pieces.obtain("one", made(calls))
    pieces.obtain("two", made(calls))
    assert len(calls) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_what_is_kept_is_exact(checkpoint, values):
    pieces = Pieces(Job(NOTEBOOK, STUDY, 0), {"aligned": checkpoint})
    pieces.clear()
    kept = pieces.obtain("one", lambda: {"t": pd.DataFrame({"x": np.array(values)})})["t"]["x"]
    assert kept.astype(float).tolist() == values


def test_parts_cover_the_grid_and_a_seven_billion_study_is_fifty_jobs_and_more():
    for name in PAPER:
        study = load_study(name)
        assert divided("04_update_overlap", study) == parts_of("04_update_overlap", study) and divided(NOTEBOOK, study)
        curves = {f"scaling-{task}" for task in study.projection.parallel}
        assert set(parts_of(NOTEBOOK, study)) == curves | {str(basis) for basis in bases_of(study)}
        assert not divided("03_behaviour", study)
    jobs = len(parts_of(NOTEBOOK, study)) + SHARDS  # of one seed, at the same time
    assert 5 * jobs >= 50
    assert not divided(NOTEBOOK, load_study("organism"))


@pytest.mark.parametrize("part", ["", "alignment", "shard-0-of-8", "alignment-top-k-9", "../x"])
def test_an_unknown_part_is_one_sentence(part, capsys):
    assert parts.main([NOTEBOOK, "smoke", "--seed", "0", "--part", part]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "choose one of scaling-useful" in said


@pytest.mark.slow
@pytest.mark.soak  # the parts of test_workflow again, by processes of a workflow each
def test_jobs_apart_give_the_same_tables(smoke, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(smoke.results / "smoke" / "seed-0" / "models", results / "smoke" / "seed-0" / "models")
    own = {"SUBSPACES_RESULTS": str(results), "SUBSPACES_DIVIDE": "1", "PYTHONPATH": str(ROOT / "src")}
    options = ["--cores", "2", "--nolock", "--directory", str(ROOT), "--until", "04_update_overlap"]
    command = [sys.executable, "-m", "snakemake", *options, "--rerun-triggers", "params", "--config", "study=smoke"]
    done = subprocess.run(
        [*command, "seeds=0"], env=os.environ | own, capture_output=True, text=True, cwd=ROOT, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f" {part}: " in done.stdout for part in parts_of("04_update_overlap", STUDY)), done.stdout
    for table in ("update_overlap", "energy"):
        place = f"smoke/seed-0/tables/{table}.csv"
        assert (results / place).read_bytes() == (smoke.results / place).read_bytes(), table
    assert not [path for path in (results / "smoke" / "seed-0" / "scratch").rglob("*") if path.is_file()]
