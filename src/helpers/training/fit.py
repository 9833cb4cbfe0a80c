"""One training run through the transformers Trainer: its arguments, what it says and logs, and a batch that fits."""

import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from helpers.errors import StudyError
from helpers.memory import is_out_of_memory, say
from helpers.studies.sections import Objective, Optimiser
from helpers.studies.settings import digest
from helpers.training.answers import AnswerTrainer, pays
from helpers.training.examples import IGNORED, Example, collate
from helpers.training.preferences import Pair, Preferring, collate_pairs
from helpers.training.resume import Checkpoints

COLUMNS = ["step", "loss", "learning_rate", "grad_norm"]
SECONDS_BETWEEN_LINES = 60  # of progress: a short run says nothing
SAID = "training: "  # how its lines begin
Penalty = Callable[[tuple[Tensor, ...], dict[str, Tensor]], Tensor]  # of all layers' outputs and the batch's inputs


@dataclass(frozen=True)
class Recipe:
    """What a training run is asked to do."""

    objective: Objective
    optimiser: Optimiser
    seed: int
    callbacks: tuple[TrainerCallback, ...] = ()  # called before the run's own
    penalty: Penalty | None = None  # added to the loss


class Penalised(Trainer):
    """A Trainer whose loss has a second term, of the activations or of the weights."""

    penalty: Penalty

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The model's own loss plus the penalty: of one pass its share of the step's tokens, and of its passes."""
        outputs = model(**inputs, output_hidden_states=True)
        tokens = (inputs["labels"] != IGNORED).sum() / num_items_in_batch
        penalty = self.penalty(outputs.hidden_states, inputs) / self.current_gradient_accumulation_steps
        loss = outputs.loss * tokens + penalty
        return (loss, outputs) if return_outputs else loss


@dataclass(frozen=True)
class Batch:
    """How the rows of one optimiser step are divided over forward passes, in each of ``processes``."""

    rows: int  # in one forward pass of one process
    passes: int  # of each process before the weights change
    processes: int = 1

    @classmethod
    def of(cls, objective: Objective, processes: int = 1) -> "Batch":
        """The batch of an objective over several processes. Raises StudyError if they cannot share it equally."""
        rows, passes = objective.batch_size, objective.gradient_accumulation
        if passes % processes == 0:
            return cls(rows, passes // processes, processes)
        if rows % processes == 0:
            return cls(rows // processes, passes, processes)
        raise StudyError(
            f"batch_size {rows} x gradient_accumulation {passes} cannot be shared by {processes} processes: "
            "make one of the two a multiple of processes"
        )

    def smaller(self) -> "Batch":
        """Fewer rows at a time and more passes: as many rows in a step. Raises StudyError if it is one row already."""
        if self.rows == 1:
            raise StudyError(
                "training does not fit in memory even with one row at a time: set gradient_checkpointing: true or "
                "weights: bfloat16, lower max_length, or use more or larger devices (processes)"
            )
        factor = next(n for n in range(2, self.rows + 1) if self.rows % n == 0)
        return Batch(self.rows // factor, self.passes * factor, self.processes)


class Watch(TrainerCallback):
    """Ends a run whose loss or gradient is NaN or infinite, and says once a minute, at most, how far a long one is."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self.began = self.said = time.monotonic()
        self.first = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        """One line on stderr if the last is long enough ago; the estimate is from the steps of this process alone."""
        now, done = time.monotonic(), state.global_step - self.first
        if state.is_world_process_zero and now - self.said >= SECONDS_BETWEEN_LINES:
            left = (now - self.began) / done * (state.max_steps - state.global_step)
            say(f"{SAID}step {state.global_step} of {state.max_steps}, about {left / 60:.0f} min left")
            self.said = now

    def on_log(self, args, state, control, logs, **kwargs):
        """Raise StudyError at the first logged value that is not finite."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(value := logs.get(name, 0)):
                where = f"training diverged at step {state.global_step} ({name} is {value})"
                raise StudyError(f"{where}: lower learning_rate")


def fit(
    model: PreTrainedModel,
    dataset: list[Example] | list[Pair],
    recipe: Recipe,
    batch: Batch,
    checkpoints: Checkpoints,
    finish: Callable[[Trainer], None] | None = None,
) -> pd.DataFrame:
    """Train ``model`` with one division of the batch, from the newest checkpoint if there is one; returns the log.

    ``finish`` is called with the Trainer at the end. When memory runs out after some steps of a single process, those
    are saved as a checkpoint before the error is passed on.
    """
    use_cache, start = model.config.use_cache, checkpoints.latest()
    with tempfile.TemporaryDirectory() as scratch:
        preferring = recipe.objective.dpo is not None
        trainer = _kind_of(model, recipe, batch)(
            model=model,
            args=arguments(scratch, recipe, batch, len(dataset)),
            train_dataset=dataset,
            data_collator=collate_pairs if preferring else collate,
            callbacks=[*recipe.callbacks, Watch(), checkpoints],
        )
        trainer.penalty, trainer.beta = recipe.penalty, recipe.objective.dpo
        trainer.shares = not recipe.optimiser.gradient_checkpointing
        trainer.remove_callback(PrinterCallback)  # the log is returned, not printed
        try:
            trainer.train(resume_from_checkpoint=str(start) if start else None)
            if finish:
                finish(trainer)
        except Exception as error:
            if is_out_of_memory(error):
                _keep_steps(trainer, checkpoints)
            raise
        finally:
            trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # evaluation must not inherit autocast
            model.activation_checkpointing_disable()
            model.config.use_cache = use_cache
    log = pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry])[COLUMNS]
    log.attrs = {"resumed_at": int(start.name.removeprefix("step-")) if start else 0}
    return log


def _kind_of(model: PreTrainedModel, recipe: Recipe, batch: Batch) -> type[Trainer]:
    if recipe.objective.dpo is not None:
        return Preferring
    if recipe.penalty:
        return Penalised
    return AnswerTrainer if batch.processes == 1 and pays(model) else Trainer


def _keep_steps(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Save what was trained before memory ran out. Raises StudyError if it ran out amid an update of the weights."""
    if checkpoints.updating:
        raise StudyError(
            "the optimiser's state does not fit in memory, whatever the batch: set weights: bfloat16, or use more or "
            "larger devices (processes)"
        ) from None
    if trainer.state.global_step and trainer.args.world_size == 1:
        trainer.model.zero_grad()  # room for the copy
        checkpoints.write(trainer.state)


