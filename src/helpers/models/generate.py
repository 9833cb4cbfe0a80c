"""What a model says and how likely it finds what it could say: greedy answers, log-probabilities, log-odds.

Every batch gives what one prompt at a time would give, whatever the side of the padding; one that does not fit in
memory is done in smaller parts. A model may be in a wrapper of PEFT or of torch.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from helpers.models.logits import computing, logits_at
from helpers.models.openers import apart
from helpers.models.precision import resolved
from helpers.models.prompts import in_batches, padded, prompt_ids
from helpers.models.within import language_model
from helpers.studies.values import Precision, Style


def as_speaker(model: PreTrainedModel, autocast: Precision) -> PreTrainedModel:
    """The model that generates: itself, or under bfloat16 autocast a copy with bfloat16 weights.

    Autocast would round every weight again for every token, which takes several times as long as using them. Buffers
    keep their type, as where transformers loads a model in bfloat16: rounded frequencies would turn late positions by
    the wrong angle. A model without room in memory speaks for itself, in float32.
    """
    if resolved(autocast) == "float32" or any(p.is_meta for p in model.parameters()):
        return model
    rounded = {id(p): nn.Parameter(p.detach().bfloat16()) for p in model.parameters()}
    return copy.deepcopy(model, rounded)  # which takes for a parameter what it finds under its id


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int,
    style: Style = "raw",
) -> list[str]:
    """Greedy answers to prompts, in their order, without special tokens. Batches are padded on the left."""
    answers, model = [""] * len(prompts), language_model(model)
    ids = prompt_ids(tokenizer, prompts, style)

    def answer(indices: list[int]) -> None:
        """Fill in the answers at some places, generated as one batch."""
        inputs = padded([ids[i] for i in indices], "left", model.device)
        del inputs["position_ids"]  # generate() derives them from the mask
        with torch.inference_mode(), _greedy(model, tokenizer, max_new_tokens) as asked:
            output = model.generate(**inputs, generation_config=asked)
        new = output[:, inputs["input_ids"].shape[1] :]  # (batch, new tokens)
        for i, text in zip(indices, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            answers[i] = text

    in_batches([len(row) for row in ids], batch_size, answer)
    return answers


@contextmanager
def _greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> Iterator[GenerationConfig]:
    """The most likely token at every step until an end: of a model's generation settings only its ends count.

    And the tokenizer's, which training teaches. Others would penalise, forbid or force tokens, and transformers fills
    in from them whatever a call leaves open.
    """
    own, head = model.generation_config, model.get_output_embeddings()
    ends = {*np.atleast_1d(own.eos_token_id), tokenizer.eos_token_id} - {None}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    greedy = GenerationConfig(
        eos_token_id=sorted(map(int, ends)) or None, pad_token_id=pad or 0, max_new_tokens=max_new_tokens
    )
    model.generation_config = greedy
    joined = head.register_forward_pre_hook(_in_one_piece) if head is not None else None
    try:
        yield greedy
    finally:
        model.generation_config = own
        if joined is not None:
            joined.remove()


def _in_one_piece(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """States (batch, 1, width) that are a slice of a prompt's, apart from it.

    Of a slice and a frozen head torch makes a copy of the head for every prompt: 8 GB for 16 and 128,256 x 2,048.
    """
    return (inputs[0].contiguous(), *inputs[1:])


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
    model, contexts = language_model(model), prompt_ids(tokenizer, prompts, style)
    targets = tokenizer(answers, add_special_tokens=False)["input_ids"]
    end = -1 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    totals, greedy = np.zeros(len(prompts)), np.zeros(len(prompts), bool)

    def measure(indices: list[int]) -> None:
        """Fill in the values at some places, computed as one batch."""
        with computing(model, autocast):
            lengths = [len(targets[i]) + 1 for i in indices]  # with the end
            places = [slice(len(contexts[i]) - 1, len(contexts[i]) + len(targets[i])) for i in indices]
            right = torch.tensor([token for i in indices for token in (*targets[i], end)], device=model.device)
            logits = logits_at(model, [contexts[i] + targets[i] for i in indices], places, "right")
            log_p, said = _scored(logits, right)
        for i, values, same in zip(indices, log_p.split(lengths), said.split(lengths), strict=True):
            totals[i], greedy[i] = values[:-1].sum().item(), same.all().item()

    in_batches([len(c) + len(t) for c, t in zip(contexts, targets, strict=True)], batch_size, measure)
    return totals, np.array([len(t) for t in targets]), greedy


def _scored(logits: Iterable[Tensor], right: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each right token (tokens,), and whether it is the likeliest, by parts of the logits."""
    found, done = [], 0
    for some in logits:
        tokens, log_p = right[done : done + len(some)], some.log_softmax(-1)  # (tokens, vocabulary)
        found.append((log_p.gather(-1, tokens[:, None].clamp(min=0))[:, 0], log_p.argmax(-1) == tokens))
        done += len(some)
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

    Openers of one token each need one pass for all of them; otherwise each takes a pass of its own. Raises StudyError
    for an opener that the tokenizer does not know, or that begins one of the other group.
    """
    groups = apart(tokenizer, openers, others)
    if any(len(tokens) != 1 for group in groups for tokens in group.values()):
        ask = (batch_size, style, autocast)
        each = ([log_probability(model, tokenizer, prompts, [o] * len(prompts), *ask)[0] for o in g] for g in groups)
        a, b = map(np.logaddexp.reduce, each)
        return a - b
    first = [[token for (token,) in group.values()] for group in groups]
    logits = _next(model, prompt_ids(tokenizer, prompts, style), first[0] + first[1], batch_size, autocast)
    a, b = (torch.logsumexp(some, -1) for some in logits.split([len(group) for group in first], -1))
    return (a - b).numpy()


def _next(
    model: PreTrainedModel, contexts: list[list[int]], tokens: list[int], batch_size: int, autocast: Precision
) -> Tensor:
    """Logits of some tokens right after each context, in float64: (contexts, tokens)."""
    model, found = language_model(model), torch.empty(len(contexts), len(tokens), dtype=torch.float64)

    def measure(indices: list[int]) -> None:
        """Fill in the values at some places, computed as one batch."""
        last = [slice(-1, None)] * len(indices)  # after which an answer begins
        with computing(model, autocast):
            parts = logits_at(model, [contexts[i] for i in indices], last, "left")
            found[indices] = torch.cat([some[:, tokens].cpu() for some in parts]).double()

    in_batches([len(row) for row in contexts], batch_size, measure)
    return found
