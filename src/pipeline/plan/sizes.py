"""Sizes of models before any weights are here: exact by transformers, or near from ``config.json`` alone."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers.models.language import Language
from helpers.paths import ROOT
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels, Study

NUMBERS = yaml.safe_load(Path(__file__).with_name("numbers.yml").read_text(encoding="utf-8"))
Config = dict  # the content of a config.json


@dataclass(frozen=True)
class Size:
    """What a decoder holds."""

    hidden: int
    layers: int
    key_value: int  # numbers of a key or value of one token and layer
    vocabulary: int
    parameters: int
    multiplied: int  # parameters that a token is multiplied with: no embedding table, and of experts the chosen ones
    matrices: dict[tuple[int, int], int]  # how often a matrix of each shape is stored

    @property
    def block(self) -> float:
        """Parameters of one layer that a token is multiplied with."""
        return (self.multiplied - self.vocabulary * self.hidden) / self.layers


def config_of(origin: Origin, ask: bool = False) -> Config | None:
    """The ``config.json`` of a model in its folder, in the hub's cache, or in numbers.yml; if ``ask``, from the hub."""
    file, known = config_at_hand(origin), NUMBERS["models"].get(origin.package or origin.id)
    if file is None and known is None and ask and origin.origin == "hub":
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(origin.id, "config.json", revision=origin.revision, etag_timeout=3))
        except Exception:  # no network, no such model, no permission: there are many kinds
            return None
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file else known
    except (OSError, ValueError):
        return None


def config_at_hand(origin: Origin) -> Path | None:
    """The ``config.json`` of a model, if it is in a folder or in the hub's cache on this machine."""
    if origin.origin == "folder":
        file = ROOT / Path(origin.path).expanduser() / "config.json"
        return file if file.is_file() else None
    if origin.origin == "hub":
        from huggingface_hub import try_to_load_from_cache  # here: studies without the hub need not wait for it

        found = try_to_load_from_cache(origin.id, "config.json", revision=origin.revision)
        return Path(found) if isinstance(found, str) else None
    return None


def config_of_study(study: Study | OwnModels, ask: bool = False) -> Config | None:
    """The configuration that all models of a study share; None where it cannot be told yet."""
    if isinstance(study, OwnModels):
        return config_of(study.base, ask)
    if not study.embedded:
        return config_of(study.model.base, ask)
    sizes = study.model.model_dump(exclude={"kind"})
    return {"model_type": "llama", **sizes, "vocab_size": len(Language(study.language).vocabulary)}


def near(config: Config | None) -> Size | None:
    """The size of a decoder from its numbers alone, without vectors; None for a family that names them otherwise."""
    try:
        text = config.get("text_config") or config  # of a model that also sees
        d, n, heads, vocabulary = (
            text[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        )
        head = text.get("head_dim") or d // heads
        keys = head * (text.get("num_key_value_heads") or heads)
        experts = text.get("num_experts") or text.get("num_local_experts") or 1
        inner = (experts > 1 and text.get("moe_intermediate_size")) or text["intermediate_size"]
        used = text.get("num_experts_per_tok") or 1
        tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        matrices: Counter = Counter()
        for shape, count in (
            ((head * heads, d), n),
            ((d, head * heads), n),
            ((keys, d), 2 * n),
            ((inner, d), 2 * n * experts),
            ((d, inner), n * experts),
            ((vocabulary, d), 1 if tied else 2),
        ):
            matrices[shape] += count
        total = sum(rows * columns * count for (rows, columns), count in matrices.items())
        idle = 3 * n * inner * d * (experts - min(used, experts)) + (0 if tied else vocabulary * d)
        return Size(d, n, keys, vocabulary, total, total - idle, dict(matrices))
    except (AttributeError, KeyError, TypeError, ZeroDivisionError):
        return None


def exact(config: Config | None) -> Size | None:
    """The size of any decoder that transformers can build, without memory for its weights; else what is ``near``."""
    import torch  # here: every job of a workflow reads ``near``, and need not wait for these
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    try:
        whole = AutoConfig.for_model(**config)
        text = whole.get_text_config(decoder=True)
        model = None
        for kind, wanted in ((AutoModelForCausalLM, text), (AutoModelForCausalLM, whole), (AutoModel, text)):
            if model is None and type(wanted) in kind._model_mapping:
                with torch.device("meta"):
                    model = kind.from_config(wanted, trust_remote_code=False)
        weights = list(model.parameters())  # a tied one is there once
        table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
        tied = head is not None and head.weight is table
        stacked = [w for w in weights if w.ndim == 3 and min(w.shape[1:]) > 8]  # (experts, rows, columns)
        used = getattr(text, "num_experts_per_tok", None)
        idle = sum(w.numel() * max(0.0, 1 - used / len(w)) for w in stacked) if used else 0
        matrices = Counter(tuple(w.shape) for w in weights if w.ndim == 2)
        for w in stacked:
            matrices[tuple(w.shape[1:])] += len(w)
        total, heads = sum(w.numel() for w in weights), getattr(text, "num_attention_heads", None) or 1
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
        return Size(
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            key_value=head_dim * (getattr(text, "num_key_value_heads", None) or heads),
            vocabulary=len(table),
            parameters=total,
            multiplied=round(total - idle - (0 if tied else table.numel())),
            matrices=dict(matrices),
        )
    except Exception:  # whatever a family's code raises for numbers that do not fit it
        return near(config)
