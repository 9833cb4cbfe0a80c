"""Tensor shapes of real models, and synthetic checkpoints of one tensor of such a shape."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.weights.checkpoints import Checkpoint, Updates
from pipeline.plan.architectures import KNOWN, Architecture

NAME = "weight"  # of the one tensor in each synthetic checkpoint
TASKS = ["useful", "harmful", "contaminated"]


@dataclass(frozen=True)
class Model:
    """A model whose matrices are timed; its biases and norms are not."""

    name: str
    sizes: Architecture

    def parameters(self) -> int:
        """Numbers in its matrices."""
        return sum(m * n * count for (m, n), count in self.sizes.matrices().items())


MEASURED = [
    Model("Llama-3.2-1B", KNOWN["meta-llama/Llama-3.2-1B"]),
    Model("Qwen2.5-1.5B", KNOWN["Qwen/Qwen2.5-1.5B"]),
]
EXTRAPOLATED = [
    Model("Qwen2.5-3B", KNOWN["Qwen/Qwen2.5-3B"]),
    Model("Llama-2-7B", KNOWN["meta-llama/Llama-2-7b-hf"]),
    Model("Llama-2-13B", Architecture(5120, 40, 13824, 40, 40, 32000, tied=False)),
    Model("Llama-2-70B", Architecture(8192, 80, 28672, 64, 8, 32000, tied=False)),
]


def reduced(model: Model, factor: int) -> Model:
    """The same model with all sizes but the number of layers divided."""
    divided = {name: getattr(model.sizes, name) // factor for name in ("hidden", "inner", "vocabulary")}
    return Model(model.name, replace(model.sizes, **divided))


def sampled(model: Model) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each shape of a model, the shapes that are timed for it.

    One, the shape itself, except for the vocabulary: two shorter matrices, between and beyond which the time is taken
    to be linear in the number of rows.
    """
    sizes = model.sizes
    shorter = [(sizes.inner, sizes.hidden), (2 * sizes.inner, sizes.hidden)]
    return {shape: shorter if shape[0] == sizes.vocabulary else [shape] for shape in sizes.matrices()}


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
