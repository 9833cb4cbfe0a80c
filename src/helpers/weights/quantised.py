"""Quantised weights: those in eight-bit floats with scales are taken back exactly, packed integers are refused."""

import math
from dataclasses import replace
from pathlib import Path

import torch

from helpers.errors import StudyError
from helpers.weights.folders import DEQUANTISED, read_json
from helpers.weights.stored import Stored

EIGHT_BIT = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu}
INTEGERS = {"U8", "I8", "I16", "U16", "I32", "U32"}
PACKED = (".weight", ".weight_packed", ".qzeros", ".g_idx", "_scales", "gate_up_proj", "down_proj")
WHOLE = 16  # bits of a number from which a GGUF file holds weights as floats


def scaled(tensors: dict[str, Stored], config: dict, where: Path) -> tuple[dict[str, Stored], list[str]]:
    """Tensors of a quantised model with their scales, and the names of the scales, which are no weights.

    Raises StudyError for a scale that does not fit.
    """
    found, scales = dict(tensors), []
    for name in tensors:
        base, _, kind = name.rpartition("_scale" if name.endswith("_scale") else "_scale_inv")
        if kind == "" and base in tensors and tensors[base].dtype in EIGHT_BIT.values():
            found[base] = replace(
                tensors[base], scale=tensors[name], block=_block(tensors[base], tensors[name], config)
            )
            scales.append(name)
        elif name.endswith((".input_scale", ".activation_scale", ".k_scale", ".v_scale", ".input_scale_inv")):
            scales.append(name)
    bare = [n for n, one in found.items() if one.dtype in EIGHT_BIT.values() and one.scale is None and n not in scales]
    if bare and config.get("quantization_config"):
        raise StudyError(
            f"{where} is quantised and {bare[0]} has no scale beside it: give the model that was quantised, or one "
            "saved after dequantising"
        )
    return {name: one for name, one in found.items() if name not in scales}, scales


def _block(weight: Stored, scale: Stored, config: dict) -> tuple[int, int]:
    """Rows and columns of a weight for one entry of its scale. Raises StudyError."""
    if math.prod(scale.kept) == 1 or (len(weight.kept) == 2 and scale.kept == weight.kept[:1]):
        return 1, 1  # one entry for all, or one for each row
    block = tuple((config.get("quantization_config") or {}).get("weight_block_size") or (128, 128))
    fits = len(weight.kept) == len(scale.kept) and weight.kept[:-2] == scale.kept[:-2]
    sides = [*zip(weight.kept[-2:], scale.kept[-2:], block, strict=fits)]
    block = tuple(n if parts == 1 else 1 if parts == n else b for n, parts, b in sides)
    if not fits or any(-(-n // b) != parts for (n, parts, _), b in zip(sides, block, strict=True)):
        raise StudyError(
            f"{weight.key} in {weight.file} is quantised, and its scale {scale.kept} does not fit its shape "
            f"{weight.kept} in blocks of {block}: give the model that was quantised"
        )
    return block


def refuse_quantised(kinds: dict[str, str], config: dict, file: Path) -> None:
    """Raise StudyError if tensors, by name -> type in the file, hold packed integers instead of weights."""
    for name, kind in kinds.items():
        packed = kind in INTEGERS and name.endswith(PACKED)
        if packed or name.endswith((".qweight", ".SCB", ".absmax", "_blocks")):
            method = (config.get("quantization_config") or {}).get("quant_method") or _method(" ".join(kinds))
            raise StudyError(
                f"the checkpoint in {file.parent} is quantised ({method}; {name} is stored as {kind}): give the model "
                "that was quantised, or one saved after dequantising"
            )


def dequantised(folder: Path) -> list[str]:
    """A sentence on the weights of a folder that was made from a quantised GGUF file; none for any other."""
    kinds = {kind: bits for kind, bits in read_json(folder / DEQUANTISED).items() if bits < WHOLE}
    said = " and ".join(f"{kind} ({bits:.3g} bits a weight)" for kind, bits in kinds.items())
    what = "an update between it and a model that was not trained from these very weights is partly rounding"
    return [f"{folder} was dequantised from GGUF's {said}: {what}"] if kinds else []


def _method(names: str) -> str:
    """What packs weights under such names."""
    marks = {"bitsandbytes": (".absmax", ".SCB"), "MXFP4": ("_blocks",), "GPTQ or AWQ": (".qweight",)}
    return next((method for method, ends in marks.items() if any(end in names for end in ends)), "in integers")
