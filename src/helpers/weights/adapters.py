"""LoRA adapters as PEFT saves them, upon the model that they change: ΔW tensor by tensor, never merged.

With A (r, n), B (m, r) and s = α / r (rsLoRA: α / √r) the weight W (m, n) of a module becomes W + s B A; DoRA gives
each row the length that it has learnt. That a file may hold W as (in, out) does not matter: B A is always (out, in).
"""

import copy
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.draws import blocks
from helpers.errors import StudyError, TensorMismatch
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.names import EMBEDDINGS, HEADS, extra, head_of, layer_of, listed, sees_or_hears, unwrapped

MERGE = "give the model that merge_and_unload() makes of it"
CHANGES_THE_START = ("pissa", "olora", "corda", "loftq", "lora_ga")  # beginnings that take from W what A B then holds
BEYOND = ["layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"]
BEYOND += ["velora_config", "monteclora_config", "trainable_token_indices"]  # settings that are more than s B A
ROUTER = (".mlp.gate.", ".block_sparse_moe.gate.")  # as transformers names some in memory, and as files do
LORA = re.compile(r"(.+)\.lora_(?:(A|B)\.weight|embedding_(A|B)|(B\.bias)|(magnitude_vector)(?:\.weight)?)$")


@dataclass
class _Module:
    """What an adapter holds for one module, as names of tensors in its file, by A, B, B.bias and magnitude_vector."""

    parts: dict[str, str] = field(default_factory=dict)
    scale: float = 0.0
    turned: bool = False  # ΔW is s Aᵀ Bᵀ: of an embedding, whose A is (r, tokens) and B (width, r)
    expert: tuple[int, int] | None = None  # which of how many: A below, B between one another

    def factors(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The left (m, r) and right (r, n) factor of ΔW / s, from A and B of the file."""
        if self.expert is not None:
            i, experts = self.expert
            rank = len(a) // experts
            a, b = a[i * rank : (i + 1) * rank], b[:, i::experts]
        return (a.T, b.T) if self.turned else (b, a)


class Adapted(Checkpoint):
    """A model under a LoRA adapter, with the tensors of the model, read like any other checkpoint, in float64."""

    def __init__(self, adapter: Checkpoint, start: Checkpoint):
        vars(self).update(vars(copy.copy(start)))
        self.raw, self.start, self.adapter = adapter, start, None
        self.folder, self.remarks, self.left_out = adapter.folder, [], {}
        self.whole: dict[str, str] = {}  # tensor -> name in the adapter's file of what takes its place
        self.low_rank: dict[str, _Module] = {}
        self.lengths: dict[str, Tensor] = {}
        self.by_key = start.keys()
        _check(adapter)
        self._place()
        trained = adapter.adapter.get("base_model_name_or_path") or "a model that it does not name"
        self.remarks.append(f"{self.folder} is a LoRA adapter, trained upon {trained} and read upon {start.folder}")

    def identity(self) -> list[tuple[str, int, int] | dict]:
        """Of the adapter and of what it stands on."""
        return [*self.raw.identity(), *self.start.identity()]

    def files(self) -> list[Path]:
        """The files of the adapter and of what it stands on."""
        return sorted({*self.raw.files(), *self.start.files()})

    def file(self, name: str) -> Path:
        """The file that decides a tensor: the adapter's, where it changes it."""
        return self.raw.files()[0] if name in self.whole or name in self.low_rank else self.start.file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.raw.shape(self.whole[name]) if name in self.whole else self.start.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """Type in which a tensor is given."""
        return torch.float64 if name in self.low_rank else self._before(name).dtype

    def kept_as(self, name: str) -> torch.dtype:
        """Type in which the adapter's matrices for a tensor are stored, or else the tensor."""
        if name not in self.low_rank:
            return self.dtype(name)
        return self.raw.dtype(next(iter(self.low_rank[name].parts.values())))

    def read(self, name: str, part: Any = ...) -> Tensor:
        """Rows of a tensor, or rows and columns, as slices."""
        tensor = self._before(name, part)
        if name not in self.low_rank:
            return tensor
        tensor = tensor.double() + self._change(name, part)
        if "magnitude_vector" in self.low_rank[name].parts:
            length = self._part(name, "magnitude_vector") / self._lengths(name)
            tensor = tensor * length[part[0] if isinstance(part, tuple) else part, None]
        return tensor

    def difference(self, start: Checkpoint, name: str, part: Any = ...) -> Tensor | None:
        """ΔW itself, s B A, where a tensor is changed by that alone: not the difference of two rounded matrices."""
        return self._change(name, part) if self._alone(start, name) else None

    def factors(self, start: Checkpoint, name: str) -> tuple[Tensor, Tensor] | None:
        """s B (m, r) and A (r, n), where a tensor is changed by their product alone."""
        if not self._alone(start, name) or "B.bias" in self.low_rank[name].parts:
            return None
        module = self.low_rank[name]
        left, right = module.factors(self._part(name, "A"), self._part(name, "B"))
        return module.scale * left, right

    def _alone(self, start: Checkpoint, name: str) -> bool:
        module = self.low_rank.get(name)
        plain = module is not None and "magnitude_vector" not in module.parts
        return start is self.start and plain and name not in self.whole

    def _before(self, name: str, part: Any = ...) -> Tensor:
        return self.raw.read(self.whole[name], part) if name in self.whole else self.start.read(name, part)

    def _part(self, name: str, which: str) -> Tensor:
        return self.raw.tensor(self.low_rank[name].parts[which]).double()

    def _change(self, name: str, part: Any) -> Tensor:
        module = self.low_rank[name]
        if "B.bias" in module.parts:
            return module.scale * self._part(name, "B.bias")[part]
        left, right = module.factors(self._part(name, "A"), self._part(name, "B"))
        rows, columns = part if isinstance(part, tuple) else (part, slice(None))
        return module.scale * left[rows] @ right[:, columns]

    def _lengths(self, name: str) -> Tensor:
        """Length of every row of W + s B A: (m,), kept, since a block of columns needs it too."""
        if name not in self.lengths:
            parts = blocks(*self.shape(name))
            rows = (self._before(name, part).double() + self._change(name, part) for part in parts)
            self.lengths[name] = torch.cat([row.norm(dim=1) for row in rows])
        return self.lengths[name]

    def _place(self) -> None:
        """Give every tensor of the adapter its place in the model. Raises StudyError or TensorMismatch."""
        clean, _ = unwrapped(self.raw.names)
        own, experts = heads_of(self.raw), {}
        for raw, name in clean.items():
            if (
                set(name.split(".")) & HEADS
                and layer_of(name) < 0
                and raw not in own
                and head_of(self.start.names) is None
            ):
                continue  # the embedding, said a second time
            name = name.removeprefix("base_model.model.").replace(".default", "")
            found = LORA.match(name)
            if found is None:
                self._replace(raw, re.sub(r"\.(base_layer|modules_to_save)(?=\.)", "", name))
                continue
            module, which = found[1].replace(".base_layer", ""), next(filter(None, found.groups()[1:]))
            if of_experts := self._experts(module):
                experts.setdefault((module, found[1]), (of_experts, {}))[1][which] = raw
                continue
            target = self._target(module + (".bias" if which == "B.bias" else ".weight"), raw)
            if target is not None:
                place = self.low_rank.setdefault(target, _Module(scale=self._scale(module, raw)))
                place.parts[which], place.turned = raw, place.turned or bool(found[3])
        for (module, _), (names, parts) in experts.items():
            self._place_experts(module, names, parts)
        for name, module in self.low_rank.items():
            self._fits(name, module)

    def _replace(self, raw: str, name: str) -> None:
        if ".lora_" in name or "token_adapter" in name or "trainable_tokens" in name:
            raise StudyError(f"the adapter in {self.folder} holds {raw}, which is not read here: {MERGE}")
        target = self._target(name, raw)
        if target is not None:
            self.whole[target] = raw

    def _target(self, name: str, raw: str) -> str | None:
        """The model's name of a tensor that the adapter changes; None for one of a part that is left out."""
        if name in self.start:
            return name
        if kind := "vision or sound, not language" if sees_or_hears(name) else extra(name, None):
            self.left_out.setdefault(kind, []).append(raw)
            return None
        for words in (name.split("."), name.replace(*ROUTER).split(".")):
            for i in range(len(words)):
                if (key := ".".join(words[i:])) in self.by_key:
                    return self.by_key[key]
        experts = [one for one in self.start.names if ".experts." in one and layer_of(one) == layer_of(name)]
        if name.endswith(".experts.weight") and experts:
            raise StudyError(
                f"the adapter in {self.folder} changes {name.removesuffix('.weight')}, as transformers names all "
                f"experts in memory, and {self.start.folder} holds them under other names ({experts[0]}): {MERGE}"
            )
        raise TensorMismatch(
            f"the adapter in {self.folder} changes {name}, which {self.start.folder} has not: give the model that it "
            f"was trained upon as its start ({self.raw.adapter.get('base_model_name_or_path')}), or {MERGE}"
        )

    def _experts(self, module: str) -> dict[str, list[str]]:
        """The model's tensors of all experts of such a module, by their own name: ``down_proj`` -> one for each."""
        words, found = module.split("."), {}
        for key, name in self.by_key.items() if words[-1] == "experts" else ():
            place = re.match(r"(.*\bexperts)\.(\d+)\.([^.]+)(\.weight)?$", key)
            if place and f".{module}".endswith(f".{place[1]}"):
                found.setdefault(place[3], []).append((int(place[2]), name))
        return {last: [name for _, name in sorted(names)] for last, names in found.items()}

    def _place_experts(self, module: str, names: dict[str, list[str]], parts: dict[str, str]) -> None:
        """A and B of all experts at once (PEFT's target_parameters), told by their shapes which tensor they change."""
        (total, n), (m, width) = (self.raw.shape(parts[which]) for which in ("A", "B"))
        fits = [one for one in names.values() if self.start.shape(one[0]) in ((m, n), (n, m)) and total == width]
        square = m == n and not self.start.stored(fits[0][0]).flipped if fits else False
        if len(fits) != 1 or total % len(fits[0]) or square or self.raw.adapter.get("alpha_pattern"):
            raise StudyError(
                f"the adapter in {self.folder} changes {module} by A {(total, n)} and B {(m, width)}, and which of its "
                f"tensors in {self.start.folder} that is ({listed([*names])}) cannot be told: {MERGE}"
            )
        scale = self._scale(module, parts["A"], len(fits[0]))
        for i, name in enumerate(fits[0]):
            turned = self.start.shape(name) != (m, n)
            self.low_rank[name] = _Module(dict(parts), scale, turned, (i, len(fits[0])))

    def _scale(self, module: str, raw: str, experts: int = 1) -> float:
        config = self.raw.adapter
        patterns = config.get("alpha_pattern") or {}
        key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
        alpha = patterns[key] if key else config.get("lora_alpha")
        ending = "lora_embedding_A" if "lora_embedding" in raw else "lora_A.weight"
        first = raw[: raw.index(".lora_")] + f".{ending}"
        if alpha is None or first not in self.raw:
            raise StudyError(
                f"the adapter in {self.folder} lacks {'lora_alpha' if alpha is None else first}: save it again"
            )
        rank = self.raw.shape(first)[0] // experts
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def _fits(self, name: str, module: _Module) -> None:
        if "B.bias" in module.parts:
            return
        if not {"A", "B"} <= set(module.parts) or (module.turned and "magnitude_vector" in module.parts):
            raise StudyError(f"the adapter in {self.folder} is not read here for {name} ({[*module.parts]}): {MERGE}")
        a, b = (self.raw.stored(module.parts[which]).kept for which in ("A", "B"))
        if len(a) != 2 or len(b) != 2:
            raise StudyError(f"the adapter in {self.folder} changes the kernel {name}, which is not read here: {MERGE}")
        shape = (a[1], b[0]) if module.turned else (b[0], a[1])
        if shape != self.shape(name) or a[0] != b[1]:
            raise TensorMismatch(
                f"the adapter in {self.folder} changes a {name} of shape {shape} by A {a} and B {b}, and the one in "
                f"{self.start.folder} is {self.shape(name)}: give the model that it was trained upon as its start"
            )


def unties(adapter: Checkpoint) -> bool:
    """Whether a model whose head is its embedding has two matrices under an adapter, which changes one and not both.

    PEFT trains each by itself: a change of the embedding does not reach the head, nor the other way. Rows of tokens
    that were added are saved for both alike, and then are one matrix still.
    """
    if heads_of(adapter) or any(set(name.split(".")) & EMBEDDINGS and ".lora_" in name for name in adapter.names):
        return True
    saved = {name.split(".")[-1] for name in adapter.adapter.get("modules_to_save") or ()}
    return bool(saved & EMBEDDINGS) and not any(set(name.split(".")) & HEADS for name in adapter.names)


def heads_of(adapter: Checkpoint) -> list[str]:
    """Names of an adapter's tensors for the output head, unless they are the embedding that it holds too."""
    heads = [name for name in adapter.names if set(name.split(".")) & HEADS and layer_of(name) < 0]
    tables = [name for name in adapter.names if set(name.split(".")) & EMBEDDINGS and ".lora_" not in name]
    tied = [h for h in heads for t in tables if torch.equal(adapter.tensor(h), adapter.tensor(t))]
    return [name for name in heads if name not in tied]


def refuse_doubled(adapter: Checkpoint) -> None:
    """Raise StudyError for LoRA of an embedding that is the head too: PEFT writes it twice, and merges it twice."""
    if not adapter.adapter.get("ensure_weight_tying"):
        return
    ends = ((HEADS, "lora_A.weight"), (EMBEDDINGS, "lora_embedding_B"))
    heads, tables = ([n for n in adapter.names if set(n.split(".")) & kind and n.endswith(end)] for kind, end in ends)
    if any(torch.equal(adapter.tensor(h), adapter.tensor(t).T) for h in heads for t in tables):
        raise StudyError(
            f"the adapter in {adapter.folder} holds its change of an embedding that is the output head too twice "
            "(ensure_weight_tying with LoRA), and PEFT itself merges it twice: train it again with "
            "modules_to_save=['embed_tokens'] instead, or without ensure_weight_tying"
        )


def _check(adapter: Checkpoint) -> None:
    """Raise StudyError for an adapter that is no LoRA, or whose numbers mean something else than s B A."""
    config, where = adapter.adapter, f"the adapter in {adapter.folder}"
    if config.get("peft_type") != "LORA":
        raise StudyError(f"{where} is of the kind {config.get('peft_type')}, of which only LORA is read: {MERGE}")
    begun = str(config.get("init_lora_weights")).lower()
    if begun.startswith(CHANGES_THE_START):
        raise StudyError(
            f"{where} was begun by {begun}, which also changes the weights that it stands on: {MERGE}, or save it with "
            "path_initial_model_for_weight_conversion"
        )
    refuse_doubled(adapter)
    if used := [key for key in BEYOND if config.get(key)]:
        raise StudyError(f"{where} uses {listed(used)}, which is not read here: {MERGE}")
