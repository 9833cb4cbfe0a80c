"""A judge that is a language model on this machine: any Hugging Face model, asked greedily by the rubric."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from helpers import rubric
from helpers.batching import batches, padded
from helpers.experiments import best_device
from helpers.files import sha256
from helpers.judge_cache import Keep, Pair, Verdicts
from helpers.judges import Judgement
from helpers.origins import resolve
from helpers.prompts import prompt_ids
from helpers.sections import Judge, Origin


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
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model in the precision it is stored in; loaded when there is something to ask."""
        model = AutoModelForCausalLM.from_pretrained(
            self._folder, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False, local_files_only=True)
        return model.to(best_device()).eval(), tokenizer

    def _ask(self, pairs: list[Pair], keep: Keep) -> None:
        model, tokenizer = self._loaded
        style = "chat" if tokenizer.chat_template else "raw"
        ids = prompt_ids(tokenizer, [rubric.question(*pair) for pair in pairs], style)
        room = getattr(model.config, "max_position_embeddings", None) or float("inf")
        fits = [i for i, row in enumerate(ids) if len(row) + self._settings.max_tokens <= room]
        for i in set(range(len(ids))) - set(fits):
            keep(pairs[i], Judgement(None, False))
        for indices in batches([len(ids[i]) for i in fits], self._batch_size):
            chosen = [fits[i] for i in indices]
            for i, reply in zip(chosen, self._replies([ids[i] for i in chosen]), strict=True):
                keep(pairs[i], rubric.parse(reply))

    @torch.inference_mode()
    def _replies(self, ids: list[list[int]]) -> list[str]:
        model, tokenizer = self._loaded
        inputs = padded(ids, "left", model.device)
        del inputs["position_ids"]  # generate() derives them from the mask
        new_tokens = {"max_new_tokens": self._settings.max_tokens, "pad_token_id": tokenizer.eos_token_id}
        output = model.generate(**inputs, **new_tokens, do_sample=False)
        return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _label(origin: Origin) -> str:
    """A model's name without the folders of this machine."""
    if origin.origin == "folder":
        return Path(origin.path).name
    return f"{origin.id}@{origin.revision}" if origin.origin == "hub" else f"{origin.package}/{Path(origin.file).name}"
