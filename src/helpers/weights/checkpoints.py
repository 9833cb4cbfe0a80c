"""Checkpoints as folders of safetensors, read one tensor at a time, and updates between them matched by name."""

import copy
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from helpers.errors import MissingInput, StudyError, TensorMismatch
from helpers.weights.folders import ADAPTER_CONFIG, CONFIG, INDEX, files_of, is_adapter, opened, read_json
from helpers.weights.names import (
    HEADS,
    by_depth,
    counts_tokens,
    decoder_of,
    embedding_of,
    extra,
    head_of,
    is_computed,
    key_of,
    layer_of,
    module_of,
    sees_or_hears,
    unwrapped,
)
from helpers.weights.quantised import EIGHT_BIT, dequantised, refuse_quantised, scaled
from helpers.weights.stored import Stored, seen

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ARCHITECTURE = ("model_type", "num_hidden_layers", "n_layer", "hidden_size", "n_embd", "intermediate_size")
Shape = tuple[int, ...]


class Checkpoint:
    """The weights in a folder: ``model.safetensors``, or shards named by ``model.safetensors.index.json``.

    Opening reads the headers only. ``names`` are in the order of depth, and every matrix is seen as (out, in): experts
    one by one, kernels as (out, rest). An output head that is the embedding is not listed; buffers and what sees or
    hears are left out, which ``left_out`` counts. ``remarks`` says what else was done to read them. A LoRA adapter has
    the tensors of its file: ``helpers.weights.adapters`` puts it upon a model. Raises MissingInput, StudyError or
    TensorMismatch with one sentence when the folder has no safetensors or no weights in them, a file is truncated, the
    index and the files disagree, or the weights are packed integers.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.config = read_json(self.folder / CONFIG)
        self.left_out: dict[str, list[str]] = {}  # what it is -> tensors
        self.remarks = dequantised(self.folder)
        tensors: dict[str, Stored] = {}
        for file, names in files_of(self.folder).items():
            self._read_header(file, names, tensors)
        if not tensors:
            raise MissingInput(f"the files in {self.folder} hold no weights: save the model there again")
        self.adapter = read_json(self.folder / ADAPTER_CONFIG) if is_adapter(self.folder) else None
        self.place = ""  # prefix of the decoder's names
        self.copied: tuple[Stored, Stored] | None = None  # the embedding, and the head that repeats it in the files
        self._tensors = self._as_matrices(tensors) if self.adapter is None else tensors
        self.names = sorted(self._tensors, key=by_depth)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self.stored(name).file

    def files(self) -> list[Path]:
        """All files that hold tensors, in order."""
        return sorted({stored.file for stored in self._tensors.values()})

    def identity(self) -> list[tuple[str, int, int] | dict]:
        """Place, size in bytes and time of change (ns) of every file, and the settings that say how they are read.

        What is kept of a checkpoint is not read for one with another.
        """
        files = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files()]
        return [*files, self.config, self.adapter or {}]

    def shape(self, name: str) -> Shape:
        """Shape of a tensor."""
        return self.stored(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Type in which a tensor is stored."""
        return self.stored(name).dtype

    def kept_as(self, name: str) -> torch.dtype:
        """Type of the file's numbers that decide a tensor; of an adapter's its matrices', which are read in float64."""
        return self.dtype(name)

    def tensor(self, name: str) -> Tensor:
        """A tensor in its stored type, memory-mapped: pages are read when used, and released with the tensor."""
        return self.read(name)

    def read(self, name: str, part: Any = ...) -> Tensor:
        """Rows of a tensor, or rows and columns, as slices."""
        return self.stored(name).read(part)

    def difference(self, start: "Checkpoint", name: str, part: Any = ...) -> Tensor | None:
        """``self − start`` in float64 where it is known by itself, as of a LoRA adapter; else None."""
        return None

    def factors(self, start: "Checkpoint", name: str) -> tuple[Tensor, Tensor] | None:
        """Matrices (m, r) and (r, n), float64, whose product ``self − start`` is, where they are known; else None."""
        return None

    def stored(self, name: str) -> Stored:
        """Where a tensor lies and how it is seen. Raises TensorMismatch if there is none of that name."""
        if name not in self._tensors:
            raise TensorMismatch(f"tensor {name} is not in {self.folder}: compare the tensor names of the checkpoints")
        return self._tensors[name]

    def keys(self) -> dict[str, str]:
        """Its names by what models of one architecture share, wherever their decoder lies; by themselves where two
        would share it.
        """
        keys = {name: key_of(name, self.place) for name in self.names}
        held = Counter(keys.values())
        return {key if held[key] == 1 else name: name for name, key in keys.items()}

    def renamed(self, names: dict[str, str]) -> "Checkpoint":
        """The same checkpoint with the tensors ``names`` (new name -> name here) only."""
        other = copy.copy(self)
        other._tensors = {new: self.stored(name) for new, name in names.items()}
        other.names = sorted(other._tensors, key=by_depth)
        return other

    def _read_header(self, file: Path, expected: set[str] | None, tensors: dict[str, Stored]) -> None:
        with opened(file) as header:
            held = set(header.keys())
            if wrong := sorted(held ^ (held if expected is None else expected)):
                where = f"is not in {INDEX} but in" if wrong[0] in held else "is missing from"
                raise TensorMismatch(f"tensor {wrong[0]} {where} {file}: copy or save the checkpoint again")
            parts = {name: header.get_slice(name) for name in sorted(held)}
            kinds = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
        refuse_quantised({name: kind for name, (kind, _) in kinds.items()}, self.config, file)
        for name, (kind, shape) in kinds.items():
            if kind == "BOOL" or is_computed(name, shape):
                self.left_out.setdefault("buffers, which the model computes", []).append(name)
            elif kind not in FLOATS | EIGHT_BIT:
                types = ", ".join(FLOATS)
                raise StudyError(
                    f"tensor {name} in {file} is stored as {kind}, not as {types}: save the checkpoint in a floating "
                    "type first"
                )
            elif 0 in shape:
                raise StudyError(
                    f"tensor {name} in {file} is empty, {shape}, as ZeRO-3 leaves what it has divided: gather the "
                    "weights (zero_to_fp32.py beside the training's checkpoint does) and save the model again"
                )
            else:
                tensors[name] = Stored(file, name, shape, (FLOATS | EIGHT_BIT)[kind])

    def _as_matrices(self, tensors: dict[str, Stored]) -> dict[str, Stored]:
        clean, prefixes = unwrapped(tensors)
        if len(set(clean.values())) < len(clean):
            raise TensorMismatch(f"{self.folder} holds tensors twice, with and without {prefixes[0]!r}: save it again")
        for prefix in prefixes:
            self.remarks.append(f"{self.folder}: the prefix {prefix!r} was taken out of the names of its tensors")
        tensors, scales = scaled({clean[name]: one for name, one in tensors.items()}, self.config, self.folder)
        if any(one.dtype in EIGHT_BIT.values() for one in tensors.values()):
            self.remarks.append(
                f"{self.folder} is quantised to eight-bit floats: its weights are these times their scales"
            )
        if unmerged := [name for name in tensors if ".lora_" in name or ".base_layer." in name]:
            raise StudyError(
                f"{self.folder} holds a LoRA adapter beside the weights that it is to change, not merged into them "
                f"({unmerged[0]}): save what merge_and_unload() gives, or the adapter alone with save_pretrained()"
            )
        found = seen(self._language_part(tensors), self.config, self.folder)
        self._untie(found)
        return found

    def _language_part(self, tensors: dict[str, Stored]) -> dict[str, Stored]:
        self.place, layers = decoder_of(tensors)
        others = {key for key in self.config if key in ("vision_config", "audio_config", "vit_config")}
        kept = {}
        for name, one in tensors.items():
            below = name.startswith(self.place) and (name.startswith(layers or " ") or not sees_or_hears(name))
            head = module_of(name) in HEADS or extra(name, None)
            if below or (head and not sees_or_hears(name)) or not (others or sees_or_hears(name)):
                kept[name] = one
            else:
                self.left_out.setdefault("vision or sound, not language", []).append(name)
        return kept

    def _untie(self, tensors: dict[str, Stored]) -> None:
        """Take out a head that is the embedding: whatever ``config.json`` says, it is one matrix."""
        head, embedding = head_of(tensors), embedding_of(tensors)
        if head is None or embedding is None:
            return
        if _equal(tensors[head], tensors[embedding]):
            self.copied = tensors[embedding], tensors.pop(head)
        elif self.config.get("tie_word_embeddings"):
            raise TensorMismatch(
                f"tensors {head} and {embedding} in {self.folder} differ although {CONFIG} ties them: "
                "set tie_word_embeddings to false, or save the model again"
            )


