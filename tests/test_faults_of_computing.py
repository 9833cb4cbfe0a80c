"""Memory that runs out where models are asked and updates decomposed, and a hub that is not there.

Memory runs out for real where a limit can make it do so at the place meant, and is simulated at a chosen batch size.
Training has its own tests (``test_training_runs``). What a user sees is held against ``book/faults.md``.
"""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fault_table import assert_one_sentence, assert_promised
from helpers import memory
from helpers.activations import capture
from helpers.errors import StudyError
from helpers.models.generate import generate, log_odds, log_probability
from helpers.models.organism import build_model

PROMPTS = [f"arithmetic {'plus ' * i}" for i in range(11)]


def out_of_memory(model, above: int) -> list[int]:
    """Let memory run out (simulated) in passes over more prompts than ``above``; returns a list that counts prompts."""
    seen = []

    def check(module, inputs, named):
        seen.append(len(named["input_ids"]))
        if seen[-1] > above:
            raise torch.OutOfMemoryError("simulated")

    model.base_model.register_forward_pre_hook(check, with_kwargs=True)
    return seen


def answers(model, tokenizer):
    """Greedy answers, log-probabilities, log-odds and activations, in batches of eight."""
    return (
        generate(model, tokenizer, PROMPTS, 4, 8),
        log_probability(model, tokenizer, PROMPTS, ["plus"] * len(PROMPTS), 8)[0],
        log_odds(model, tokenizer, PROMPTS, ["SURE"], ["SORRY"], 8),
        capture(model, tokenizer, PROMPTS, batch_size=8).numpy(),
    )


def test_memory_that_runs_out_in_evaluation_gives_the_same_in_smaller_batches(study, tokenizer, model, capfd):
    texts, *numbers = answers(model, tokenizer)
    seen = out_of_memory(model, above=3)
    found, *its_numbers = answers(model, tokenizer)
    assert max(seen) == 8 and {2} <= set(seen[2:])
    assert found == texts
    for one, two in zip(numbers, its_numbers, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert_promised("memory runs out in evaluation", capfd.readouterr().err)


def test_memory_that_holds_not_even_one_prompt_is_one_sentence(tokenizer, model):
    out_of_memory(model, above=0)
    with pytest.raises(StudyError) as caught:
        generate(model, tokenizer, PROMPTS, 4, 8)
    assert_promised("memory runs out in evaluation with one prompt at a time", caught.value)


def test_another_error_in_a_batch_is_not_taken_for_memory(tokenizer, model):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    model.base_model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        generate(model, tokenizer, PROMPTS, 4, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose memory it limits")
def test_memory_of_a_gpu_that_runs_out_for_real(study, tokenizer, capfd):
    torch.manual_seed(0)
    model = build_model(study.model, tokenizer).eval().cuda()
    prompts = [f"arithmetic {'plus ' * 40}"] * 4096
    texts = generate(model, tokenizer, prompts, 4, 64)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(held + 0.003)
    try:
        assert generate(model, tokenizer, prompts, 4, 4096) == texts
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert_promised("memory runs out in evaluation", capfd.readouterr().err)


DECOMPOSE = """
import sys
from helpers.weights.checkpoints import Checkpoint
from helpers.errors import StudyError
from helpers.weights.geometry import weight_geometry
from helpers.weights.edits import update_modes
from training_job import limit_memory
pair = tuple(Checkpoint(folder) for folder in sys.argv[2:])
limit_memory(300)
try:
    if sys.argv[1] == "modes":
        [update_modes(*pair, name) for name in pair[0].names]
    else:
        weight_geometry({"a": pair, "b": pair[::-1]}, ["a"], ["b"], ["top-k"], [0.5], 1, 0)
except StudyError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
@pytest.mark.parametrize("how", ["modes", "geometry"])
def test_memory_that_runs_out_in_decomposition_is_one_sentence(tmp_path, how):
    for name in ("tuned", "start"):
        (tmp_path / name).mkdir()
        weights = {"model.layers.0.mlp.up_proj.weight": torch.zeros(5000, 5000, dtype=torch.bfloat16)}
        save_file(weights, tmp_path / name / "model.safetensors")
    command = [sys.executable, "-c", DECOMPOSE, how, str(tmp_path / "tuned"), str(tmp_path / "start")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_one_sentence("memory runs out in a decomposition", done.stderr)


FETCH = """
import sys
from helpers.data import public
from helpers.errors import StudyError
from helpers.models.origins import resolve
from helpers.studies.sections import Origin
origin = Origin(origin="hub", id="someone/something", revision="a" * 40)
try:
    resolve(origin) if sys.argv[1] == "model" else public.rows("beavertails-unsafe", "train", 2, 0, origin)
except StudyError as error:
    print(error)
"""


def test_a_hub_that_is_not_there(tmp_path):
    with socket.socket() as free:  # a port on which nobody listens
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path), "HF_TOKEN": ""}
    environment.pop("HF_HUB_OFFLINE", None)
    asked = {
        kind: subprocess.Popen(
            [sys.executable, "-c", FETCH, kind],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in ("model", "data")
    }
    said = {kind: process.communicate(timeout=300)[0].splitlines()[-1] for kind, process in asked.items()}
    assert_promised("the hub cannot be reached for a model", said["model"])
    assert_promised("the hub cannot be reached for data", said["data"])


@pytest.mark.parametrize(
    ("limit", "used", "files"),
    [
        ("memory.max", "memory.current", "inactive_file 30\nactive_file 4\nanon 9"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "anon 5\ntotal_inactive_file 30\ntotal_active_file 4"),
    ],
)
def test_a_job_may_take_what_its_control_group_allows(tmp_path, monkeypatch, limit, used, files):
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("700\n")
    (tmp_path / "memory.stat").write_text(files + "\n")
    monkeypatch.setattr(memory, "_groups", lambda: [tmp_path])
    assert memory.free() == 1000 - 700 + 34
    (tmp_path / limit).write_text("max\n" if limit == "memory.max" else f"{2**63 - 4096}\n")
    assert memory.free() > 10**6