def arguments(scratch: str, recipe: Recipe, batch: Batch, rows: int) -> TrainingArguments:
    """The Trainer's arguments for a run over ``rows`` rows; ``scratch`` is a folder it never writes to."""
    objective, optimiser = recipe.objective, recipe.optimiser
    steps = math.ceil(rows * objective.epochs / (objective.batch_size * objective.gradient_accumulation))
    chosen = TrainingArguments(
        **({"optim": optimiser.method} if optimiser.method != "adamw" else {}),
        output_dir=scratch,
        num_train_epochs=objective.epochs,
        per_device_train_batch_size=batch.rows,
        gradient_accumulation_steps=batch.passes,
        learning_rate=objective.learning_rate,
        lr_scheduler_type=optimiser.schedule,
        warmup_steps=math.ceil(steps * optimiser.warmup_ratio),
        adam_beta1=optimiser.beta1,
        adam_beta2=optimiser.beta2,
        weight_decay=optimiser.weight_decay,
        max_grad_norm=optimiser.max_grad_norm,
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=max(1, steps // 20),
        logging_nan_inf_filter=False,
        bf16=optimiser.autocast == "bfloat16",
        activation_checkpointing=optimiser.gradient_checkpointing,
        save_strategy="no",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    chosen._n_gpu = min(chosen.n_gpu, 1)  # one process is one device: with more, the batch would grow unasked
    return chosen


def run_id(model: PreTrainedModel, dataset: list[Example], recipe: Recipe) -> str:
    """Hash of what a training's result depends on: settings, seed, rows, and a sample of every tensor it starts from.

    How the batch is divided, and what only changes speed or memory, is left out.
    """
    objective, free = recipe.objective, {"gradient_checkpointing", "checkpoint_steps", "processes"}
    sample = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        sample.update(name.encode() + flat[:: max(1, len(flat) // 256)].float().cpu().numpy().tobytes())
    return digest(
        recipe.optimiser.model_dump(mode="json", exclude=free),
        [objective.epochs, objective.learning_rate, objective.batch_size * objective.gradient_accumulation],
        recipe.seed,
        dataset,
        sample.hexdigest(),
    )
