"""The tokens with which all prompts of a batch begin, such as the system turn of a chat template, computed once.

Within ``beginning_once`` a model computes the keys and values of a common beginning for one row and takes them for all,
and gives states to some rows at a time, of similar length, so that little is padding. It gives what it gave without,
up to the rounding of its sums. Some architectures cannot go on from a beginning with several tokens: so the first time
one row is computed both ways, and a model for which they differ goes on as it is.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.utils import ModelOutput

from helpers.memory import is_out_of_memory
from helpers.models.prompts import Side, padded
from helpers.models.within import language_model

FEWEST = 4  # tokens of a beginning that is worth it
MORE = 8  # tokens after it in which both ways are compared
ROWS = 8  # at a time, when only states are asked for
EXACT, ROUGH = 1e-3, 0.05  # by which the states of a row may differ, as a share, in float32 and in bfloat16
_tried: WeakKeyDictionary[PreTrainedModel, tuple[bool, bool]] = WeakKeyDictionary()  # of models that were compared
STATES = {"input_ids", "attention_mask", "position_ids", "use_cache"}  # what is given where only states are asked for


@contextmanager
def beginning_once(model: Any) -> Iterator[None]:
    """Have a model compute what the rows of a batch begin with once, for states without a cache and in generation."""
    model = language_model(model)
    body, shared = model.base_model, _Beginning(model)
    own = {thing: {name: vars(thing).get(name) for name in names} for thing, names in _patched(model).items()}
    body.forward, model.generate = shared.states, shared.answers
    try:
        yield
    finally:
        for thing, methods in own.items():
            for name, method in methods.items():
                delattr(thing, name)
                if method is not None:
                    setattr(thing, name, method)


def _patched(model: PreTrainedModel) -> dict[torch.nn.Module, list[str]]:
    body = model.base_model
    return {model: ["generate", "forward"]} if body is model else {body: ["forward"], model: ["generate"]}


class _Beginning:
    """One beginning of a model: its tokens, their states, and what attention keeps of them."""

    def __init__(self, model: PreTrainedModel):
        self.forward, self.generate, self.device = model.base_model.forward, model.generate, model.device
        self.kind: type[ModelOutput] = ModelOutput  # of what its body gives
        self.ids: list[int] = []
        self.before: Tensor | None = None  # (tokens, width)
        self.cache: Cache | None = None
        self.model = model
        # whether it works, None until it has been tried, also with padding between the beginning and the rest
        self.works, self.padded_within = _tried.get(model, (None, False))

    def states(self, *args, **given):
        """What the body of the model gives, with the states of every row at its own places."""
        rows = _rows(given) if not args and set(given) == STATES and not given["use_cache"] else []
        if not self._begin(rows):
            return self.forward(*args, **given)
        found, mask = [], given["attention_mask"].bool()
        for start in range(0, len(rows), ROWS):
            found += self._after(rows[start : start + ROWS])
        whole = found[0].new_zeros(*mask.shape, found[0].shape[-1])  # (batch, longest, width)
        for i, states in enumerate(found):
            whole[i, mask[i]] = torch.cat([self.before, states])
        return self.kind(last_hidden_state=whole)

    @torch.no_grad()
    def answers(self, *args, **given):
        """What ``generate`` gives for rows padded on the left; it computes no gradients either."""
        rows = _rows(given) if not args and {"input_ids", "attention_mask"} <= set(given) else []
        if not (self._begin(rows) and self.padded_within):
            return self.generate(*args, **given)
        inputs = self._rest(rows, "left")
        before = given["input_ids"].new_tensor([self.ids]).expand(len(rows), -1)
        inputs["input_ids"] = torch.cat([before, inputs["input_ids"]], 1)  # (batch, longest), padded within
        del inputs["position_ids"]  # generate() derives them from the mask
        return self.generate(**given | inputs)

    def _begin(self, rows: list[list[int]]) -> bool:
        """Whether rows have a beginning that can be shared, which is then computed."""
        ids = os.path.commonprefix(rows)[: min(map(len, rows)) - 1] if len(rows) > 1 else []
        if len(ids) < FEWEST or self.works is False:
            return False
        try:
            if ids != self.ids:
                self._compute(ids)
            if self.works is None:
                self.works = self._agrees(min(rows, key=len)[: len(ids) + MORE])
                _tried[self.model] = self.works, self.padded_within
        except Exception as error:  # of architectures that keep something else, or cannot go on from it
            if is_out_of_memory(error):
                raise
            self.works = False
        return self.works

    def _compute(self, ids: list[int]) -> None:
        found = self.forward(**padded([ids], "right", self.device), use_cache=True)
        self.kind, self.ids = type(found), ids
        self.before, self.cache = found.last_hidden_state[0], found.past_key_values

    def _agrees(self, row: list[int]) -> bool:
        """Whether the last state of a row is the same with and without; of a shorter one padded within, too."""
        plain = self.forward(**padded([row], "right", self.device), use_cache=False).last_hidden_state[0]
        inside = self.forward(**self._rest([row, row[:-1]], "left"), use_cache=True).last_hidden_state[1]
        slides = any(getattr(layer, "is_sliding", False) for layer in self.cache.layers)
        self.padded_within = not slides and self._same(inside[-1], plain[-2])
        return self._same(self._after([row])[0][-1], plain[-1])

    def _same(self, state: Tensor, plain: Tensor) -> bool:
        rounded = self.before.dtype != torch.float32 or torch.is_autocast_enabled(plain.device.type)
        return bool((state - plain).double().norm() <= (ROUGH if rounded else EXACT) * plain.double().norm())

    def _after(self, rows: list[list[int]]) -> list[Tensor]:
        """States of what follows the beginning in each row: (tokens, width) each."""
        states = self.forward(**self._rest(rows, "right"), use_cache=True).last_hidden_state
        return [states[i, : len(row) - len(self.ids)] for i, row in enumerate(rows)]

    def _rest(self, rows: list[list[int]], side: Side) -> dict[str, Any]:
        """What follows the beginning in each row, padded, with the mask of all and a copy of what was kept."""
        inputs = padded([row[len(self.ids) :] for row in rows], side, self.device)
        mask = inputs["attention_mask"]
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(len(rows))
        inputs["position_ids"] += len(self.ids)
        inputs["attention_mask"] = torch.cat([mask.new_ones(len(rows), len(self.ids)), mask], 1)
        return inputs | {"past_key_values": cache}


def _rows(given: dict[str, Any]) -> list[list[int]]:
    """The tokens of each row without its padding."""
    pairs = zip(given["input_ids"], given["attention_mask"].bool(), strict=True)
    return [ids[mask].tolist() for ids, mask in pairs]
