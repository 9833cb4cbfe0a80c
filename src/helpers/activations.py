"""Activations of prompts at one token: the residual stream after every block, and both ends of every linear map."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.models.logits import computing
from helpers.models.prompts import Side, in_batches, padded, prompt_ids
from helpers.models.within import decoder_layers, language_model, text_config
from helpers.studies.values import Precision, Style


@contextmanager
def recording(model: PreTrainedModel, row: Tensor, position: Tensor) -> Iterator[list[Tensor]]:
    """Collect each block's output at ``[row, position]`` during a forward pass; the hooks are always removed.

    Yields a list that fills with one (batch, width) float32 CPU tensor per layer.
    """
    collected: list[Tensor] = []

    def keep(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output  # (batch, length, width)
        if hidden.ndim != 3:
            raise StudyError(f"{type(model).__name__} has {len(hidden)} residual streams: only one can be captured")
        collected.append(hidden[row, position].float().cpu())

    handles = [layer.register_forward_hook(keep) for layer in decoder_layers(model)]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def capture(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    position: int = -1,
    batch_size: int = 64,
    padding_side: Side | None = None,
    style: Style = "raw",
    autocast: Precision = "float32",
) -> Tensor:
    """Residual stream after every block at one token of each prompt: (layers, prompts, width), float32, on the CPU.

    ``position`` counts real tokens: -1 is the last one of the prompt, 0 the first; padding is never counted, so left,
    right (default: the tokenizer's side) and no padding give the same activations. Memory is bounded by the batch.
    Entry l is ``hidden_states[l + 1]`` of transformers, but without the final norm for the last layer.
    Of a model that also sees, the language part's. Raises StudyError for an empty list of prompts, a string instead of
    one, a prompt without that token, or a model without one residual stream.
    """
    if isinstance(prompts, str):
        raise StudyError("prompts are one string, of which each letter would be a prompt: pass a list, [prompt]")
    if not len(prompts):
        raise StudyError("no prompts were given to capture activations of: pass at least one")
    model, ids = language_model(model), prompt_ids(tokenizer, list(prompts), style)
    short = [i for i, row in enumerate(ids) if not -len(row) <= position < len(row)]
    if short:
        raise StudyError(f"prompt {short[0]} has {len(ids[short[0]])} tokens, so none at position {position}")
    side = padding_side or tokenizer.padding_side
    activations = torch.empty(len(decoder_layers(model)), len(ids), text_config(model).hidden_size)

    def keep(indices: list[int]) -> None:
        with computing(model, autocast):
            activations[:, indices] = _forward(model, [ids[i] for i in indices], position, side)

    was_training = model.training
    model.eval()
    try:
        in_batches([len(row) for row in ids], batch_size, keep)
    finally:
        model.train(was_training)
    return activations


def _forward(model: PreTrainedModel, batch: list[list[int]], position: int, side: Side) -> Tensor:
    inputs = padded(batch, side, model.device)
    lengths = torch.tensor([len(row) for row in batch], device=model.device)
    longest = inputs["input_ids"].shape[1]
    offset = longest - lengths if side == "left" else torch.zeros_like(lengths)  # pads before the first real token
    column = offset + (position if position >= 0 else lengths + position)  # (batch,)
    with recording(model, torch.arange(len(batch), device=model.device), column) as collected:
        model.base_model(**inputs, use_cache=False)
    return torch.stack(collected)  # (layers, batch, width)


@torch.no_grad()
def through_maps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], style: Style = "raw"
) -> dict[str, dict[str, Tensor]]:
    """What enters (``input``) and leaves (``output``) every linear map at the last token of each prompt.

    Each maps the name of a weight (m, n) to (prompts, n) or (prompts, m), float64, on the CPU. Prompts pass one by one,
    so nothing is padded; the hooks are always removed.
    """
    found: dict[str, dict[str, list[Tensor]]] = {"input": {}, "output": {}}

    def watch(weight: str) -> Callable:
        def keep(_module, inputs: tuple[Tensor], output: Tensor) -> None:  # (1, length, n) -> (1, length, m)
            for side, x in (("input", inputs[0]), ("output", output)):
                found[side].setdefault(weight, []).append(x[0, -1].double().cpu())

        return keep

    maps = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    handles = [module.register_forward_hook(watch(name)) for name, module in maps.items()]
    try:
        for ids in prompt_ids(tokenizer, prompts, style):
            model(torch.tensor([ids], device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    return {side: {name: torch.stack(rows) for name, rows in kept.items()} for side, kept in found.items()}
