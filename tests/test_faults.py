"""Faults of disks and files, made for real: a full disk, a read-only folder, damaged and outdated results.

What a user then sees is held against the report's page on faults (``book/faults.md``).
"""

import json
import os
import sys
import time
from pathlib import PurePosixPath

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fault_table import assert_one_sentence, assert_promised, covered, promised
from helpers.errors import Damaged, StudyError, Unwritable
from helpers.models.load import save_model
from helpers.models.organism import build_model
from helpers.training.examples import tokenised
from helpers.training.fit import Batch, Recipe, fit
from helpers.training.resume import Checkpoints
from mounts import mounted
from pipeline.report.chapters import Chapter
from pipeline.report.records import seconds
from pipeline.results import provenance, tables
from pipeline.runs.notebook import Run
from trained import uneven_rows

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a small disk as Linux does")


def test_the_page_and_the_tests_name_the_same_faults():
    assert covered() == set(promised())


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MiB."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as folder:
        yield folder


def fill(disk, leave: int) -> None:
    """Use up a disk but for so many bytes."""
    room = os.statvfs(disk)
    (disk / "filling").write_bytes(b"0" * (room.f_bavail * room.f_frsize - leave))


@linux
def test_disk_full_while_a_table_is_written(small_disk):
    path = small_disk / "tables" / "energy_summary.csv"
    older = pd.DataFrame(
        [["a"] * len(tables.SCHEMAS["energy_summary"])], columns=list(tables.SCHEMAS["energy_summary"])
    )
    tables.write_csv(path, "energy_summary", older)
    before = path.read_bytes()
    fill(small_disk, 8192)
    with pytest.raises(Unwritable) as caught:
        tables.write_csv(path, "energy_summary", pd.concat([older] * 5000))
    assert_promised("disk full while a table is written", caught.value)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
    (small_disk / "filling").unlink()
    tables.write_csv(path, "energy_summary", pd.concat([older] * 10))
    assert len(tables.read_csv(path, "energy_summary")) == 10


@linux
def test_disk_full_while_a_model_is_written(small_disk, model, tokenizer):
    save_model(model, tokenizer, small_disk / "m")
    before = (small_disk / "m" / "model.safetensors").read_bytes()
    fill(small_disk, 40960)
    with pytest.raises(Unwritable) as caught:
        save_model(model, tokenizer, small_disk / "m")
    assert_promised("disk full while a model is written", caught.value)
    assert (small_disk / "m" / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in small_disk.iterdir()) == ["filling", "m"]


def training(study, tokenizer, folder):
    """A training with a checkpoint at every second step: what ``fit`` takes."""
    torch.manual_seed(0)
    objective = study.training.harmful.model_copy(update={"batch_size": 8})
    recipe = Recipe(objective, study.training.optimiser, 0)
    rows = tokenised(uneven_rows(study), tokenizer, 64)
    return build_model(study.model, tokenizer), rows, recipe, Batch.of(objective), Checkpoints(folder, 2, "this run")


