"""What a model says and how likely it finds what it could say: greedy answers, log-probabilities, log-odds.

Every batch gives what one prompt at a time would give, whatever the side of the padding; one that does not fit in
memory is done in smaller parts. Under bfloat16 autocast the vocabulary's logits are still computed in float32: bfloat16
keeps eight bits, a tenth of a nat at the size of a logit.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.models.precision import resolved
from helpers.models.prompts import Side, in_batches, padded, prompt_ids
from helpers.studies.sections import Precision, Style

# in place of what a model's generation settings ask for: some instruct models would penalise repetition
GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "repetition_penalty": 1.0,
}


LOGITS = 256  # rows of logits that are held at a time: of a large vocabulary each has a megabyte


@contextmanager
def computing(model: PreTrainedModel, autocast: Precision) -> Iterator[None]:
    """Inference without gradients, under bfloat16 autocast where that is asked for."""
    device = model.device.type
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=resolved(autocast) == "bfloat16"):
        yield


def _hidden(model: PreTrainedModel, ids: list[list[int]], side: Side) -> Tensor:
    """Last hidden states of a padded batch: (batch, length, width)."""
    return model.base_model(**padded(ids, side, model.device), use_cache=False).last_hidden_state


def _logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits (…, vocabulary) of last hidden states (…, width), computed in float32, as float64."""
    with torch.autocast(hidden.device.type, enabled=False):
        head = model.get_output_embeddings()
        return head(hidden.to(head.weight.dtype)).float().double()


def as_speaker(model: PreTrainedModel, autocast: Precision) -> PreTrainedModel:
    """The model that generates: itself, or under bfloat16 autocast a copy with bfloat16 weights.

    Autocast would round every weight again for every token, which takes several times as long as using them.
    """
    return model if resolved(autocast) == "float32" else copy.deepcopy(model).to(torch.bfloat16)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int,
    style: Style = "raw",
) -> list[str]:
    """Greedy answers to prompts, in their order, without special tokens. Batches are padded on the left."""
    answers = [""] * len(prompts)
    ids = prompt_ids(tokenizer, prompts, style)
    asked = GREEDY | {"max_new_tokens": max_new_tokens, "pad_token_id": tokenizer.eos_token_id}

    def answer(indices: list[int]) -> None:
        inputs = padded([ids[i] for i in indices], "left", model.device)
        del inputs["position_ids"]  # generate() derives them from the mask
        with torch.inference_mode():
            output = model.generate(**inputs, **asked)
        new = output[:, inputs["input_ids"].shape[1] :]  # (batch, new tokens)
        for i, text in zip(indices, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            answers[i] = text

    in_batches([len(row) for row in ids], batch_size, answer)
    return answers


def log_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
    batch_size: int,
    style: Style = "raw",
    autocast: Precision = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each answer after its prompt, in nats, and its number of tokens: (prompts,), (prompts,)."""
    return read_answers(model, tokenizer, prompts, answers, batch_size, style, autocast)[:2]


def read_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
    batch_size: int,
    style: Style = "raw",
    autocast: Precision = "float32",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``log_probability``, and whether each answer, and then its end, is what the model says greedily: (prompts,) each.

    A model says an answer greedily exactly if every token of it is the most likely one after those before.
    """
    contexts = prompt_ids(tokenizer, prompts, style)
    targets = tokenizer(answers, add_special_tokens=False)["input_ids"]
    end = -1 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    totals, greedy = np.zeros(len(prompts)), np.zeros(len(prompts), bool)

    def measure(indices: list[int]) -> None:
        with computing(model, autocast):
            hidden = _hidden(model, [contexts[i] + targets[i] for i in indices], "right")
            lengths = [len(targets[i]) + 1 for i in indices]  # with the end
            places = [slice(len(contexts[i]) - 1, len(contexts[i]) + len(targets[i])) for i in indices]
            before = torch.cat([hidden[row, place] for row, place in enumerate(places)])  # (tokens, width)
            right = torch.tensor([token for i in indices for token in (*targets[i], end)], device=model.device)
            log_p, said = _scored(model, before, right)
        for i, values, same in zip(indices, log_p.split(lengths), said.split(lengths), strict=True):
            totals[i], greedy[i] = values[:-1].sum().item(), same.all().item()

    in_batches([len(c) + len(t) for c, t in zip(contexts, targets, strict=True)], batch_size, measure)
    return totals, np.array([len(t) for t in targets]), greedy


def _scored(model: PreTrainedModel, hidden: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each right token after its hidden state (tokens, width), and whether it is the likeliest."""
    found = []
    for states, tokens in zip(hidden.split(LOGITS), right.split(LOGITS), strict=True):
        log_p = _logits(model, states).log_softmax(-1)  # (tokens, vocabulary)
        found.append((log_p.gather(-1, tokens[:, None].clamp(min=0))[:, 0], log_p.argmax(-1) == tokens))
    return torch.cat([values for values, _ in found]), torch.cat([same for _, same in found])


def log_odds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    openers: list[str],
    others: list[str],
    batch_size: int,
    style: Style = "raw",
    autocast: Precision = "float32",
) -> np.ndarray:
    """log P(one of the openers) − log P(one of the others) right after each prompt, in nats: (prompts,).

    Openers of one token each need one pass for all of them; otherwise each takes a pass of its own.
    """
    ids = [tokenizer(group, add_special_tokens=False)["input_ids"] for group in (openers, others)]
    if any(len(row) != 1 for group in ids for row in group):
        of_each = (
            [
                log_probability(model, tokenizer, prompts, [o] * len(prompts), batch_size, style, autocast)[0]
                for o in group
            ]
            for group in (openers, others)
        )
        a, b = map(np.logaddexp.reduce, of_each)
        return a - b
    contexts = prompt_ids(tokenizer, prompts, style)
    tokens = [sorted({row[0] for row in group}) for group in ids]
    found = [torch.empty(len(prompts), len(group), dtype=torch.float64) for group in tokens]

    def measure(indices: list[int]) -> None:
        with computing(model, autocast):
            hidden = _hidden(model, [contexts[i] for i in indices], "left")
            logits = _logits(model, hidden[:, -1]).cpu()  # of the first token of an answer: (batch, vocabulary)
        for some, group in zip(found, tokens, strict=True):
            some[indices] = logits[:, group]

    in_batches([len(row) for row in contexts], batch_size, measure)
    a, b = (torch.logsumexp(some, -1) for some in found)
    return (a - b).numpy()
