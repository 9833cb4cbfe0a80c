"""Fine-tuning, the same for the embedded model and for a real one, in one process or in several."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from helpers.draws import generator_for
from helpers.memory import free_memory, is_out_of_memory, say
from helpers.models.adapters import adapter_on
from helpers.models.precision import resolved
from helpers.studies.sections import Objective, Optimiser
from helpers.studies.settings import digest
from helpers.training.examples import Example, tokenised
from helpers.training.fit import SAID, Batch, Penalty, Recipe, fit, run_id
from helpers.training.preferences import pairs
from helpers.training.processes import fit_in_processes
from helpers.training.resume import Checkpoints
from helpers.weights.checkpoints import Checkpoint, matched


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    objective: Objective,
    optimiser: Optimiser,
    seed: int,
    folder: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    penalty: Penalty | None = None,
) -> pd.DataFrame:
    """Train ``model`` in place on ``rows`` and return the log (columns step, loss, learning_rate, grad_norm).

    Weights are float32, under bfloat16 autocast if ``optimiser.autocast`` asks for it, unless ``optimiser.weights``
    asks for the released code's bfloat16; of a LoRA adapter, which the objective may ask for, only its factors are
    trained, and they are merged at the end. With ``objective.dpo`` rows have a column ``rejected``, and ``model`` as it
    is given is the reference. With a ``folder`` and ``optimiser.checkpoint_steps``, a killed run resumes
    from its last checkpoint there; checkpoints are removed at the end. When memory runs out, it goes on from the last
    whole step with fewer rows in more passes, the rows of a step being the same. The log's ``attrs`` hold facts for the
    provenance: ``rows`` at a time, ``passes``, ``processes``, ``resumed_at`` (step) and ``dropped`` rows. Raises
    StudyError if training diverges, does not fit in memory, or no row has an answer within ``max_length``.
    """
    set_seed(seed)
    for weight in model.parameters():  # buffers keep their type, as where transformers loads a model in bfloat16
        weight.data = weight.data.to(torch.bfloat16 if optimiser.weights == "bfloat16" else torch.float32)
    optimiser = optimiser.model_copy(update={"autocast": resolved(optimiser.autocast)})
    dataset = tokenised(rows, tokenizer, optimiser.max_length, optimiser.style)
    if objective.dpo is not None:
        dataset = pairs(model, tokenizer, rows, dataset, optimiser, objective.batch_size)
    if dropped := len(rows) - len(dataset):
        say(f"{dropped} of {len(rows)} rows have no answer within {optimiser.max_length} tokens: left out")
    recipe = Recipe(objective, optimiser, seed, tuple(callbacks), penalty)
    adapted = adapter_on(model, objective.lora, draw_of(seed, rows)) if objective.lora else model
    with tempfile.TemporaryDirectory() as scratch:
        every = optimiser.checkpoint_steps if folder else 0
        checkpoints = Checkpoints(Path(folder or scratch), every, run_id(adapted, dataset, recipe))
        log = _fitting(adapted, dataset, recipe, checkpoints)
        checkpoints.clear()
    if objective.lora:
        adapted.merge_and_unload(safe_merge=True)  # into the weights of ``model``
    free_memory()
    log.attrs["dropped"] = dropped
    return log


def draw_of(seed: int, rows: pd.DataFrame) -> int:
    """The seed of an adapter's A: of two trainings on other rows another, or they would share most of their inputs."""
    return generator_for(seed, "adapter", digest(rows[["prompt", "answer"]].to_numpy().tolist()), "lora").initial_seed()


def _fitting(model: PreTrainedModel, dataset: list[Example], recipe: Recipe, checkpoints: Checkpoints) -> pd.DataFrame:
    """The log of a training, with fewer rows at a time whenever memory runs out."""
    batch = Batch.of(recipe.objective, recipe.optimiser.processes)
    while (log := _attempt(model, dataset, recipe, batch, checkpoints)) is None:
        free_memory()  # here, where the failed run's tensors are no longer held by its exception
        smaller = batch.smaller()
        less = f"goes on with {smaller.rows} in {smaller.passes} passes a step"
        say(f"{SAID}out of memory with {batch.rows} rows at a time, {less}")
        batch = smaller
    log.attrs |= vars(batch)
    return log


def _attempt(
    model: PreTrainedModel, dataset: list[Example], recipe: Recipe, batch: Batch, checkpoints: Checkpoints
) -> pd.DataFrame | None:
    """The log of a training with one division of the batch; None if memory runs out, after its steps are saved."""
    run = fit if batch.processes == 1 else fit_in_processes
    try:
        return run(model, dataset, recipe, batch, checkpoints)
    except Exception as error:
        if not is_out_of_memory(error):
            raise


def moved_share(before: Path, after: Path) -> float:
    """Share of the weights that training changed at all, between two model folders, tensor by tensor.

    In bfloat16 most steps of a small learning rate round to nothing, so that this is far below 1. Raises
    TensorMismatch when the folders do not hold the same tensors.
    """
    start, end = Checkpoint(before), Checkpoint(after)
    moved = total = 0
    for name in matched((start, end)):
        changed = start.tensor(name) != end.tensor(name)
        moved, total = moved + int(changed.sum()), total + changed.numel()
    return moved / total
