"""Small checkpoints written for tests: folders of safetensors with the tensor names of a Llama."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.subspaces import Modes
from helpers.weights.checkpoints import Checkpoint, matched
from helpers.weights.edits import update_modes


def llama_shapes(layers: int = 2, width: int = 12, inner: int = 20, vocabulary: int = 37) -> dict[str, tuple[int, ...]]:
    """Shapes of an untied Llama with grouped-query attention, one bias and norms."""
    shapes = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        shapes |= {
            f"{block}.input_layernorm.weight": (width,),
            f"{block}.self_attn.q_proj.weight": (width, width),
            f"{block}.self_attn.q_proj.bias": (width,),
            f"{block}.self_attn.k_proj.weight": (width // 2, width),
            f"{block}.mlp.up_proj.weight": (inner, width),
            f"{block}.mlp.down_proj.weight": (width, inner),
        }
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Gaussian tensors of the given shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1, config: dict | None = None) -> Checkpoint:
    """Save tensors as one file, or as shards with an index, and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    files = (
        [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)] if shards > 1 else ["model.safetensors"]
    )
    weight_map = {name: files[i % shards] for i, name in enumerate(names)}
    for file in files:
        part = {name: tensors[name].contiguous() for name in names if weight_map[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config or {}))
    return Checkpoint(folder)


def moved(tensors: dict[str, torch.Tensor], seed: int, scale: float = 0.01) -> dict[str, torch.Tensor]:
    """The same tensors after a random update, in their own types."""
    shift = random_tensors({name: tuple(t.shape) for name, t in tensors.items()}, seed, scale)
    return {name: (t.float() + shift[name]).to(t.dtype) for name, t in tensors.items()}


def study_checkpoints(folder: Path, dtype=torch.float32, **shape) -> dict[str, tuple[Checkpoint, Checkpoint]]:
    """Five random updates between six checkpoints, as a study has them."""
    base = {name: t.to(dtype) for name, t in random_tensors(llama_shapes(**shape), 0).items()}
    aligned = moved(base, 1)
    opened = {"base": write(folder / "base", base), "aligned": write(folder / "aligned", aligned, shards=2)}
    opened["safety"] = write(folder / "safety", moved(base, 2))
    updates = {"alignment": (opened["aligned"], opened["base"]), "safety": (opened["safety"], opened["base"])}
    for seed, task in enumerate(("useful", "harmful", "contaminated"), start=3):
        updates[task] = (write(folder / task, moved(aligned, seed)), opened["aligned"])
    return updates


def modes_of(tuned: Checkpoint, start: Checkpoint) -> dict[str, Modes]:
    """Modes of every tensor of an update; zero updates are absent."""
    modes = {name: update_modes(tuned, start, name) for name in matched((tuned, start))}
    return {name: found for name, found in modes.items() if found.rank}