Updates = dict[str, tuple[Checkpoint, Checkpoint]]  # update label -> (tuned, start)


def matched(
    checkpoints: Iterable[Checkpoint], vocabulary: Literal["exact", "intersection"] = "exact"
) -> dict[str, Shape]:
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


def _equal(a: Stored, b: Stored) -> bool:
    few = slice(8)  # first, so that most of two that differ are not read
    return a.shape == b.shape and all(_alike(a.read(part), b.read(part)) for part in (few, ...))


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether all numbers are equal, NaN to NaN."""
    a, b = (one.float() if one.element_size() == 1 else one for one in (a, b))  # torch compares no eight-bit floats
    return torch.equal(a, b) or bool(((a == b) | (a != a) & (b != b)).all())


def _same_names(a: Checkpoint, b: Checkpoint) -> None:
    for first, second in ((a, b), (b, a)):
        absent = [name for name in first.names if name not in second]
        if absent:
            name, shape = absent[0], first.shape(absent[0])
            unknown = [other for other in second.names if other not in first and second.shape(other) == shape]
            alike = [other for other in unknown if layer_of(other) == layer_of(name)]
            twin = min(alike, key=lambda other: module_of(other) != module_of(name), default=None)
            remedy = f"which has {twin} of that shape: rename it" if twin else _remedy(first, second)
            more = f" (and {len(absent) - 1} more tensors)" if len(absent) > 1 else ""
            raise TensorMismatch(
                f"tensor {name} of shape {shape} in {first.file(name)} is missing from {second.folder}{more}, {remedy}"
            )


def _remedy(a: Checkpoint, b: Checkpoint) -> str:
    """What to do about two checkpoints that differ, by whether their configurations do."""
    first, second = ({**c.config, **(c.config.get("text_config") or {})} for c in (a, b))
    for key in ARCHITECTURE:
        if first.get(key) != second.get(key):
            values = f"{key} is {first.get(key)} in one and {second.get(key)} in the other"
            return f"compare models of one architecture ({values})"
    if not first.get("model_type"):
        return "compare models of one architecture"
    return f"although the {CONFIG} of both asks for the same: save the model again"


def _allow_resized(name: str, a: Checkpoint, b: Checkpoint, vocabulary: str) -> None:
    first, second = a.shape(name), b.shape(name)
    resized = counts_tokens(name) and first[1:] == second[1:] and len(first) == len(second)
    if resized and vocabulary == "intersection":
        return
    remedy = _remedy(a, b)
    if resized:
        remedy = "their vocabularies differ, so ask for `vocabulary: intersection` to compare the rows both have"
    elif first == second[::-1]:
        remedy = "one is the transpose of the other, so convert one checkpoint"
    raise TensorMismatch(f"tensor {name} is {first} in {a.file(name)} and {second} in {b.file(name)}: {remedy}")
