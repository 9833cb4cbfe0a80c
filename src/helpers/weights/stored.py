"""One tensor of a file, seen as a matrix with its outputs in front, and read a part at a time."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.errors import StudyError
from helpers.weights.folders import opened
from helpers.weights.names import EMBEDDINGS, layer_of, module_of

CONV1D = {
    "gpt2",
    "openai-gpt",
    "imagegpt",
    "decision_transformer",
}  # their matrices are transformers' Conv1D, (in, out)
CONV1D_MODULES = {"c_attn", "c_proj", "c_fc", "q_attn"}
EXPERTS_IN_OUT = {"gpt_oss", "llama4", "llama4_text", "aria", "aria_text", "openai_privacy_filter"}
INTO_HIDDEN = ("down_proj", "w2", "wo", "output_linear")  # of experts: from their width back to the model's


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies, and how it is seen: (out, in), also where the file has (in, out); kernels as (out, rest).

    Of more than two sides a single long one is a vector.
    """

    file: Path
    key: str  # in the file
    kept: tuple[int, ...]  # shape in the file
    dtype: torch.dtype  # in the file
    expert: int | None = None  # the slice of a tensor that holds all experts
    stacked: int | None = None  # how many experts lie below one another, where the tensor is a matrix (DBRX)
    flipped: bool = False
    scale: "Stored | None" = None  # with which it was quantised
    block: tuple[int, int] = (1, 1)  # entries of the tensor for one of the scale

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n) or (m,) as it is seen."""
        return tuple(self.view(torch.empty(self.kept, device="meta")).shape)

    def view(self, tensor: Tensor) -> Tensor:
        """A tensor of the file's shape as it is seen; no copy is made."""
        if self.stacked is not None:
            tensor = tensor.view(self.stacked, -1, tensor.shape[-1])
        if self.expert is not None:
            tensor = tensor[self.expert]
        if tensor.ndim > 2:
            tensor = tensor.flatten(0 if max(tensor.shape) == tensor.numel() else 1)
        tensor = tensor.reshape(1) if tensor.ndim == 0 else tensor
        return tensor.T if self.flipped else tensor

    def read(self, part: Any = ...) -> Tensor:
        """Rows, or rows and columns, in the stored type; what was quantised comes back in float32."""
        with opened(self.file) as file:
            tensor = self.view(file.get_tensor(self.key))[part]
        if self.scale is None:
            return tensor
        scale = self.scale.read().float()
        if scale.numel() == 1 or scale.ndim == 1:
            return tensor.float() * (scale.reshape(1) if scale.numel() == 1 else scale[_slices(part)[0], None])
        sides = (self.shape, _slices(part), self.block[::-1] if self.flipped else self.block)
        rows, columns = (torch.arange(n)[cut] // b for n, cut, b in zip(*sides, strict=True))
        return tensor.float() * scale[rows][:, columns]


def _slices(part: Any) -> tuple[slice, slice]:
    if part is ...:
        return slice(None), slice(None)
    return part if isinstance(part, tuple) else (part, slice(None))


def seen(tensors: dict[str, Stored], config: dict, where: Path) -> dict[str, Stored]:
    """The same tensors as matrices (out, in) or vectors: experts and their biases one by one, kernels as (out, rest).

    Which are stored the other way round is told by their biases, by the width of the embedding, and where neither can
    by the model's type. Raises StudyError for experts in two orientations.
    """
    kinds = {config.get("model_type"), (config.get("text_config") or {}).get("model_type")}
    flipped = _flipped_modules(tensors, kinds)
    experts = {name for name, one in tensors.items() if _holds_experts(name, one.kept, config)}
    matrices = {name: tensors[name] for name in experts if len(tensors[name].kept) == 3}
    turned = _experts_turned(matrices, _width(tensors, config), kinds, where)
    result = {}
    for name, one in tensors.items():
        if name in experts:
            for i in range(one.kept[0]):
                scale = one.scale and replace(one.scale, expert=i, flipped=turned)
                flip = turned and name in matrices
                result[_of_expert(name, i)] = replace(one, expert=i, flipped=flip, scale=scale)
        elif "dbrx" in kinds and ".experts.mlp." in name:
            count = config["ffn_config"]["moe_num_experts"]
            for i in range(count):
                whole = replace(one, stacked=count, expert=i, flipped=module_of(name) == "w2")
                result[_of_expert(name, i)] = whole
        else:
            result[name] = replace(one, flipped=len(one.kept) == 2 and module_of(name) in flipped)
    return result


def _of_expert(name: str, i: int) -> str:
    """``…experts.gate_up_proj`` becomes ``…experts.3.gate_up_proj``, as where experts are stored one by one."""
    ending = ".weight" if name.endswith(".weight") else ""
    before, _, last = name.removesuffix(ending).rpartition(".")
    return f"{before}.{i}.{last}{ending}"


def _flipped_modules(tensors: dict[str, Stored], kinds: set[str | None]) -> set[str]:
    votes = {}
    for name, one in tensors.items():
        bias = tensors.get(name.removesuffix("weight") + "bias") if name.endswith(".weight") else None
        if bias is None or len(one.kept) != 2 or one.kept[0] == one.kept[1]:
            continue
        if bias.kept in ((one.kept[0],), (one.kept[1],)):
            votes[module_of(name)] = bias.kept[0] == one.kept[1]
    told = {module for module, flipped in votes.items() if flipped}
    if kinds & CONV1D and all(votes.get(module, True) for module in CONV1D_MODULES):
        told |= CONV1D_MODULES
    return told


def _holds_experts(name: str, shape: tuple[int, ...], config: dict) -> bool:
    """Whether a tensor holds all experts: their matrices (experts, m, n), or their biases (experts, m)."""
    if len(shape) == 2:
        return "experts" in name and name.endswith("bias")
    if len(shape) != 3 or "conv" in name or shape[1] == 1:
        return False
    text = {**config, **(config.get("text_config") or {})}
    counts = {text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")}
    return "expert" in name or (layer_of(name) >= 0 and shape[0] in counts)


def _width(tensors: dict[str, Stored], config: dict) -> int | None:
    tables = [one.kept[1] for name, one in tensors.items() if module_of(name) in EMBEDDINGS and len(one.kept) == 2]
    text = {**config, **(config.get("text_config") or {})}
    return text.get("hidden_size") or next(iter(tables), None)


def _experts_turned(experts: dict[str, Stored], width: int | None, kinds: set, where: Path) -> bool:
    """Whether experts are stored as (in, out), by where the model's width stands; where that is both, by its type."""
    votes = {}
    for name, one in experts.items():
        if (one.kept[1] == width) != (one.kept[2] == width):
            into = module_of(name) in INTO_HIDDEN
            votes[(one.kept[1] == width) != into] = name
    if len(votes) == 2:
        raise StudyError(
            f"the experts in {where} are stored in two orientations ({votes[True]} as (in, out), {votes[False]} as "
            "(out, in)): save the model again with save_pretrained()"
        )
    return next(iter(votes), bool(kinds & EXPERTS_IN_OUT))
