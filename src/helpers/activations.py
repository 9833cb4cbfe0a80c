"""Residual-stream activations of prompts, and the overlap of the subspaces they span."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.answering import computing
from helpers.batching import Side, in_batches, padded
from helpers.data import disjoint_rows, evaluation_rows, halves_by_topic
from helpers.errors import StudyError
from helpers.memory import enough_to
from helpers.prompts import prompt_ids
from helpers.sections import Precision, Style
from helpers.settings import Study
from helpers.subspaces import decompose, mode_subspace_overlap

PAIRS = {  # name of a pair of prompt sets -> the sets, each of which spans one subspace per layer
    "useful-harmful": ("useful", "harmful-a"),
    "benign-harmful": ("benign", "harmful-matched"),
    "harmful-harmful": ("harmful-topics-1", "harmful-topics-2"),
    "harmful-toxic": ("harmful-a", "toxic"),
    "harmful-ceiling": ("harmful-a", "harmful-b"),
    "useful-ceiling": ("useful", "useful-b"),
}


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of transformer blocks of a model, whatever its family calls it. Raises StudyError if there is none."""
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise StudyError(f"{type(model).__name__} has no list of {depth} blocks to hook: only decoder models are supported")


@contextmanager
def recording(model: PreTrainedModel, row: Tensor, position: Tensor) -> Iterator[list[Tensor]]:
    """Collect each block's output at ``[row, position]`` during a forward pass; the hooks are always removed.

    Yields a list that fills with one (batch, width) float32 CPU tensor per layer.
    """
    collected: list[Tensor] = []

    def keep(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output  # (batch, length, width)
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
    Raises StudyError for an empty list of prompts or a prompt without that token.
    """
    if not len(prompts):
        raise StudyError("no prompts were given to capture activations of: pass at least one")
    ids = prompt_ids(tokenizer, list(prompts), style)
    short = [i for i, row in enumerate(ids) if not -len(row) <= position < len(row)]
    if short:
        raise StudyError(f"prompt {short[0]} has {len(ids[short[0]])} tokens, so none at position {position}")
    side = padding_side or tokenizer.padding_side
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    activations = torch.empty(layers, len(ids), width)

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


def prompt_sets(study: Study, seed: int) -> dict[str, list[str]]:
    """The prompt sets of PAIRS, all of (about) the size the study asks for, from held-out prompts.

    ``harmful-a``/``-b`` are two halves of one draw. ``harmful-topics-1``/``-2`` are two harmful sets that share no
    topic: in the embedded study halves by topic, else two data sets. ``benign`` and ``harmful-matched`` have one form.
    """
    n, chosen = study.activation_overlap.prompts, study.activation_overlap.sources
    if chosen is None:
        sizes = {"utility": 2 * n, "harm": 2 * n, "benign": n}
        parts = disjoint_rows(study, sizes, seed)
        useful, harmful, benign = (part["prompt"].tolist() for part in parts.values())
        first, second = (half["prompt"].tolist() for half in halves_by_topic(parts["harm"]))
        matched = harmful[:n]
    else:
        harmful, useful = _prompts(study, chosen.harmful, 2 * n, seed), _prompts(study, chosen.useful, 2 * n, seed)
        first, second = harmful[:n], _prompts(study, chosen.other_harmful, n, seed)
        m = study.activation_overlap.matched_prompts or n
        matched, benign = (_prompts(study, s, m, seed) for s in (chosen.matched_harmful, chosen.matched_benign))
    toxic = {"toxic": _prompts(study, chosen.toxic, n, seed)} if chosen is not None and chosen.toxic else {}
    return {
        "useful": useful[:n],
        "useful-b": useful[n:],
        "benign": benign,
        "harmful-matched": matched,
        "harmful-a": harmful[:n],
        "harmful-b": harmful[n:],
        "harmful-topics-1": first,
        "harmful-topics-2": second,
    } | toxic


def _prompts(study: Study, source: str, n: int, seed: int) -> list[str]:
    return evaluation_rows(study, source, n, seed)["prompt"].tolist()


def activation_overlaps(sets: dict[str, Tensor], study: Study) -> pd.DataFrame:
    """MSO of every pair of PAIRS at every layer and energy fraction, with the random baseline (claim C4).

    ``sets`` maps a prompt set to its activations (layers, prompts, width); matrices are (width, prompts), uncentred.
    Layers are numbered as transformers' ``hidden_states``: 1 is the output of the first block.
    """
    depth = next(iter(sets.values())).shape[0]
    present = {pair: names for pair, names in PAIRS.items() if set(names) <= set(sets)}
    low, high = (int(share * depth) for share in study.activation_overlap.band)
    rows = []
    for layer in range(1, depth + 1):
        with enough_to(f"decompose the activations of layer {layer}"):
            modes = {name: decompose(a[layer - 1].T) for name, a in sets.items()}
        for pair, (a, b) in present.items():
            for eta in study.activation_overlap.energy_fractions:
                overlap = mode_subspace_overlap(modes[a], modes[b], eta)
                rows.append({"layer": layer, "in_band": low <= layer < high, "pair": pair, "eta": eta, **vars(overlap)})
    return pd.DataFrame(rows)
