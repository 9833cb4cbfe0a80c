"""Training in several processes of this machine, one for each device.

The start and the trained weights are handed over in a folder of safetensors, with the log, or the reason of a failure,
in JSON.
"""

import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils.other import get_free_port
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.utils import logging

from helpers.errors import StudyError
from helpers.files import write_text
from helpers.lifeline import end_with
from helpers.memory import is_out_of_memory, say
from helpers.models.load import read_weights
from helpers.studies.sections import Optimiser
from helpers.training.examples import Example
from helpers.training.fit import Batch, Recipe, fit
from helpers.training.resume import Checkpoints
from helpers.weights.folders import files_of, opened

MODEL, TRAINED, LOG, FAILURE = "model", "trained", "log.json", "failure.json"
MEMORY = "memory"  # the failure that is answered with a smaller batch
STATES = {"float32": 16, "bfloat16": 8}  # bytes per weight: itself, its gradient and AdamW's two moments
SHARDED = {  # accelerate's variables: a part of the states on each GPU, gathered layer by layer and, at the end, whole
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "1",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",  # one unit per decoder layer, which the model names
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true",
    "FSDP_USE_ORIG_PARAMS": "true",
}


def fit_in_processes(
    model: PreTrainedModel, dataset: list[Example], recipe: Recipe, batch: Batch, checkpoints: Checkpoints
) -> pd.DataFrame:
    """Train ``model`` as ``helpers.training.fit.fit`` does, in ``batch.processes`` processes.

    The rows of an optimiser step are the same as in one process, save that the last batch of an epoch is filled up
    with the first rows where their number is no multiple. Without a GPU the processes are on the CPU and talk through
    gloo. Raises MemoryError or StudyError as ``fit`` does, and StudyError when there are fewer GPUs than processes or
    one of them fails.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < batch.processes:
        raise StudyError(f"processes is {batch.processes} but {gpus} GPUs are visible: lower processes")
    shard = _needs_sharding(model, recipe.optimiser)
    if shard and checkpoints.every:
        say("the model is sharded over the GPUs: no checkpoints are written, a killed run starts again")
        checkpoints = Checkpoints(checkpoints.folder, 0, checkpoints.run)
    device, _ = model.device, model.to("cpu")  # the processes need the memory
    with tempfile.TemporaryDirectory(prefix="job-") as scratch:
        job = Path(scratch)
        model.save_pretrained(job / MODEL)
        try:
            _run(job, shard, dataset, recipe, batch, checkpoints)
            state = model.state_dict()
            for file in files_of(job / TRAINED):
                with opened(file) as trained:
                    for name in [*trained.keys()]:
                        state[name].copy_(trained.get_tensor(name))
        finally:
            model.to(device)
        written = json.loads((job / LOG).read_text(encoding="utf-8"))
    log = pd.DataFrame(written["log"])
    log.attrs = written["attrs"]
    return log


def _needs_sharding(model: PreTrainedModel, optimiser: Optimiser) -> bool:
    """Whether weights, gradients and moments fill more than 70 % of the smallest GPU; the rest is for activations.

    A model of 7B weights in float32 needs 16 bytes for each, 112 GB: two GPUs of 80 GB hold a half each, with
    gradient_checkpointing and one row at a time.
    """
    count = torch.cuda.device_count()
    memory = min((torch.cuda.get_device_properties(i).total_memory for i in range(count)), default=float("inf"))
    return model.num_parameters() * STATES[optimiser.weights] > 0.7 * memory


def _run(job: Path, shard: bool, dataset: list[Example], recipe: Recipe, batch: Batch, checkpoints: Checkpoints):
    """Run the processes to their end. Raises MemoryError if they ran out of memory, StudyError if they failed."""
    settings = {"WORLD_SIZE": str(batch.processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(get_free_port())}
    settings |= {"LOCAL_WORLD_SIZE": str(batch.processes)} | (SHARDED if shard else {})
    given = (os.getpid(), settings, job, dataset, recipe, batch, checkpoints)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of the processes, which read it when they load torch
    running = start_processes(_work, given, batch.processes, join=False, daemon=True, start_method="spawn")
    try:
        while not running.join():
            pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        if not (job / FAILURE).exists():
            say(str(error))
            raise StudyError(
                f"one of {batch.processes} training processes failed (see the lines above): try processes: 1"
            ) from None
        failure = json.loads((job / FAILURE).read_text(encoding="utf-8"))
        raise MemoryError if failure == MEMORY else StudyError(failure) from None
    finally:
        for process in running.processes:
            process.kill()  # where this process was interrupted


def _work(
    rank: int, parent: int, settings: dict[str, str], job: Path, dataset, recipe: Recipe, batch: Batch, checkpoints
) -> None:
    """What each of the processes does; the first of them writes the log. A failure that has an answer is written."""
    end_with(parent)
    os.environ |= settings | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(max(1, torch.get_num_threads() // batch.processes))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        set_seed(recipe.seed)
        model = read_weights(job / MODEL, dtype=getattr(torch, recipe.optimiser.weights), use_safetensors=True)
        log = fit(model, dataset, recipe, batch, checkpoints, finish=lambda trainer: _save(trainer, job / TRAINED))
    except Exception as error:
        if isinstance(error, StudyError) or is_out_of_memory(error):
            write_text(job / FAILURE, json.dumps(str(error) if isinstance(error, StudyError) else MEMORY))
        raise
    if rank == 0:
        write_text(job / LOG, json.dumps({"log": log.to_dict("list"), "attrs": log.attrs}))


def _save(trainer: Trainer, folder: Path) -> None:
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of all processes together, if sharded
    if trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model_wrapped).save_pretrained(folder, state_dict=state)
