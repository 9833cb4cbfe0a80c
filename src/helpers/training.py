"""Fine-tuning through the transformers Trainer, the same for the embedded model and for a real one."""

import math
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from helpers.answers import AnswerDataset, collate
from helpers.errors import StudyError
from helpers.files import replace_folder
from helpers.sections import Objective, Optimiser


class StopOnNonFinite(TrainerCallback):
    """Ends a run whose loss or gradient is NaN or infinite before it can be saved."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Raise StudyError at the first logged value that is not finite."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                where = f"training diverged at step {state.global_step} ({name} is {value})"
                raise StudyError(f"{where}: lower learning_rate")


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    objective: Objective,
    optimiser: Optimiser,
    seed: int,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Train ``model`` in place on ``rows`` and return the log (columns step, loss, learning_rate, grad_norm).

    Weights are float32 unless ``optimiser.weights`` asks for the paper's bfloat16. Raises StudyError if it diverges.
    """
    set_seed(seed)
    model.to(torch.bfloat16 if optimiser.weights == "bfloat16" else torch.float32)
    dataset = AnswerDataset(rows, tokenizer, optimiser.max_length, optimiser.style)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=_arguments(scratch, objective, optimiser, seed, len(dataset)),
            train_dataset=dataset,
            data_collator=collate,
            callbacks=[StopOnNonFinite()],
        )
        trainer.remove_callback(PrinterCallback)  # the log is returned, not printed
        trainer.train()
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # evaluation is not to inherit autocast
    log = pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry])
    return log[["step", "loss", "learning_rate", "grad_norm"]]


def _arguments(scratch: str, objective: Objective, optimiser: Optimiser, seed: int, rows: int) -> TrainingArguments:
    batch = objective.batch_size * objective.gradient_accumulation
    steps = math.ceil(rows * objective.epochs / batch)
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=objective.epochs,
        per_device_train_batch_size=objective.batch_size,
        gradient_accumulation_steps=objective.gradient_accumulation,
        learning_rate=objective.learning_rate,
        lr_scheduler_type=optimiser.schedule,
        warmup_steps=math.ceil(steps * optimiser.warmup_ratio),
        adam_beta1=optimiser.beta1,
        adam_beta2=optimiser.beta2,
        weight_decay=optimiser.weight_decay,
        max_grad_norm=optimiser.max_grad_norm,
        seed=seed,
        data_seed=seed,
        logging_steps=max(1, steps // 20),
        logging_nan_inf_filter=False,
        bf16=optimiser.autocast == "bfloat16",
        activation_checkpointing=optimiser.gradient_checkpointing,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save model and tokenizer as safetensors so that a half-written folder never bears the final name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    replace_folder(partial, folder)
