"""A training run cut up in any way ends as an undisturbed one: killed, short of memory, or in several processes.

Memory runs out for real where a test says so, and is simulated where it has to run out at a chosen moment.
"""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fault_table import assert_promised
from helpers.errors import StudyError
from helpers.models.organism import build_model
from helpers.training.fit import Batch
from helpers.training.resume import Checkpoints
from helpers.training.train import train
from trained import assert_same_update, needs_two_devices, trained, uneven_rows

JOB = Path(__file__).with_name("training_job.py")


@pytest.fixture
def rows(study):
    """Forty requests."""
    return uneven_rows(study)


def _job(out: Path, *options: str) -> subprocess.Popen:
    """Start ``training_job.py``, which trains an organism and saves it in ``out``."""
    command = [sys.executable, str(JOB), str(out), *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_resumes_and_ends_with_the_same_weights(tmp_path):
    undisturbed, checkpoints = _job(tmp_path / "whole"), tmp_path / "checkpoints"
    victim = _job(tmp_path / "killed", "--checkpoints", str(checkpoints))
    while not any(int(path.name[5:]) >= 12 for path in checkpoints.glob("step-*")):
        assert victim.poll() is None, victim.stderr.read()
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL and not (tmp_path / "killed").exists()
    for name in ("step-990", ".step-994.partial-1"):  # what a kill amid writing, or a full disk, leaves
        (checkpoints / name).mkdir()
        (checkpoints / name / "model.safetensors").write_bytes(b"half")
    assert {path.suffix for path in checkpoints.rglob("*") if path.is_file()} == {".safetensors", ".json"}, "no pickle"
    assert Checkpoints(checkpoints, 4, "another run").latest() is None
    resumed = _job(tmp_path / "killed", "--checkpoints", str(checkpoints))
    said = resumed.communicate()[1]
    assert undisturbed.wait() == 0, undisturbed.stderr.read()
    assert resumed.returncode == 0 and (step := ast.literal_eval(said.splitlines()[-1])["resumed_at"]) >= 12, said
    assert _same_file(tmp_path / "whole", tmp_path / "killed", "model.safetensors") and not checkpoints.exists()
    one, two = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("whole", "killed"))
    first = two.index[two["step"] > step][0]  # its loss is the mean over the steps since the checkpoint only
    pd.testing.assert_frame_equal(one.drop(index=first), two.drop(index=first))


def _same_file(folder: Path, other: Path, name: str) -> bool:
    return (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=[needs_two_devices, pytest.mark.soak])])
def test_memory_that_runs_out_for_real_makes_the_batch_smaller(tmp_path, processes):
    job = _job(tmp_path / "model", "--megabytes", "600", "--processes", str(processes))
    said = job.communicate()[1]
    assert job.returncode == 0 and "training: out of memory with" in said, said
    facts = ast.literal_eval(said.splitlines()[-1])
    assert facts["rows"] * facts["passes"] * facts["processes"] == 64 and facts["rows"] < 64 // processes


def _out_of_memory(model, above: int, first: int = 0) -> list[int]:
    """Let memory run out (simulated) in passes over more rows than ``above``, from pass ``first`` on; counts rows."""
    seen = []

    def check(module, inputs, named):
        seen.append(len(named["input_ids"]))
        if len(seen) > first and seen[-1] > above:
            raise torch.OutOfMemoryError("simulated")

    model.register_forward_pre_hook(check, with_kwargs=True)
    return seen


@pytest.mark.parametrize("first", [0, 3])
def test_a_smaller_batch_goes_on_where_memory_ran_out(study, tokenizer, rows, first, capfd):
    seen = []

    def start(*arguments):
        model = build_model(*arguments)
        seen.append(_out_of_memory(model, above=2, first=first))
        return model

    whole, log = trained(study, tokenizer, rows, {"batch_size": 8})
    model, its_log = trained(study, tokenizer, rows, {"batch_size": 8}, start=start)
    assert seen[0] == [8] * first + [8, 4] + [2] * 4 * (5 - first)
    said = capfd.readouterr().err
    assert "out of memory with 8 rows at a time, goes on with 4 in 2 passes a step" in said
    assert_promised("memory runs out in training", said)
    assert (its_log.attrs["rows"], its_log.attrs["passes"], its_log.attrs["resumed_at"]) == (2, 4, first)
    assert its_log["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-5)
    assert_same_update(study, tokenizer, whole, model)


def test_what_never_fits_is_one_sentence(study, tokenizer, rows):
    def start(*arguments):
        model = build_model(*arguments)
        _out_of_memory(model, above=0)
        return model

    def no_room(*_):
        raise torch.OutOfMemoryError("simulated")

    with pytest.raises(StudyError) as caught:
        trained(study, tokenizer, rows, start=start)
    assert_promised("memory runs out in training with one row at a time", caught.value)
    hook = register_optimizer_step_pre_hook(no_room)
    try:
        with pytest.raises(StudyError, match="optimiser's state does not fit in memory"):
            trained(study, tokenizer, rows)
    finally:
        hook.remove()


@needs_two_devices
def test_two_processes_train_as_one_does(study, tokenizer, rows):
    objective = {"batch_size": 4, "gradient_accumulation": 2}
    one, log = trained(study, tokenizer, rows, objective)
    two, its_log = trained(study, tokenizer, rows, objective, processes=2)
    assert its_log.attrs == {"rows": 4, "passes": 1, "processes": 2, "resumed_at": 0, "dropped": 0}
    assert its_log["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-5)
    assert list(its_log.columns) == list(log.columns) == ["step", "loss", "learning_rate", "grad_norm"]
    assert_same_update(study, tokenizer, one, two)


@needs_two_devices
def test_two_processes_go_on_from_the_checkpoint_of_one(study, tokenizer, rows, tmp_path):
    torch.manual_seed(0)
    model = build_model(study.model, tokenizer)
    objective = study.training.harmful.model_copy(update={"batch_size": 8})
    optimiser = study.training.optimiser.model_copy(update={"checkpoint_steps": 2})

    def accident(*_):
        if (tmp_path / "step-4").exists():
            raise InterruptedError

    hook = model.register_forward_pre_hook(accident)
    with pytest.raises(InterruptedError):
        train(model, tokenizer, rows, objective, optimiser, 0, tmp_path)
    hook.remove()
    two = optimiser.model_copy(update={"processes": 2})
    torch.manual_seed(0)
    resumed = build_model(study.model, tokenizer)
    log = train(resumed, tokenizer, rows, objective, two, 0, tmp_path)
    assert log.attrs["resumed_at"] == 4 and log["step"].tolist() == [1, 2, 3, 4, 5]
    whole, _ = trained(study, tokenizer, rows, {"batch_size": 8})
    assert_same_update(study, tokenizer, whole, resumed.cpu())


def test_processes_share_a_batch_equally_or_not_at_all(study):
    objective = study.training.harmful.model_copy(update={"batch_size": 1, "gradient_accumulation": 32})
    assert Batch.of(objective, 4) == Batch(1, 8, 4)
    assert Batch.of(objective.model_copy(update={"batch_size": 6, "gradient_accumulation": 1}), 3) == Batch(2, 1, 3)
    with pytest.raises(StudyError, match="batch_size 1 x gradient_accumulation 32 cannot be shared by 3 processes"):
        Batch.of(objective, 3)
    assert Batch(6, 2).smaller() == Batch(3, 4) and Batch(3, 4).smaller() == Batch(1, 12)
