"""The updates of one tensor, read in blocks from mapped files as often as they are needed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor

from helpers.draws import blocks
from helpers.weights.checkpoints import Updates, check_finite

Pieces = dict[str, Tensor]  # update label -> block with the short side first, (s, b) float64


@dataclass(frozen=True)
class TensorUpdates:
    """The updates of one tensor, each the difference of two checkpoints, in blocks as often as they are needed."""

    updates: Updates
    name: str
    shape: tuple[int, ...]  # (m, n) or (m,); rows beyond the common vocabulary are left out
    device: str = "cpu"

    @property
    def tall(self) -> bool:
        """Whether it has more rows than columns."""
        return len(self.shape) == 2 and self.shape[0] > self.shape[1]

    def parts(self) -> Iterator[Any]:
        """Where the blocks lie: slices of its rows if it is tall or a vector, else of its columns."""
        by_row = self.tall or len(self.shape) == 1
        for long in blocks(max(self.shape), min(self.shape) if len(self.shape) == 2 else 1):
            yield long if by_row else (slice(self.shape[0]), long)

    def blocks(self, labels: Iterable[str]) -> Iterator[Pieces]:
        """Block by block of some updates, on the device: all of the short side, a part of the long one."""
        pairs = {label: self.updates[label] for label in labels}
        for part in self.parts():
            known = {label: tuned.difference(start, self.name, part) for label, (tuned, start) in pairs.items()}
            read = set(chain(*(pair for label, pair in pairs.items() if known[label] is None)))
            exact = {c: self._float64(c.read(self.name, part)) for c in read}
            for label, (tuned, start) in pairs.items():
                given = known[label]
                known[label] = exact[tuned] - exact[start] if given is None else self._float64(given)
            del exact  # while the pieces are used
            yield {label: piece.T if self.tall else piece for label, piece in known.items()}
            del known

    def factors(self, label: str) -> tuple[Tensor, Tensor] | None:
        """Left (m, r) and right (r, n) factor of an update that is known by them, float64 on the device; else None."""
        tuned, start = self.updates[label]
        found = tuned.factors(start, self.name) if len(self.shape) == 2 else None
        if found is None or 2 * found[0].shape[1] > min(self.shape) or found[0].shape[0] != self.shape[0]:
            return None
        return self._float64(found[0]), self._float64(found[1])

    def _float64(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device).double()

    def refuse(self) -> None:
        """Raise TensorMismatch that names the first file in which the tensor is not finite."""
        for tuned, start in self.updates.values():
            for checkpoint in (start, tuned):
                check_finite(checkpoint, self.name)
