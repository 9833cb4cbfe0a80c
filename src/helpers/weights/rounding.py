"""How much of an update is rounding: what storing its sides in the coarser type of both would give by itself."""

import math
from itertools import chain

import pandas as pd
import torch
from torch import Tensor

from helpers.weights.blocks import TensorUpdates
from helpers.weights.checkpoints import Checkpoint, Shape, Updates

COARSE = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24}  # type -> significant bits, the coarsest first
OTHER = {torch.float8_e4m3fn: 4, torch.float8_e5m2: 3, torch.float8_e8m0fnu: 1, torch.float64: 53}
BITS = COARSE | OTHER
EXPONENT = 0x7F800000  # its bits in a float32
NOTHING = slice(0)  # no rows
ALARMING = 0.05  # share of an update's energy
COLUMNS = ["update", "tuned_type", "start_type", "energy", "rounding", "rank", "above"]


class Rounding:
    """What is known, block by block, of how one tensor of a checkpoint is rounded.

    Weights kept in a finer type than they were trained or rounded in, such as bfloat16 saved as float32, count as
    that of the coarser type: it holds every one of them exactly.
    """

    def __init__(self, stored: torch.dtype):
        self.stored = stored
        self.errors = dict.fromkeys((kind for kind, bits in COARSE.items() if bits < BITS[stored]), 0.0)  # kind -> ‖e‖²
        self.powers = 0.0  # sum of 4^e over its entries

    def add(self, block: Tensor) -> None:
        """Count a block in float64."""
        for kind in self.errors:
            self.errors[kind] += float((block - block.to(kind)).square_().sum())
        powers = (block.float().view(torch.int32) & EXPONENT).view(torch.float32)  # 2^e ≤ |entry| < 2^(e + 1)
        self.powers += float(powers.double().square_().sum())

    @property
    def kind(self) -> torch.dtype:
        """The coarsest type that holds it exactly."""
        return next((kind for kind, error in self.errors.items() if error == 0), self.stored)

    def by_chance(self, bits: int) -> float:
        """Energy of rounding numbers of this size to so many significant bits: a twelfth of a squared step for each."""
        return self.powers * 4.0 ** (1 - bits) / 12


def rounding_energy(tuned: Rounding, start: Rounding, size: float) -> float:
    """‖·‖² of what rounding alone would give of an update of ``size`` ‖D‖²; at most it.

    A start that is finer than the tuned side is rounded to see. Where both are of one type, or the start is the
    coarser, it is expected of numbers of that size, of each side in that type; an update much smaller than what a
    coarser start would give has none: training began at the rounded start.
    """
    if BITS[tuned.kind] < BITS[start.kind]:
        return min(size, start.errors.get(tuned.kind, tuned.by_chance(BITS[tuned.kind])))
    expected = start.by_chance(BITS[start.kind])
    if BITS[tuned.kind] == BITS[start.kind]:
        return min(size, expected + tuned.by_chance(BITS[tuned.kind]))
    return 0.0 if size < expected / 2 else min(size, expected)


def roundings(tensor: TensorUpdates, sizes: dict[str, float]) -> dict[str, float]:
    """That energy of every update of one tensor, by its label; 0 for what an adapter gives by itself."""
    given = {
        label
        for label, (tuned, start) in tensor.updates.items()
        if tuned.difference(start, tensor.name, NOTHING) is not None
    }
    rounded = {label: pair for label, pair in tensor.updates.items() if label not in given}
    read = dict.fromkeys(chain(*rounded.values()))
    found = {c: Rounding(c.dtype(tensor.name)) for c in read}
    for part in tensor.parts():
        for c, rounding in found.items():
            rounding.add(c.read(tensor.name, part).double())
    energies = {label: rounding_energy(found[a], found[b], sizes[label]) for label, (a, b) in rounded.items()}
    return dict.fromkeys(given, 0.0) | energies


def rounding_table(updates: Updates, shapes: dict[str, Shape], found: dict[str, dict[str, Tensor]]) -> pd.DataFrame:
    """One row per update: the types of its sides, ‖D‖², the share that rounding alone would give, and median ranks.

    ``above`` counts singular values of a matrix larger than the largest of noise with that energy, √v (√m + √n) with v
    per entry; ``rank`` those larger than the rounding of float64. Both are NaN for updates that are not decomposed.
    """
    rows = []
    for label, sides in updates.items():
        energy = sum(float(of_one[f"total|{label}"]) for of_one in found.values())
        noise = sum(float(of_one[f"rounding|{label}"]) for of_one in found.values())
        ranks = [_ranks(shape, found[name], label) for name, shape in shapes.items() if len(shape) == 2]
        rank, above = (
            pd.Series(counts, dtype=float).median() for counts in (zip(*ranks, strict=True) if ranks else ((), ()))
        )
        types = [_types(side, shapes) for side in sides]
        rows.append((label, *types, energy, noise / energy if energy else float("nan"), rank, above))
    return pd.DataFrame(rows, columns=COLUMNS)


def mostly_rounding(table: pd.DataFrame) -> list[str]:
    """A sentence for every update of which more than ALARMING can be rounding."""
    return [
        f"up to {row.rounding:.0%} of the update {row.update} is rounding (from {row.start_type} to {row.tuned_type}): "
        f"{row.above:g} of {row.rank:g} directions of a matrix are stronger than it (medians)"
        for row in table[table["rounding"] > ALARMING].itertuples()
    ]


def _ranks(shape: Shape, found: dict[str, Tensor], label: str) -> tuple[float, float]:
    """Numerical rank, and how many singular values lie above the largest that noise of that energy would have."""
    values = found.get(f"values|{label}")
    if values is None:
        return float("nan"), float("nan")
    m, n = shape
    edge = math.sqrt(float(found[f"rounding|{label}"]) / (m * n)) * (math.sqrt(m) + math.sqrt(n))
    return len(values), int((values > edge).sum())


def _types(checkpoint: Checkpoint, shapes: dict[str, Shape]) -> str:
    """The types in which its tensors are stored, as people write them."""
    return ", ".join(sorted({str(checkpoint.kept_as(name)).removeprefix("torch.") for name in shapes}))
