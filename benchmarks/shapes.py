"""Tensor shapes of real models, and synthetic checkpoints of one tensor of such a shape."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.checkpoints import Checkpoint
from helpers.streaming import Updates

NAME = "weight"  # of the one tensor in each synthetic checkpoint
TASKS = ["useful", "harmful", "contaminated"]


@dataclass(frozen=True)
class Model:
    """What the shapes of a Llama-like model follow from."""

    name: str
    width: int
    inner: int
    layers: int
    key_value: int  # output size of the key and value projections
    vocabulary: int
    tied: bool

    def matrices(self) -> dict[tuple[int, int], int]:
        """How often the model has a matrix of each shape; a tied head is counted once, biases and norms not."""
        d, n = self.width, self.layers
        counts: dict[tuple[int, int], int] = {}
        for shape, count in (
            ((d, d), 2 * n),
            ((self.key_value, d), 2 * n),
            ((self.inner, d), 2 * n),
            ((d, self.inner), n),
            ((self.vocabulary, d), 1 if self.tied else 2),
        ):
            counts[shape] = counts.get(shape, 0) + count
        return counts

    def parameters(self) -> int:
        """Numbers in those matrices."""
        return sum(m * n * count for (m, n), count in self.matrices().items())


MEASURED = [
    Model("Llama-3.2-1B", 2048, 8192, 16, 512, 128256, True),
    Model("Qwen2.5-1.5B", 1536, 8960, 28, 256, 151936, True),
]
EXTRAPOLATED = [
    Model("Qwen2.5-3B", 2048, 11008, 36, 256, 151936, True),
    Model("Llama-2-7B", 4096, 11008, 32, 4096, 32000, False),
    Model("Llama-2-13B", 5120, 13824, 40, 5120, 32000, False),
    Model("Llama-2-70B", 8192, 28672, 80, 1024, 32000, False),
]


def reduced(model: Model, factor: int) -> Model:
    """The same model with all sizes but the number of layers divided."""
    sizes = (model.width, model.inner, model.layers * factor, model.key_value, model.vocabulary)
    return Model(model.name, *(size // factor for size in sizes), model.tied)


def sampled(model: Model) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each shape of a model, the shapes that are timed for it.

    One, the shape itself, except for the vocabulary: two shorter matrices, between and beyond which the time is taken
    to be linear in the number of rows.
    """
    short = (model.inner, model.width)
    return {
        shape: [short, (2 * model.inner, model.width)] if shape[0] == model.vocabulary else [shape]
        for shape in model.matrices()
    }


def synthetic_updates(folder: Path, shape: tuple[int, int], seed: int = 0) -> Updates:
    """Six bfloat16 checkpoints of one tensor, as updates of a study.

    Weights are Gaussian with deviation 0.02. Updates have a decaying spectrum, an eighth of the weights' size, and a
    common part of the three tasks, so that overlaps are neither 0 nor 1.
    """
    generator = torch.Generator().manual_seed(seed)
    m, n = shape
    decay = torch.arange(1, n + 1) ** -0.4
    spread = 0.0025 / decay.square().mean().sqrt()

    def gaussian() -> torch.Tensor:
        return torch.randn(m, n, generator=generator)

    def saved(name: str, weight: torch.Tensor) -> Checkpoint:
        path = folder / name
        path.mkdir(parents=True)
        save_file({NAME: weight.bfloat16()}, path / "model.safetensors")
        return Checkpoint(path)

    base = 0.02 * gaussian()
    aligned = base + spread * gaussian() * decay
    start, first = saved("aligned", aligned), saved("base", base)
    updates = {"alignment": (start, first), "safety": (saved("safety", base + spread * gaussian() * decay), first)}
    common = gaussian()
    for task in TASKS:
        updates[task] = (saved(task, aligned + spread * (gaussian() + common) * decay / 2**0.5), start)
    return updates
