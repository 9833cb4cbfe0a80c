"""A judge that is a language model on this machine: any Hugging Face model, asked greedily by the rubric."""

from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.evaluation.judges import rubric
from helpers.evaluation.judges.base import Judgement
from helpers.evaluation.judges.cache import Keep, Pair, Verdicts
from helpers.files import sha256
from helpers.models.batching import batches
from helpers.models.generate import generate
from helpers.models.load import Loaded, load_model
from helpers.models.origins import resolve
from helpers.models.prompts import prompt_ids
from helpers.studies.sections import Judge, Origin


class LocalJudge:
    """Asks a model to score answers by the rubric, through its chat template where it has one."""

    def __init__(self, settings: Judge, batch_size: int):
        self._settings = settings
        self._batch_size = batch_size
        self._folder = resolve(settings.model)
        self._identity = {
            "judge": "local",
            "model": _label(settings.model),
            "weights": sha256(self._folder),
            "rubric": rubric.RUBRIC,
            "temperature": 0,
            "max_tokens": settings.max_tokens,
        }
        self._verdicts = Verdicts(self._identity)

    def judge(self, prompts: list[str], answers: list[str], references: list[str]) -> list[Judgement]:
        """Judge answers to prompts, in order, asking only what was never asked.

        An answer that does not fit the model with the rubric gets no score, like a reply that cannot be read.
        """
        return self._verdicts.judge(prompts, answers, self._ask)

    def describe(self) -> dict[str, Any]:
        """Model, hash of its files, rubric and how it is asked."""
        return dict(self._identity)

    @cached_property
    def _loaded(self) -> Loaded:
        """The model in the precision it is stored in; loaded when there is something to ask."""
        return load_model(self._folder, dtype="auto")

    def _ask(self, pairs: list[Pair], keep: Keep) -> None:
        model, tokenizer = self._loaded
        style = "chat" if tokenizer.chat_template else "raw"
        questions = [rubric.question(*pair) for pair in pairs]
        lengths = [len(row) for row in prompt_ids(tokenizer, questions, style)]
        room = getattr(model.config, "max_position_embeddings", None) or float("inf")
        for indices in batches(lengths, self._batch_size):
            fits = [i for i in indices if lengths[i] + self._settings.max_tokens <= room]
            asked = [questions[i] for i in fits]
            replies = generate(model, tokenizer, asked, self._settings.max_tokens, self._batch_size, style)
            verdicts = dict(zip(fits, map(rubric.parse, replies), strict=True))
            for i in indices:
                keep(pairs[i], verdicts.get(i, Judgement(None, False)))


def _label(origin: Origin) -> str:
    """A model's name without the folders of this machine."""
    if origin.origin == "folder":
        return Path(origin.path).name
    return f"{origin.id}@{origin.revision}" if origin.origin == "hub" else f"{origin.package}/{Path(origin.file).name}"
