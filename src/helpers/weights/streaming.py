"""Updates as a stream of blocks of one tensor at a time, read from mapped files while the last block is computed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from helpers.draws import blocks
from helpers.weights.checkpoints import Checkpoint, Matched, Updates, check_finite

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")
Pieces = dict[str, Tensor]  # update label -> block with the short side first, (s, b) float64


@dataclass(frozen=True)
class Part:
    """One block of one tensor: all its short side, ``long`` of its long side."""

    name: str
    shape: tuple[int, ...]
    long: slice

    @property
    def tall(self) -> bool:
        """Whether the tensor has more rows than columns."""
        return len(self.shape) == 2 and self.shape[0] > self.shape[1]

    @property
    def index(self) -> tuple[slice, ...]:
        """The block as an index of the stored tensor; rows beyond the common vocabulary are never read."""
        return (self.long,) if self.tall or len(self.shape) == 1 else (slice(0, self.shape[0]), self.long)


class UpdateStream:
    """Blocks of updates, each the difference of two checkpoints, in float64 on a device.

    A block is valid until the next one is asked for: all blocks share one set of buffers.
    """

    def __init__(self, updates: Updates, matched: Matched, device: str = "cpu"):
        self.updates, self.matched, self.device = updates, matched, torch.device(device)
        self.buffers: dict[object, Tensor] = {}  # checkpoint or update label -> room for one block

    def tensors(self, names: list[str]) -> Iterator[tuple["TensorBlocks", Iterator[Pieces]]]:
        """Each tensor with a first pass over the blocks of all updates; the next tensor is read meanwhile."""
        raw = self._raw(names, [*self.updates])
        for name in names:
            blocks = islice(raw, len(list(self._parts(name))))
            yield TensorBlocks(self, name), (self._differences(*block, [*self.updates]) for block in blocks)

    def again(self, name: str, labels: Iterable[str]) -> Iterator[Pieces]:
        """Another pass over the blocks of some updates of one tensor."""
        labels = list(labels)
        return (self._differences(*block, labels) for block in self._raw([name], labels))

    def _parts(self, name: str) -> Iterator[Part]:
        shape = self.matched.shapes[name]
        return (Part(name, shape, long) for long in blocks(max(shape), min(shape) if len(shape) == 2 else 1))

    def _raw(self, names: list[str], labels: list[str]) -> Iterator[tuple[Part, dict[Checkpoint, Tensor]]]:
        checkpoints = {checkpoint for label in labels for checkpoint in self.updates[label]}
        parts = (part for name in names for part in self._parts(name))
        return prefetched(parts, lambda part: (part, {c: self._read(c, part) for c in checkpoints}))

    def _read(self, checkpoint: Checkpoint, part: Part) -> Tensor:
        mapped = checkpoint.tensor(part.name)[part.index]
        if self.device.type == "cpu":
            return mapped.clone(memory_format=torch.contiguous_format)
        return mapped.contiguous().pin_memory().to(self.device, non_blocking=True)

    def _differences(self, part: Part, raw: dict[Checkpoint, Tensor], labels: list[str]) -> Pieces:
        exact = {checkpoint: self._buffer(checkpoint, block).copy_(block) for checkpoint, block in raw.items()}
        pieces = {}
        for label in labels:
            tuned, start = (exact[checkpoint] for checkpoint in self.updates[label])
            piece = torch.sub(tuned, start, out=self._buffer(label, tuned))
            pieces[label] = piece.T if part.tall else piece
        return pieces

    def _buffer(self, key: object, like: Tensor) -> Tensor:
        if key not in self.buffers or self.buffers[key].numel() < like.numel():
            self.buffers[key] = torch.empty(like.numel(), dtype=torch.float64, device=self.device)
        return self.buffers[key][: like.numel()].view(like.shape)


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
        """All blocks of some updates, each valid until the next."""
        return self.stream.again(self.name, labels)

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
