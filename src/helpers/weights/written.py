"""Models written tensor by tensor as safetensors: whole ones in shards, and changes of low rank as LoRA adapters."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from helpers.draws import generator_for
from helpers.errors import StudyError
from helpers.files import beside, replace_folder
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.folders import ADAPTER, ADAPTER_CONFIG, CONFIG, files_of, read_json
from helpers.weights.stored import Stored

SHARD = 2**29  # bytes of the files in work together, unless one tensor is larger
BESIDE = {".json", ".jinja", ".model", ".txt"}  # endings of what belongs to a model beside its weights
NOT_BESIDE = ("model.safetensors.index.json", "adapter_config.json", "README")
EXACT = 1e-6  # share of the norm of a change that may lie outside its adapter: the rounding of float32
Edited = Callable[[str], Tensor | None]  # of a tensor's name: what it becomes, or None if it stays


@dataclass(frozen=True)
class Head:
    """An output head that is the embedding: its name among the tensors, and in files that hold it a second time."""

    name: str = ""  # empty where it goes by the embedding's
    repeated: str = ""  # empty where the files hold it once


class Writer:
    """A model that is written to a folder one tensor after the other; only the shard in work is in memory."""

    def __init__(self, folder: Path, shard: int = SHARD):
        self.folder, self.shard, self.waiting, self.shards = folder, shard, {}, []
        self.untied = False  # whether it has a head of its own where its layout has none
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, tensor: Tensor) -> None:
        """The next tensor, in the type in which it is to be stored."""
        if self.waiting and sum(map(_bytes, self.waiting.values())) + _bytes(tensor) > self.shard:
            self._flush()
        self.waiting[name] = tensor.contiguous()

    def add_head(self, head: Head, embedding: Tensor, tensor: Tensor) -> None:
        """The head beside its embedding: where files repeat it, or where the two are no longer one."""
        differs = not torch.equal(tensor, embedding)
        if differs or head.repeated:
            self.add(head.repeated or head.name, tensor.clone())
        self.untied = self.untied or differs

    def finish(self, source: Path) -> None:
        """Write what waits, the index, and beside it what else belongs to the model in ``source``."""
        self._flush()
        files = {number: f"model-{number:05}-of-{len(self.shards):05}.safetensors" for number in self.numbers}
        for number, file in files.items():
            (self.folder / f"shard-{number}").rename(self.folder / file)
        names = {name: files[number] for number, held in zip(self.numbers, self.shards, strict=True) for name in held}
        index = {"metadata": {}, "weight_map": names}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        for file in sorted(source.iterdir()):
            if file.suffix in BESIDE and not file.name.startswith(NOT_BESIDE):
                shutil.copyfile(file, self.folder / file.name)
        if self.untied:
            self._say_untied(self.folder / CONFIG)

    @staticmethod
    def _say_untied(path: Path) -> None:
        config = read_json(path)
        for part in (config, config.get("text_config") or {}):
            part["tie_word_embeddings"] = False
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")

    @property
    def numbers(self) -> range:
        """Numbers of the shards."""
        return range(1, len(self.shards) + 1)

    def _flush(self) -> None:
        self.shards.append([*self.waiting])
        save_file(self.waiting, self.folder / f"shard-{len(self.shards)}", metadata={"format": "pt"})
        self.waiting = {}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def write_models(
    layout: Checkpoint, folders: dict[str, Path], edited: Callable[[str, str], Tensor | None], whole: bool = False
) -> None:
    """Models with the files' layout of a checkpoint, one folder each: ``edited(model, name)`` is a model's tensor.

    What is None stays as it is in ``layout``, as does what is no weight of the language part. All models get a tensor
    before any gets the next, so that what they share about it is computed once. Numbers are rounded to the stored
    type, or if they are ``whole`` kept in float32 where that is of 16 bits. A head that is the embedding in the files
    is written beside it where an edit makes them differ. Raises StudyError for weights that are quantised.
    """
    writers = {model: Writer(folder, SHARD // len(folders)) for model, folder in folders.items()}
    for key, raw, parts, head in _raw(layout):
        raw = raw.float() if whole and raw.is_floating_point() and raw.itemsize < 4 else raw
        found = {model: raw for model in writers}
        for name, stored in parts.items():
            for model in writers:
                if (tensor := edited(model, name)) is not None:
                    found[model] = raw.clone() if found[model] is raw else found[model]
                    stored.view(found[model]).copy_(tensor)
        for model, writer in writers.items():
            writer.add(key, found[model])
            if head is not None:
                own = edited(model, head.name) if head.name else found[model]
                writer.add_head(head, found[model], raw if own is None else own.to(raw.dtype))
    for writer in writers.values():
        writer.finish(layout.folder)


def write_model(layout: Checkpoint, edited: Edited, folder: Path, whole: bool = False) -> None:
    """One such model under its final name, whole or not at all. Raises Unwritable."""
    with beside(folder) as partial:
        write_models(layout, {"": partial}, lambda _, name: edited(name), whole)
        replace_folder(partial, folder)


def _raw(layout: Checkpoint) -> Iterator[tuple[str, Tensor, dict[str, Stored], Head | None]]:
    """Every tensor of the files: its name there, its values, what of it is a tensor of the checkpoint, by name, and of
    an embedding the head that it is too.
    """
    parts, heads = _parts(layout)
    for file in files_of(layout.folder):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - no mapping
                if key not in {head.repeated for head in heads.values()}:
                    yield key, opened.get_tensor(key), parts.get(key, {}), heads.get(key)


def _parts(layout: Checkpoint) -> tuple[dict[str, dict[str, Stored]], dict[str, Head]]:
    """By name in the files the tensors of a checkpoint that are there, and the heads that are there too."""
    parts: dict[str, dict[str, Stored]] = {}
    heads = {layout.copied[0].key: Head(repeated=layout.copied[1].key)} if layout.copied else {}
    for name in layout.names:
        stored = layout.stored(name)
        if stored.scale is not None:
            raise StudyError(f"{layout.folder} is quantised ({stored.key}), and no edit is written in that form")
        same = parts.setdefault(stored.key, {})
        if any(other.expert == stored.expert for other in same.values()):
            heads[stored.key] = replace(heads.get(stored.key, Head()), name=name)
        else:
            same[name] = stored
    return parts, heads


def write_adapter(tuned: Adapted, changed: Edited, folder: Path) -> None:
    """The adapter of ``tuned`` with other changes of the same matrices: ``changed(name)`` (m, n), or None if it stays.

    Names, ranks and configuration are those of its files. Raises StudyError, naming the tensor, where the adapter is
    other than two matrices for each weight, or a change does not fit into its rank.
    """
    factors = {raw: tuned.raw.tensor(raw) for raw in tuned.raw.names}
    for name, module in tuned.low_rank.items():
        if set(module.parts) != {"A", "B"} or module.turned or module.expert or tuned.whole:
            raise StudyError(
                f"the adapter changes {name} by other than two matrices of its own: merge it, and make a card of that"
            )
        if (change := changed(name)) is not None:
            raw_a, raw_b = module.parts["A"], module.parts["B"]
            b, a = _factors(name, change.double() / module.scale, len(factors[raw_a]))
            factors |= {raw_a: a.to(factors[raw_a].dtype), raw_b: b.to(factors[raw_b].dtype)}
    with beside(folder) as partial:
        partial.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in factors.items()}, partial / ADAPTER)
        for file in sorted(tuned.raw.folder.iterdir()):
            if file.name == ADAPTER_CONFIG or (file.suffix in BESIDE and not file.name.startswith(NOT_BESIDE)):
                shutil.copyfile(file, partial / file.name)
        replace_folder(partial, folder)


def _factors(name: str, change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (m, rank) and A (rank, n) with B A = the change, (m, n) of rank at most ``rank``; padded with zeros."""
    columns = min(rank, *change.shape)
    probe = torch.randn(change.shape[1], columns, dtype=torch.float64, generator=generator_for(0, "", name, "adapter"))
    q = torch.linalg.qr(change @ probe)[0]  # (m, columns): of a matrix of that rank the whole range
    inner = q.T @ change
    if float((change - q @ inner).norm()) > EXACT * float(change.norm()):
        raise StudyError(
            f"the change of {name} has a rank above the adapter's {rank}: merge it, and make a card of that"
        )
    u, s, v = torch.linalg.svd(inner, full_matrices=False)
    b, a = (q @ u) * s.sqrt(), s.sqrt()[:, None] * v
    pad = rank - columns
    return torch.nn.functional.pad(b, (0, pad)), torch.nn.functional.pad(a, (0, 0, 0, pad))
