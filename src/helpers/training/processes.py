"""Training in several processes, one for each device, through ``accelerate launch``.

The weights, the tokenised rows and the settings are handed over in a folder of safetensors and JSON; each process is
this module, run as ``python -m helpers.training.processes FOLDER``.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.utils import logging

from helpers.errors import StudyError
from helpers.files import write_text
from helpers.lifeline import KERNEL, end_with
from helpers.memory import is_out_of_memory, say
from helpers.models.load import read_weights
from helpers.studies.sections import Objective, Optimiser
from helpers.training.examples import Example
from helpers.training.fit import SAID, Batch, Recipe, fit
from helpers.training.resume import Checkpoints
from helpers.weights.checkpoints import Checkpoint

JOB, MODEL, TRAINED, LOG, FAILURE = "job.json", "model", "trained", "log.json", "failure.json"
MEMORY = "memory"  # the failure that is answered with a smaller batch
STATES = {"float32": 16, "bfloat16": 8}  # bytes per weight: itself, its gradient and AdamW's two moments


def fit_in_processes(
    model: PreTrainedModel, dataset: list[Example], recipe: Recipe, batch: Batch, checkpoints: Checkpoints
) -> pd.DataFrame:
    """Train ``model`` as ``helpers.training.fit.fit`` does, in ``batch.processes`` processes.

    The rows of an optimiser step are the same as in one process, save that the last batch of an epoch is filled up
    with the first rows where their number is no multiple. A model whose training state does not fit on one GPU is
    sharded over all, and then has no checkpoints. Raises MemoryError or StudyError as ``fit`` does, and StudyError when
    there are fewer GPUs than processes or one of them fails.
    """
    processes, gpus = batch.processes, torch.cuda.device_count()
    if 0 < gpus < processes:
        raise StudyError(f"processes is {processes} but {gpus} GPUs are visible: lower processes")
    shard = _needs_sharding(model, recipe.optimiser)
    if shard and checkpoints.every:
        say("the model is sharded over the GPUs: no checkpoints are written, a killed run starts again")
    order = {
        "objective": recipe.objective.model_dump(mode="json"),
        "optimiser": recipe.optimiser.model_dump(mode="json"),
        "seed": recipe.seed,
        "batch": dataclasses.asdict(batch),
        "checkpoints": [str(checkpoints.folder.resolve()), 0 if shard else checkpoints.every, checkpoints.run],
        "rows": dataset,
    }
    device, _ = model.device, model.to("cpu")  # the processes need the memory
    with tempfile.TemporaryDirectory(prefix="job-") as scratch:
        job = Path(scratch)
        model.save_pretrained(job / MODEL)
        write_text(job / JOB, json.dumps(order))
        try:
            _run(job, command(job, processes, recipe.optimiser.autocast, shard))
            state, trained = model.state_dict(), Checkpoint(job / TRAINED)
            for name in trained.names:
                state[name].copy_(trained.tensor(name))
        finally:
            model.to(device)
        written = json.loads((job / LOG).read_text(encoding="utf-8"))
    log = pd.DataFrame(written["log"])
    log.attrs = written["attrs"]
    return log


def command(folder: Path, processes: int, autocast: str, shard: bool) -> list[str]:
    """The command that starts the processes; without a GPU they are on the CPU and talk through gloo.

    ``shard`` is for a model such as one of 7B weights in float32, which needs 16 bytes per weight, 112 GB, before
    activations: FSDP then keeps a part of weights, gradients and moments on each GPU, layer by layer, and gathers the
    whole model at the end. Two GPUs of 80 GB hold 7B with gradient_checkpointing and one row at a time.
    """
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,  # a free one
        "mixed_precision": "bf16" if autocast == "bfloat16" else "no",
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": max(1, torch.get_num_threads() // processes),
    }
    if shard:
        options |= {
            "fsdp_version": 1,
            "fsdp_sharding_strategy": "FULL_SHARD",
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",  # one unit per decoder layer, which the model names
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": "true",
            "fsdp_sync_module_states": "true",
            "fsdp_use_orig_params": "true",
        }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    kind = "--use_fsdp" if shard else "--multi_gpu"
    return [sys.executable, "-m", "accelerate.commands.launch", kind, *words, "--module", __spec__.name, str(folder)]


def _needs_sharding(model: PreTrainedModel, optimiser: Optimiser) -> bool:
    """Whether weights, gradients and moments fill more than 70 % of the smallest GPU; the rest is for activations."""
    count = torch.cuda.device_count()
    memory = min((torch.cuda.get_device_properties(i).total_memory for i in range(count)), default=float("inf"))
    return model.num_parameters() * STATES[optimiser.weights] > 0.7 * memory


def _run(job: Path, words: list[str]) -> None:
    """Run the processes to their end and pass on their progress.

    Raises MemoryError if they ran out of memory, StudyError for any other failure.
    """
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", KERNEL: str(os.getpid())}
    chatter = []
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        for line in process.stderr:
            if line.startswith(SAID):
                say(line.rstrip())
            else:
                chatter.append(line)
        status = process.wait()
    finally:
        if process.poll() is None:  # this process was interrupted
            process.terminate()
            process.wait()
    if (job / FAILURE).exists():
        failure = json.loads((job / FAILURE).read_text(encoding="utf-8"))
        raise MemoryError if failure == MEMORY else StudyError(failure)
    if status or not (job / LOG).exists():
        say("".join(chatter))
        raise StudyError("one of the training processes failed (see the lines above): try processes: 1")


def work(job: Path) -> None:
    """What each of the processes does: train, and in the first of them write the trained weights and the log."""
    order = json.loads((job / JOB).read_text(encoding="utf-8"))
    objective, optimiser = Objective(**order["objective"]), Optimiser(**order["optimiser"])
    folder, every, run = order["checkpoints"]
    set_seed(order["seed"])
    model = read_weights(job / MODEL, dtype=getattr(torch, optimiser.weights), use_safetensors=True)
    log = fit(
        model,
        order["rows"],
        Recipe(objective, optimiser, order["seed"]),
        Batch(**order["batch"]),
        Checkpoints(Path(folder), every, run),
        finish=lambda trainer: _save(trainer, job / TRAINED),
    )
    if int(os.environ["RANK"]) == 0:
        write_text(job / LOG, json.dumps({"log": log.to_dict("list"), "attrs": log.attrs}))


def _save(trainer: Trainer, folder: Path) -> None:
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of all processes together, if sharded
    if trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model_wrapped).save_pretrained(folder, state_dict=state)


def main(folder: str) -> int:
    """One process; returns the exit status. What the user can put right is left in the folder for the parent."""
    logging.disable_progress_bar()
    end_with(os.environ.get(KERNEL))
    try:
        work(Path(folder))
    except Exception as error:
        if not isinstance(error, StudyError) and not is_out_of_memory(error):
            raise
        write_text(Path(folder) / FAILURE, json.dumps(str(error) if isinstance(error, StudyError) else MEMORY))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
