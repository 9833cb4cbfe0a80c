"""Word problems through lm-evaluation-harness, on a model object in memory: exact match of the last number.

The task is ``harness.yaml`` beside this file. Nothing is fetched, nothing is reported to anyone, and model and
tokenizer are afterwards as they were before.
"""

import contextlib
import functools
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.memory import backing_off
from helpers.models.prompts import appending_nothing, on_the_day_of
from helpers.studies.measurements import Harness

TASK = Path(__file__).with_suffix(".yaml")
CACHED = 8  # tasks kept in memory: one per set of rows and settings


def exact_matches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, harness: Harness, batch_size: int
) -> np.ndarray:
    """1 for every row whose last number of the greedy answer is the right one, else 0, in the rows' order: (rows,).

    ``rows``: columns ``prompt`` and ``answer``, which ends in ``#### `` and the number. Raises StudyError if an answer
    does not, if there are fewer worked examples than ``harness.shots``, or if ``harness.chat`` meets a tokenizer
    without a chat template.
    """
    _check(tokenizer, rows, harness)
    with _undisturbed(model, tokenizer), appending_nothing(tokenizer), on_the_day_of("chat"):
        from lm_eval.evaluator import evaluate  # here, because the imports take a second that others need not wait
        from lm_eval.models.huggingface import HFLM

        task = _task(tuple(rows["prompt"]), tuple(rows["answer"]), harness.shots, harness.max_new_tokens)
        chat = {"apply_chat_template": harness.chat, "fewshot_as_multiturn": harness.chat}

        def attempt(size: int) -> dict:
            live = HFLM(model, tokenizer=tokenizer, batch_size=size)
            return evaluate(live, {"tasks": {task.task_name: task}}, bootstrap_iters=0, **chat)

        found = backing_off(batch_size, attempt)
    samples = sorted(found["samples"][task.task_name], key=lambda sample: sample["doc_id"])
    return np.array([sample["exact_match"] for sample in samples], float)


@functools.lru_cache(CACHED)
def _task(prompts: tuple[str, ...], answers: tuple[str, ...], shots: int, max_new_tokens: int):
    """The harness's task for these rows, built once for all models that are asked them."""
    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    settings = _settings()
    settings["num_fewshot"] = shots
    settings["generation_kwargs"]["max_gen_toks"] = max_new_tokens
    rows = Dataset.from_dict({"prompt": prompts, "answer": answers})
    settings["custom_dataset"] = lambda **_: {settings["test_split"]: rows}  # load_dataset would tell its makers of it
    return TaskManager(include_defaults=False).load([settings])["tasks"][settings["task"]]


def _settings() -> dict:
    return yaml.safe_load(TASK.read_text(encoding="utf-8"))


def _check(tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, harness: Harness) -> None:
    unmarked = rows.index[~rows["answer"].str.contains("#### ", regex=False)]
    if len(unmarked):
        raise StudyError(
            f"word problem {unmarked[0]} has an answer without '#### ' before its number: "
            "set evaluation.utility to a data set of word problems (gsm8k or gsm-symbolic)"
        )
    examples = len(_settings()["fewshot_config"]["samples"])
    if harness.shots > examples:
        raise StudyError(f"evaluation.harness.shots is {harness.shots}, but there are only {examples} worked examples")
    if harness.chat and not tokenizer.chat_template:
        raise StudyError("the tokenizer has no chat template: set evaluation.harness.chat to false")


@contextlib.contextmanager
def _undisturbed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Without log lines and progress bars, which the harness cannot be asked to leave out.

    Afterwards the model's mode and the tokenizer's padding, which it sets for itself, are as before.
    """
    training, pad, side = model.training, tokenizer.pad_token, tokenizer.padding_side
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        model.train(training)
        tokenizer.pad_token, tokenizer.padding_side = pad, side
