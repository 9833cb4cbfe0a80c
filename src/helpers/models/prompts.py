"""How prompts are put to a model, which changes results silently unless it is written down with each of them.

As batches of token ids: similar lengths together, padded on a stated side, with the mask and positions that undo it.
``raw``: the prompt as it is, as the paper asks its harmful prompts; ``alpaca``: the template of the paper's training;
``chat``: the model's own chat template.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.memory import backing_off
from helpers.studies.sections import Style

Side = Literal["left", "right"]
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], style: Style, prefixes: list[str] | None = None
) -> list[list[int]]:
    """Token ids of each prompt, ready for an answer to follow; ``prefixes`` are beginnings of answers already given.

    A beginning-of-sequence token comes once: from the chat template where that writes it, else from the tokenizer.
    Raises StudyError if the style is ``chat`` and the tokenizer has no template.
    """
    texts = [styled(tokenizer, prompt, style) for prompt in prompts]
    if prefixes is not None:
        join = " " if style == "raw" else ""
        texts = [
            f"{text}{join}{prefix}".rstrip() if prefix else text for text, prefix in zip(texts, prefixes, strict=True)
        ]
    return tokenizer(texts, add_special_tokens=style != "chat")["input_ids"] if texts else []


def styled(tokenizer: PreTrainedTokenizerBase, prompt: str, style: Style) -> str:
    """The text that stands for a prompt in a style. Raises StudyError for ``chat`` without a chat template."""
    if style == "raw":
        return prompt
    if style == "alpaca":
        return ALPACA.format(prompt=prompt)
    if not tokenizer.chat_template:
        raise StudyError("the tokenizer has no chat template: set style to raw or alpaca in the study's settings")
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


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
