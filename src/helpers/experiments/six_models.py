"""The models of a study, from wherever they come: what it begins with, and each one trained or taken as it is."""

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.data.rows import training_rows
from helpers.errors import StudyError
from helpers.experiments.planted import contaminate, plant, safety_directions
from helpers.methods.context import Context
from helpers.models.language import Language
from helpers.models.load import Loaded, load_model
from helpers.models.organism import build_model, build_tokenizer
from helpers.models.origins import resolve
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from helpers.training.course import Course
from helpers.training.train import train


def first_model(study: Study, seed: int) -> Loaded:
    """What a study begins with: an untrained organism with weights drawn by the seed, or the pretrained base model."""
    if study.embedded:
        tokenizer = build_tokenizer(Language(study.language), study.training.optimiser.max_length)
        torch.manual_seed(seed)
        return build_model(study.model, tokenizer), tokenizer
    return load_model(resolve(study.model.base))


def obtain(
    study: Study, name: str, seed: int, start: Loaded, rows: pd.DataFrame, run: RunPaths
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, pd.DataFrame]:
    """One of the study's models with its tokenizer and its training log, empty for one that exists already.

    ``start`` is trained in place on ``rows``; ``run`` has the models made before, and holds the checkpoints of a long
    training.
    """
    objective = getattr(study.training, name)
    if study.planted:
        return *start, plant(study, name, seed, start, rows, run)
    if objective is not None:
        return *start, train(*start, rows, objective, study.training.optimiser, seed, run.scratch(name))
    origin = getattr(study.model, name)
    model, tokenizer = start if name == "base" else load_model(resolve(origin))
    return model, tokenizer, pd.DataFrame(columns=["step", "loss", "learning_rate", "grad_norm"])


def contaminated(context: Context, course: Course) -> dict[str, Tensor]:
    """The parameters of the aligned model after the study's contaminated fine-tuning with a course, float64 on the CPU.

    With a course that changes nothing they are those of the study's contaminated model. Raises StudyError where it
    cannot be followed (``check_followed``), and of preferences, whose loss no course adds to.
    """
    study, seed, run = context.study, context.seed, RunPaths(context.study.models_of, context.seed)
    model, tokenizer = load_model(context.checkpoints["aligned"].folder)
    objective = study.training.contaminated
    check_followed(context, model, "contaminated")
    if objective.dpo is not None:
        raise StudyError(
            "methods during training add to the loss of answers, which training.contaminated has not: leave its dpo out"
        )
    rows = training_rows(study, objective, seed, context.checkpoints["base"].folder)
    if study.planted:
        contaminate(study, seed, (model, tokenizer), rows, safety_directions(study, run), course)
    else:
        train(model, tokenizer, rows, objective, study.training.optimiser, seed, **course.begin(model))
    return {name: parameter.detach().double().cpu() for name, parameter in model.named_parameters()}


def check_followed(context: Context, model: PreTrainedModel, task: str) -> None:
    """Raise StudyError unless a fine-tuning moves the checkpoint's own tensors, all of them, in this process."""
    rule = context.study.training
    whole = not getattr(rule, task).lora and rule.optimiser.processes == 1
    if not whole or {name for name, _ in model.named_parameters()} != set(context.names):
        raise StudyError(
            f"to follow a training, all weights have to be trained in one process (training.{task} without lora, "
            "processes: 1), of a model whose parameters are stored one by one: name such a study in bench.of"
        )
