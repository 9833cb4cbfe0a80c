"""What a folder of a model holds: one file of safetensors or shards with an index, full weights or a LoRA adapter."""

import json
import math
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from helpers.errors import MissingInput, StudyError, TensorMismatch
from helpers.weights.names import listed

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
DEQUANTISED = "dequantised.json"  # of a GGUF file's types of numbers the bits per weight, the commonest first
SHARD = re.compile(r".+-\d+-of-\d+\.safetensors")
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}  # unpickling one can run any code


def refuse_pickles(folder: Path) -> None:
    """Raise StudyError for a folder whose weights exist as pickles only: none is ever loaded.

    Pickles beside safetensors, such as a Trainer's ``training_args.bin``, are not read and so not in the way.
    """
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in PICKLES)
    if pickles and not any(folder.glob("*.safetensors")):
        raise StudyError(
            f"{folder} holds {pickles[0]} and no safetensors: loading a pickle can run code, so save the model with "
            "save_pretrained() first"
        )


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter and no full weights, whatever ``config.json`` lies beside it.

    Raises StudyError that names both where it holds both: they are two models.
    """
    adapters = [name for name in (ADAPTER, ADAPTER_CONFIG) if (folder / name).is_file()]
    weights = [name for name in (SINGLE, INDEX) if (folder / name).is_file()]
    if adapters and weights:
        raise StudyError(
            f"{folder} holds full weights ({weights[0]}) and a LoRA adapter ({adapters[0]}), which are two models: "
            f"keep the one that is meant and move the other out of the folder"
        )
    if ADAPTER_CONFIG in adapters and ADAPTER not in adapters:
        refuse_pickles(folder)
        raise MissingInput(f"{folder} holds {ADAPTER_CONFIG} but no {ADAPTER}: save the adapter there again")
    return bool(adapters)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of keys and values, empty if there is none. Raises StudyError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise StudyError(f"{file} is not JSON ({error}): copy or save the checkpoint again") from None
    if not isinstance(found, dict):
        raise StudyError(f"{file} holds no keys but {str(found)[:40]!r}: copy or save the checkpoint again")
    return found


def opened(file: Path):
    """A file of safetensors, memory-mapped. Raises TensorMismatch."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise TensorMismatch(f"{file} is truncated or not safetensors ({reason}): copy or save it again") from None


def files_of(folder: Path) -> dict[Path, set[str] | None]:
    """Files of weights with the names of the tensors that each must hold, where an index says so.

    Raises MissingInput, StudyError or TensorMismatch.
    """
    if not folder.is_dir():
        raise MissingInput(f"checkpoint folder {folder} does not exist: make or download the model first")
    refuse_pickles(folder)
    if is_adapter(folder):
        return {folder / ADAPTER: None}
    if (folder / SINGLE).is_file():
        return {folder / SINGLE: None}
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX)
    raise MissingInput(f"{folder} {_instead(folder)}")


def _instead(folder: Path) -> str:
    """What a folder without a file of a known name holds, and what to do about that."""
    found = [file.name for file in sorted(folder.glob("*.safetensors"))]
    if shards := [name for name in found if SHARD.fullmatch(name)]:
        remedy = "copy that file there too, or save the model again with save_pretrained()"
        return f"holds {listed(shards)} but no {INDEX}, which says what belongs together: {remedy}"
    if found:
        remedy = f"rename what holds the whole model to {SINGLE}, or save the model there with save_pretrained()"
        return f"holds {listed(found)} but neither {SINGLE} nor {INDEX}, under which weights are looked for: {remedy}"
    return f"holds neither {SINGLE} nor {INDEX}: make or download the model first"


def numbers(folder: Path) -> int:
    """How many numbers the files of a folder hold, of 8-bit types and packed ones as many as bytes."""
    total = 0
    for file in files_of(folder):
        with opened(file) as held:
            total += sum(math.prod(held.get_slice(name).get_shape()) for name in held.keys())  # noqa: SIM118
    return total


def _indexed(index: Path) -> dict[Path, set[str]]:
    files: dict[Path, set[str]] = {}
    try:
        for name, shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            files.setdefault(index.parent / shard, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TensorMismatch(f"{index} is not an index of shards: copy or save the checkpoint again") from None
    for file in sorted(files):
        if not file.is_file():
            raise TensorMismatch(f"{file} is named by {index.name} but does not exist: copy the checkpoint again")
    return files
