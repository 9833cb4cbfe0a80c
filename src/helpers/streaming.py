"""Updates as a stream of blocks of one tensor at a time, read from mapped files while the last block is computed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from helpers.checkpoints import Checkpoint, Matched, check_finite
from helpers.controls import blocks

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")
Pieces = dict[str, Tensor]  # update label -> block with the short side first, (s, b) float64
Updates = dict[str, tuple[Checkpoint, Checkpoint]]  # update label -> (tuned, start)


@dataclass(frozen=True)
class Part:
    """One block of one tensor: all its short side, ``long`` of its long side."""

    name: str
    shape: tuple[int, ...]
    long: slice

    @property
    def index(self) -> tuple[slice, ...]:
        """The block as an index of the stored tensor; rows beyond the common vocabulary are never read."""
        if len(self.shape) == 2 and self.shape[0] <= self.shape[1]:
            return slice(0, self.shape[0]), self.long
        return (self.long,)


class UpdateStream:
    """Blocks of updates, each the difference of two checkpoints, in float64 on a device."""

    def __init__(self, updates: Updates, matched: Matched, device: str = "cpu"):
        self.updates, self.matched, self.device = updates, matched, torch.device(device)

    def parts(self, name: str) -> Iterator[Part]:
        """The blocks of one tensor along its long side."""
        shape = self.matched.shapes[name]
        return (Part(name, shape, long) for long in blocks(max(shape), min(shape) if len(shape) == 2 else 1))

    def over(self, names: Iterable[str], labels: Iterable[str] | None = None) -> Iterator[tuple[Part, Pieces]]:
        """All blocks of all ``names`` in order; the next block is read while the caller works on this one."""
        labels = list(self.updates) if labels is None else list(labels)
        parts = (part for name in names for part in self.parts(name))
        for part, raw in prefetched(parts, lambda part: (part, self._read(part, labels))):
            yield part, self._differences(part, raw, labels)

    def _read(self, part: Part, labels: list[str]) -> dict[Checkpoint, Tensor]:
        checkpoints = {checkpoint for label in labels for checkpoint in self.updates[label]}
        return {c: self._transfer(c.tensor(part.name)[part.index]) for c in checkpoints}

    def _transfer(self, mapped: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return mapped.clone(memory_format=torch.contiguous_format)
        return mapped.contiguous().pin_memory().to(self.device, non_blocking=True)

    def _differences(self, part: Part, raw: dict[Checkpoint, Tensor], labels: list[str]) -> Pieces:
        exact = {checkpoint: tensor.double() for checkpoint, tensor in raw.items()}
        pieces = {
            label: exact[tuned] - exact[start] for label, (tuned, start) in self.updates.items() if label in labels
        }
        tall = len(part.shape) == 2 and part.shape[0] > part.shape[1]
        return {label: piece.T for label, piece in pieces.items()} if tall else pieces


@dataclass(frozen=True)
class TensorBlocks:
    """One tensor of a stream: its shape, and its blocks as often as they are needed."""

    stream: UpdateStream
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n) or (m,)."""
        return self.stream.matched.shapes[self.name]

    @property
    def tall(self) -> bool:
        """Whether it has more rows than columns."""
        return len(self.shape) == 2 and self.shape[0] > self.shape[1]

    def blocks(self, labels: Iterable[str]) -> Iterator[Pieces]:
        """All blocks of some updates."""
        return (pieces for _, pieces in self.stream.over([self.name], labels))

    def refuse(self) -> None:
        """Raise TensorMismatch that names the first file in which the tensor is not finite."""
        for tuned, start in self.stream.updates.values():
            for checkpoint in (start, tuned):
                check_finite(checkpoint, self.name)


def prefetched(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[Loaded]:
    """``load(item)`` for each item in order, each loaded in a thread while the caller uses the one before."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for item in items:
            upcoming = pool.submit(load, item)
            if pending is not None:
                yield pending.result()
            pending = upcoming
        if pending is not None:
            yield pending.result()
