"""A model that gives one reply to everything, so that what a judge makes of replies can be told from what it asks."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.studies.measurements import Judge
from helpers.studies.settings import Study, load_study


def judged_by(judge: Judge, study: Study | None = None) -> Study:
    """A study, that of the small language model unless given, with another judge."""
    study = study or load_study("smollm2-135m")
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"judge": judge})})


def one_reply_model(checkpoint: Path, folder: Path, reply: str) -> Path:
    """Save a model, made from one with untied embeddings and a chat template, that answers every prompt with ``reply``.

    Each token alone decides the next: its embedding is an axis of its own, which the output head takes to the next
    token's logit, and the layers between add nothing. The tokens of the reply must be distinct.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    last = tokenizer("\n")["input_ids"][-1]  # of the chat template's opening of an answer
    chain = [last, *tokenizer(reply)["input_ids"], tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain) and not model.config.tie_word_embeddings
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for axis, (token, following) in enumerate(zip(chain, chain[1:], strict=False)):
            model.model.embed_tokens.weight[token, axis] = 1
            model.lm_head.weight[following, axis] = 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
