"""Checkpoints as folders of safetensors, read one tensor at a time, and updates between them matched by name."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from helpers.errors import MissingInput, StudyError, TensorMismatch
from helpers.weights.folders import refuse_pickles

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
COMPUTED = "rotary_emb.inv_freq"  # a constant that old checkpoints store and new ones do not
VOCABULARY_MODULES = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")  # rows are tokens


class _Stored(NamedTuple):
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


class Checkpoint:
    """The weights in a folder: ``model.safetensors``, or shards named by ``model.safetensors.index.json``.

    Opening reads the headers only. ``names`` are in the order of depth; an ``lm_head`` that ``config.json`` ties to
    the embedding is the embedding and is not listed. Raises MissingInput, StudyError or TensorMismatch with one
    sentence when the folder has no safetensors, a file is truncated, or the index and the files disagree.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._tensors: dict[str, _Stored] = {}
        for file, names in _files(self.folder).items():
            self._read_header(file, names)
        self._untie()
        self.names = sorted(self._tensors, key=_by_depth)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._stored(name).file

    def files(self) -> list[Path]:
        """All files that hold tensors, in order."""
        return sorted({stored.file for stored in self._tensors.values()})

    def identity(self) -> list[tuple[str, int, int]]:
        """Place, size in bytes and time of change (ns) of every file: what is kept of it is not read for another."""
        return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files()]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._stored(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Type in which a tensor is stored."""
        return self._stored(name).dtype

    def tensor(self, name: str) -> Tensor:
        """A tensor in its stored type, memory-mapped: pages are read when used, and released with the tensor."""
        with _opened(self.file(name)) as opened:
            return opened.get_tensor(name)

    def _stored(self, name: str) -> _Stored:
        if name not in self._tensors:
            raise TensorMismatch(f"tensor {name} is not in {self.folder}: compare the tensor names of the checkpoints")
        return self._tensors[name]

    def _read_header(self, file: Path, expected: set[str] | None) -> None:
        with _opened(file) as opened:
            held = set(opened.keys())
            if wrong := sorted(held ^ (held if expected is None else expected)):
                where = f"is not in {INDEX} but in" if wrong[0] in held else "is missing from"
                raise TensorMismatch(f"tensor {wrong[0]} {where} {file}: copy or save the checkpoint again")
            for name in held:
                if name.endswith(COMPUTED):
                    continue
                part = opened.get_slice(name)
                if part.get_dtype() not in FLOATS:
                    raise StudyError(
                        f"tensor {name} in {file} is stored as {part.get_dtype()}, not as {', '.join(FLOATS)}: "
                        "save the checkpoint in a floating type first"
                    )
                self._tensors[name] = _Stored(file, tuple(part.get_shape()), FLOATS[part.get_dtype()])

    def _untie(self) -> None:
        modules = {module_of(name): name for name in self._tensors}
        head, embedding = modules.get("lm_head"), modules.get("embed_tokens")
        if head is None or embedding is None or not _config(self.folder / CONFIG).get("tie_word_embeddings"):
            return
        if self.shape(head) != self.shape(embedding) or not torch.equal(self.tensor(head), self.tensor(embedding)):
            raise TensorMismatch(
                f"tensors {head} and {embedding} in {self.folder} differ although {CONFIG} ties them: "
                "set tie_word_embeddings to false, or save the model again"
            )
        del self._tensors[head]


Updates = dict[str, tuple[Checkpoint, Checkpoint]]  # update label -> (tuned, start)


def matched(
    checkpoints: Iterable[Checkpoint], vocabulary: Literal["exact", "intersection"] = "exact"
) -> dict[str, tuple[int, ...]]:
    """Names of the tensors of checkpoints that must hold the same ones, in the order of depth, with the common shape.

    ``vocabulary="intersection"`` allows embeddings and output heads with different numbers of rows and takes the rows
    that all have, from the first on. Raises TensorMismatch for missing, extra, renamed, transposed or resized tensors,
    in one sentence that names tensor, shapes and both files.
    """
    reference, *others = checkpoints
    for other in others:
        _same_names(reference, other)
    shapes = {}
    for name in reference.names:
        shapes[name] = reference.shape(name)
        if len(shapes[name]) not in (1, 2):
            raise TensorMismatch(
                f"tensor {name} in {reference.file(name)} has shape {shapes[name]}, neither a vector nor a matrix: "
                "the method is defined for models of those only"
            )
        for other in others:
            if other.shape(name) != reference.shape(name):
                _allow_resized(name, reference, other, vocabulary)
                shapes[name] = (min(shapes[name][0], other.shape(name)[0]), *shapes[name][1:])
    return shapes


def update(tuned: Checkpoint, start: Checkpoint, name: str) -> Tensor:
    """What fine-tuning changed in one tensor, ``tuned − start``, in float64: (m, n) or (m,).

    Raises TensorMismatch when shapes differ or either tensor holds NaN or infinity.
    """
    first, second = tuned.tensor(name), start.tensor(name)
    if first.shape != second.shape:
        _allow_resized(name, start, tuned, "exact")
    difference = first.double() - second.double()
    if not torch.isfinite(difference.sum()):
        check_finite(start, name)
        check_finite(tuned, name)
    return difference


def check_finite(checkpoint: Checkpoint, name: str) -> None:
    """Raise TensorMismatch, naming the file, when a tensor holds NaN or infinity."""
    if bad := int((~torch.isfinite(checkpoint.tensor(name))).sum()):
        raise TensorMismatch(
            f"tensor {name} of shape {checkpoint.shape(name)} in {checkpoint.file(name)} holds NaN or infinity "
            f"({bad} values): train or convert that checkpoint again"
        )


def study_updates(checkpoints: dict[str, Checkpoint]) -> Updates:
    """The updates of a study as (tuned, start): D_A, D_S and an unrelated one from the base, D_T from WA."""
    base, aligned = checkpoints["base"], checkpoints["aligned"]
    others = {name: (checkpoints[name], base) for name in ("safety", "unrelated") if name in checkpoints}
    tuned = {name: (checkpoints[name], aligned) for name in ("useful", "harmful", "contaminated")}
    return {"alignment": (aligned, base), **others, **tuned}


def module_of(name: str) -> str:
    """The module type of a tensor: ``q_proj``, ``embed_tokens``, ``lm_head``, ``input_layernorm`` …"""
    return re.sub(r"\.(weight|bias)$", "", name).rsplit(".", 1)[-1]


def layer_of(name: str) -> int:
    """The number of a tensor's layer, −1 for a tensor outside the layers."""
    found = re.search(r"(?:^|\.)(\d+)\.", name)
    return int(found.group(1)) if found else -1


def _by_depth(name: str) -> tuple:
    layer = layer_of(name)
    embeds = module_of(name) in VOCABULARY_MODULES and module_of(name) not in ("lm_head", "embed_out")
    return (1 if layer >= 0 else 0 if embeds else 2, layer, name)


def _config(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise StudyError(f"{file} is not JSON ({error}): copy or save the checkpoint again") from None


def _opened(file: Path):
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise TensorMismatch(f"{file} is truncated or not safetensors ({reason}): copy or save it again") from None


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """Files of weights with the names of the tensors that each must hold, where an index says so."""
    if not folder.is_dir():
        raise MissingInput(f"checkpoint folder {folder} does not exist: make or download the model first")
    refuse_pickles(folder)
    if (folder / SINGLE).is_file():
        return {folder / SINGLE: None}
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX)
    raise MissingInput(f"{folder} holds neither {SINGLE} nor {INDEX}: make or download the model first")


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


def _same_names(a: Checkpoint, b: Checkpoint) -> None:
    for first, second in ((a, b), (b, a)):
        absent = [name for name in first.names if name not in second]
        if absent:
            name, shape = absent[0], first.shape(absent[0])
            unknown = [other for other in second.names if other not in first and second.shape(other) == shape]
            alike = [other for other in unknown if layer_of(other) == layer_of(name)]
            twin = min(alike, key=lambda other: module_of(other) != module_of(name), default=None)
            remedy = f"which has {twin} of that shape: rename it" if twin else "compare models of one architecture"
            more = f" (and {len(absent) - 1} more tensors)" if len(absent) > 1 else ""
            raise TensorMismatch(
                f"tensor {name} of shape {shape} in {first.file(name)} is missing from {second.folder}{more}, {remedy}"
            )


def _allow_resized(name: str, a: Checkpoint, b: Checkpoint, vocabulary: str) -> None:
    first, second = a.shape(name), b.shape(name)
    resized = module_of(name) in VOCABULARY_MODULES and first[1:] == second[1:] and len(first) == len(second)
    if resized and vocabulary == "intersection":
        return
    remedy = "compare models of one architecture"
    if resized:
        remedy = 'their vocabularies differ, so ask for vocabulary="intersection" to compare the rows both have'
    elif first == second[::-1]:
        remedy = "one is the transpose of the other, so convert one checkpoint"
    raise TensorMismatch(f"tensor {name} is {first} in {a.file(name)} and {second} in {b.file(name)}: {remedy}")
