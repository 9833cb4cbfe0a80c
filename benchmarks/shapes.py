"""Tensor shapes of real models, and synthetic checkpoints of one tensor of such a shape."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.weights.checkpoints import Checkpoint, Updates
from pipeline.plan.sizes import NUMBERS, Config, Size, near

NAME = "weight"  # of the one tensor in each synthetic checkpoint
TASKS = ["useful", "harmful", "contaminated"]


@dataclass(frozen=True)
class Model:
    """A model whose matrices are timed; its biases and norms are not."""

    name: str
    config: Config  # the numbers of its config.json

    @property
    def sizes(self) -> Size:
        """Its width, layers and matrices."""
        return near(self.config)

    def parameters(self) -> int:
        """Numbers in its matrices."""
        return self.sizes.parameters


MEASURED = [
    Model("Llama-3.2-1B", NUMBERS["models"]["meta-llama/Llama-3.2-1B"]),
    Model("Qwen2.5-1.5B", NUMBERS["models"]["Qwen/Qwen2.5-1.5B"]),
]
LLAMA_2 = NUMBERS["models"]["meta-llama/Llama-2-7b-hf"]
SIZES = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads")
EXTRAPOLATED = [
    Model("Qwen2.5-3B", NUMBERS["models"]["Qwen/Qwen2.5-3B"]),
    Model("Llama-2-7B", LLAMA_2),
    Model("Llama-2-13B", LLAMA_2 | dict(zip(SIZES, (5120, 40, 13824, 40, 40), strict=True))),
    Model("Llama-2-70B", LLAMA_2 | dict(zip(SIZES, (8192, 80, 28672, 64, 8), strict=True))),
]


def reduced(model: Model, factor: int) -> Model:
    """The same model with all sizes but the number of layers divided."""
    divided = {name: model.config[name] // factor for name in ("hidden_size", "intermediate_size", "vocab_size")}
    return Model(model.name, model.config | divided)


def sampled(model: Model) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each shape of a model, the shapes that are timed for it.

    One, the shape itself, except for the vocabulary: two shorter matrices, between and beyond which the time is taken
    to be linear in the number of rows.
    """
    sizes, inner = model.sizes, model.config["intermediate_size"]
    shorter = [(inner, sizes.hidden), (2 * inner, sizes.hidden)]
    return {shape: shorter if shape[0] == sizes.vocabulary else [shape] for shape in sizes.matrices}


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
