"""Batches of token ids: similar lengths together, padded on a stated side, with the mask and positions that undo it."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch

from helpers.memory import backing_off

Side = Literal["left", "right"]


def batches(lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, so that a batch that does not fit fails at once."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def in_batches(lengths: list[int], batch_size: int, work: Callable[[list[int]], None]) -> None:
    """Call ``work`` with the indices of one batch after another, as ``batches`` gives them.

    When memory runs out, what is left is done with half as many at a time. Raises StudyError if one does not fit.
    """
    waiting = [i for batch in batches(lengths, batch_size) for i in batch]

    def attempt(size: int) -> None:
        while waiting:
            work(waiting[:size])
            del waiting[:size]

    backing_off(min(batch_size, len(waiting)), attempt)


def padded(ids: list[list[int]], side: Side, device: torch.device, pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and position ids of a batch, each (batch, longest).

    A real token keeps the position it has without padding, whatever the side; the pad id is never attended to.
    """
    longest = max(map(len, ids))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    tokens = torch.tensor([[pad_id] * (longest - len(row)) + row for row in ids])
    if side == "right":
        mask = mask.flip(1)
        tokens = torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": tokens.to(device), "attention_mask": mask.to(device), "position_ids": positions.to(device)}