@linux
def test_disk_full_while_a_checkpoint_is_written(small_disk, study, tokenizer, tmp_path):
    whole, *rest = training(study, tokenizer, tmp_path / "elsewhere")
    fit(whole, *rest)
    size = sum(p.stat().st_size for p in (tmp_path / "elsewhere").rglob("*") if p.is_file())
    fill(small_disk, size + size // 2)  # room for the first checkpoint, not for the second beside it
    with pytest.raises(StudyError) as caught:
        fit(*training(study, tokenizer, small_disk / "steps"))
    assert_promised("disk full while a checkpoint is written", caught.value)
    assert [p.name for p in (small_disk / "steps").iterdir()] == ["step-2"]
    (small_disk / "filling").unlink()
    resumed, *rest = training(study, tokenizer, small_disk / "steps")
    assert fit(resumed, *rest).attrs["resumed_at"] == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_damaged_checkpoint_is_passed_over(study, tokenizer, tmp_path, capfd):
    fit(*training(study, tokenizer, tmp_path))
    file = next(tmp_path.glob("step-4/optimiser.safetensors"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    log = fit(*training(study, tokenizer, tmp_path))
    assert log.attrs["resumed_at"] == 0
    assert_promised("the checkpoint of a training is damaged", capfd.readouterr().err)


@pytest.fixture
def trained_run(tmp_path, monkeypatch, model, tokenizer, study):
    """A run whose seed has an aligned model and a table, recorded as the notebooks do."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    run = Run("03_behaviour", study, 0)
    save_model(model, tokenizer, run.folder.model("aligned"))
    run.record(run.folder.model("aligned"))
    run.write(
        "behaviour",
        pd.DataFrame([["aligned", "harm", 1.0, 0.1, 16]], columns=["model", "measure", "value", "stderr", "prompts"]),
    )
    return run


def test_truncated_weights(trained_run):
    file = trained_run.folder.model("aligned") / "model.safetensors"
    trained_run.require("models/aligned")
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(Damaged) as caught:
        trained_run.require("models/aligned")
    assert_promised("weights are cut short", caught.value)


def test_flipped_bit_in_weights(trained_run):
    file = trained_run.folder.model("aligned") / "model.safetensors"
    times, name = os.stat(file), "model.layers.0.mlp.up_proj.weight"
    before = load_file(file)[name].clone()
    content = bytearray(file.read_bytes())
    content[-1000] ^= 0b100
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk leaves them
    provenance.sha256.__globals__["_sha256"].cache_clear()  # each notebook is a process of its own
    assert load_file(file)[name].shape == before.shape  # safetensors itself sees nothing
    with pytest.raises(Damaged) as caught:
        trained_run.require("models/aligned")
    assert_promised("a bit of the weights flips", caught.value)


def test_a_table_that_was_changed(trained_run):
    path = trained_run.folder.table("behaviour")
    path.write_text(path.read_text().replace("1,", "5,"))
    with pytest.raises(Damaged) as caught:
        trained_run.read("behaviour")
    assert_promised("a table is changed after it was written", caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"output": 1}', '{"output": {}', "\xff"])
def test_a_record_that_is_damaged(trained_run, content):
    provenance.sidecar(trained_run.folder.table("behaviour")).write_bytes(content.encode("latin-1"))
    with pytest.raises(Damaged) as caught:
        trained_run.read("behaviour")
    assert_promised("the record of a result is damaged", caught.value)
    assert "\n" not in str(caught.value)


@linux
@pytest.mark.slow
def test_disk_full_while_the_report_is_built(smoke, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        done = smoke.run(sys.executable, "-m", "pipeline.report.build", "smoke", "--folder", str(disk / "build"))
    assert done.returncode == 1
    assert_one_sentence("disk full while the report is built", done.stderr)


@pytest.mark.parametrize("change", ["missing", "extra", "order"])
def test_a_table_from_another_version(trained_run, change):
    path = trained_run.folder.table("behaviour")
    table = pd.read_csv(path)
    older = {
        "missing": table.drop(columns="stderr"),
        "extra": table.assign(median=0.0),
        "order": table[table.columns[::-1]],
    }
    older[change].to_csv(path, index=False)
    trained_run.record(path)  # as that version did
    with pytest.raises(StudyError) as caught:
        trained_run.read("behaviour")
    words = {"missing": "lacks stderr", "extra": "adds median", "order": "is in the order prompts, stderr"}[change]
    assert words in str(caught.value)
    assert_promised("a table was made by another version", caught.value)


def test_a_notebook_takes_no_less_than_no_time_where_the_clock_is_set_back(trained_run, monkeypatch, tmp_path):
    path = trained_run.folder.table("behaviour")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    trained_run.record(path)
    assert json.loads(path.with_suffix(".json").read_text())["seconds"] >= 0
    book = tmp_path / "x.ipynb"
    book.write_text(json.dumps({"metadata": {"papermill": {"duration": -3600.0}}}))
    assert seconds(Chapter(book, PurePosixPath("x"), "")) == 0.0
