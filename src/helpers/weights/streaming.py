"""Updates as a stream of blocks of one tensor at a time, read from mapped files while the last block is computed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from helpers.draws import blocks
from helpers.weights.checkpoints import Checkpoint, Updates, check_finite

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")
Pieces = dict[str, Tensor]  # update label -> block with the short side first, (s, b) float64
Part = tuple["TensorBlocks", slice]  # a block of a tensor: all its short side, a slice of its long side


class UpdateStream:
    """Blocks of updates, each the difference of two checkpoints, in float64 on a device.

    A block is valid until the next one is asked for: all blocks share one set of buffers.
    """

    def __init__(self, updates: Updates, shapes: dict[str, tuple[int, ...]], device: str = "cpu"):
        self.updates, self.shapes, self.device = updates, shapes, torch.device(device)
        self.buffers: dict[object, Tensor] = {}  # checkpoint or update label -> room for one block

    def tensors(self, names: list[str]) -> Iterator[tuple["TensorBlocks", Iterator[Pieces]]]:
        """Each tensor with a first pass over the blocks of all updates; the next tensor is read meanwhile."""
        tensors = [TensorBlocks(self, name) for name in names]
        pieces = self.pieces((part for tensor in tensors for part in tensor.parts()), [*self.updates])
        for tensor in tensors:
            yield tensor, islice(pieces, len(list(tensor.parts())))

    def pieces(self, parts: Iterable[Part], labels: list[str]) -> Iterator[Pieces]:
        """The blocks of some updates, each valid until the next."""
        checkpoints = {checkpoint for label in labels for checkpoint in self.updates[label]}
        read = prefetched(parts, lambda part: (part[0], {c: self._read(c, *part) for c in checkpoints}))
        return (self._differences(tensor, raw, labels) for tensor, raw in read)

    def _read(self, checkpoint: Checkpoint, tensor: "TensorBlocks", long: slice) -> Tensor:
        by_row = tensor.tall or len(tensor.shape) == 1  # rows beyond the common vocabulary are never read
        mapped = checkpoint.tensor(tensor.name)[long if by_row else (slice(tensor.shape[0]), long)]
        if self.device.type == "cpu":
            return mapped.clone(memory_format=torch.contiguous_format)
        return mapped.contiguous().pin_memory().to(self.device, non_blocking=True)

    def _differences(self, tensor: "TensorBlocks", raw: dict[Checkpoint, Tensor], labels: list[str]) -> Pieces:
        exact = {checkpoint: self._buffer(checkpoint, block).copy_(block) for checkpoint, block in raw.items()}
        pieces = {}
        for label in labels:
            tuned, start = (exact[checkpoint] for checkpoint in self.updates[label])
            piece = torch.sub(tuned, start, out=self._buffer(label, tuned))
            pieces[label] = piece.T if tensor.tall else piece
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
        return self.stream.shapes[self.name]

    @property
    def tall(self) -> bool:
        """Whether it has more rows than columns."""
        return len(self.shape) == 2 and self.shape[0] > self.shape[1]

    def parts(self) -> Iterator[Part]:
        """Where its blocks lie."""
        short = min(self.shape) if len(self.shape) == 2 else 1
        return ((self, long) for long in blocks(max(self.shape), short))

    def blocks(self, labels: Iterable[str]) -> Iterator[Pieces]:
        """All blocks of some updates, each valid until the next."""
        return self.stream.pieces(self.parts(), list(labels))

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
