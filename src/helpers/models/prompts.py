"""How prompts are put to a model, which changes results silently unless it is written down with each of them.

As batches of token ids: similar lengths together, padded on a stated side, with the mask and positions that undo it.
``raw``: the prompt as it is, as the paper asks its harmful prompts; ``alpaca``: the template of the paper's training;
``chat``: the model's own chat template. Some templates write today's date: they are told that of the style, as in
``chat 2025-01-31``, or else the one that Llama's take without a clock, so that a prompt is the same on every day.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Literal

import torch
from tokenizers.processors import TemplateProcessing
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from helpers.errors import StudyError
from helpers.memory import backing_off, say
from helpers.studies.values import Style

Side = Literal["left", "right"]
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)
TODAY = "2024-07-26"  # in the prompts of a style that names no date
_written: set[str] = set()  # dates that a template has written in this process


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], style: Style, prefixes: list[str] | None = None
) -> list[list[int]]:
    """Token ids of each prompt, ready for an answer to follow; ``prefixes`` are beginnings of answers already given.

    A beginning-of-sequence token comes once: from the chat template where that writes it, else from the tokenizer. What
    a tokenizer appends to every text, such as an end, is left out. Raises StudyError if the style is ``chat`` and the
    tokenizer has no template.
    """
    texts = [styled(tokenizer, prompt, style) for prompt in prompts]
    if prefixes is not None:
        join = " " if style == "raw" else ""
        texts = [
            f"{text}{join}{prefix}".rstrip() if prefix else text for text, prefix in zip(texts, prefixes, strict=True)
        ]
    plain = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    first, last = around(tokenizer)
    if last:
        _say_once(f"the tokenizer ends every text with {last}: left out, for an answer follows the prompt")
    begin = tokenizer.convert_tokens_to_ids(first)
    return [row if row[: len(begin)] == begin else begin + row for row in plain]


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[str]]:
    """The tokens that a tokenizer puts before, and after, every text."""
    plain, whole = (tokenizer("a 1", add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    found = whole[:start], whole[start + len(plain) :]
    return tuple(tokenizer.convert_ids_to_tokens(ids) for ids in found)


@contextmanager
def appending_nothing(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Have a tokenizer end no text with a token of its own, for a library that calls it itself."""
    first, last = around(tokenizer)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if not last or core is None:
        yield
        return
    own = core.post_processor
    known = [(token, tokenizer.convert_tokens_to_ids(token)) for token in first]
    core.post_processor = TemplateProcessing(single=[*first, "$A"], special_tokens=known)
    try:
        yield
    finally:
        core.post_processor = own


def styled(tokenizer: PreTrainedTokenizerBase, prompt: str, style: Style) -> str:
    """The text that stands for a prompt in a style. Raises StudyError for ``chat`` if no template writes it."""
    if style == "raw":
        return prompt
    if style == "alpaca":
        return ALPACA.format(prompt=prompt)
    if not tokenizer.chat_template:
        raise StudyError("the tokenizer has no chat template: set style to raw or alpaca in the study's settings")
    turns = [{"role": "user", "content": prompt}]
    try:
        with on_the_day_of(style):
            return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template can raise whatever it is made to
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        remedy = f"correct chat_template in {tokenizer.name_or_path or 'its folder'}, or set style to raw or alpaca"
        raise StudyError(
            f"the tokenizer's chat template cannot write a prompt ({reason}): {remedy} in the study's settings"
        ) from None


@contextmanager
def on_the_day_of(style: Style) -> Iterator[None]:
    """Have chat templates that ask for today's date be given that of a style, whatever day it is."""
    day = style.partition(" ")[2] or TODAY

    def now() -> datetime:
        _written.add(day)
        return datetime.fromisoformat(day)

    own, chat_template_utils.datetime = chat_template_utils.datetime, SimpleNamespace(now=now)
    try:
        yield
    finally:
        chat_template_utils.datetime = own


def dated() -> dict[str, str]:
    """The date that chat templates wrote into prompts in this process, for the provenance; {} if none did."""
    return {"date_in_prompts": ", ".join(sorted(_written))} if _written else {}


@functools.cache
def _say_once(line: str) -> None:
    say(line)


def in_batches(lengths: list[int], batch_size: int, work: Callable[[list[int]], None]) -> None:
    """Call ``work`` with the indices of one batch after another, of similar length.

    The longest come first, so that a batch that does not fit fails at once. When memory runs out, what is left is done
    with half as many at a time. Raises StudyError if one does not fit.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: -lengths[i])

    def attempt(size: int) -> None:
        while waiting:
            work(waiting[:size])
            del waiting[:size]

    backing_off(min(batch_size, len(waiting)), attempt)


def padded(ids: list[list[int]], side: Side, device: torch.device) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and position ids of a batch, each (batch, longest).

    A real token keeps the position it has without padding, whatever the side; the padding is never attended to.
    """
    tokens = [torch.tensor(row, dtype=torch.long) for row in ids]
    mask = pad_sequence([torch.ones_like(row) for row in tokens], True, 0, side)
    inputs = {"input_ids": pad_sequence(tokens, True, 0, side), "attention_mask": mask}
    inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return {name: values.to(device) for name, values in inputs.items()}
