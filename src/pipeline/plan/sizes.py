"""Sizes of models before any weights are here: exact by transformers, or near from ``config.json`` alone."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers.models.language import Language
from helpers.paths import ROOT
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels, Study

NUMBERS = yaml.safe_load(Path(__file__).with_name("numbers.yml").read_text(encoding="utf-8"))
Config = dict  # the content of a config.json
Number = Callable[[str], int | None]  # what a configuration holds under a name
NAMES = {  # what families call their numbers
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "key heads": ("num_key_value_heads", "num_kv_heads"),
    "inner": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "chosen": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"),
    "every": ("expert_layer_period", "interleave_moe_layer_step", "decoder_sparse_step"),  # of layers has experts
}


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
    known = NUMBERS["models"].get(origin.package or origin.id)
    file = ROOT / Path(origin.path or "").expanduser() / "config.json"
    try:
        if origin.origin == "hub":
            from huggingface_hub import hf_hub_download  # here: studies without the hub need not wait for it

            local = {"local_files_only": known is not None or not ask, "etag_timeout": 3}
            file = Path(hf_hub_download(origin.id, "config.json", revision=origin.revision, **local))
        return known if origin.origin == "package" else json.loads(file.read_text(encoding="utf-8"))
    except Exception:  # no file, no network, no such model, no permission: there are many kinds
        return known


def config_of_study(study: Study | OwnModels) -> Config | None:
    """The configuration that all models of a study share; None where it cannot be told yet."""
    if isinstance(study, OwnModels) or not study.embedded:
        return config_of(study.base if isinstance(study, OwnModels) else study.model.base)
    sizes = study.model.model_dump(exclude={"kind"})
    return {"model_type": "llama", **sizes, "vocab_size": len(Language(study.language).vocabulary)}


def near(config: Config | None) -> Size | None:
    """The size of a decoder from its numbers alone, without vectors; None for a family that names them otherwise."""
    try:
        text = config.get("text_config") or config  # of a model that also sees
        d, n, vocabulary = _number(text.get, "hidden"), _number(text.get, "layers"), text["vocab_size"]
        head, keys = _heads(text.get, d)
        queries = head * (_number(text.get, "heads") or 1)
        plain = _number(text.get, "inner") or 4 * d
        experts = _number(text.get, "experts") or 1
        inner = (experts > 1 and text.get("moe_intermediate_size")) or plain
        dense = n - n // (_number(text.get, "every") or 1) if experts > 1 else 0  # layers without experts
        tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        stored = [((queries, d), n), ((d, queries), n), ((keys, d), 2 * n), ((vocabulary, d), 1 if tied else 2)]
        stored += [((inner, d), 2 * (n - dense) * experts), ((d, inner), (n - dense) * experts)]
        stored += [((plain, d), 2 * dense), ((d, plain), dense)]
        matrices = sum((Counter({shape: count}) for shape, count in stored if count), Counter())
        total = sum(rows * columns * count for (rows, columns), count in matrices.items())
        idle = 3 * (n - dense) * inner * d * (experts - min(_number(text.get, "chosen") or 1, experts))
        return Size(d, n, keys, vocabulary, total, total - idle - (0 if tied else vocabulary * d), dict(matrices))
    except (AttributeError, KeyError, TypeError, ZeroDivisionError):
        return None


def exact(config: Config | None) -> Size | None:
    """The size of any decoder that can be loaded, as transformers builds it without memory; else what is ``near``."""
    import torch  # here: every job of a workflow reads ``near``, and need not wait for these
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        whole = AutoConfig.for_model(**config)
        text = whole.get_text_config(decoder=True)
        alone = type(text) in AutoModelForCausalLM._model_mapping
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(text if alone else whole, trust_remote_code=False)
        weights = list(model.parameters())  # a tied one is there once
        table = model.get_input_embeddings().weight
        separate = 0 if model.get_output_embeddings().weight is table else table.numel()
        stacked = [w for w in weights if w.ndim == 3 and min(w.shape[1:]) > 8]  # (experts, rows, columns)
        used = _number(lambda name: getattr(text, name, None), "chosen")
        idle = sum(w.numel() * max(0.0, 1 - used / len(w)) for w in stacked) if used else 0
        matrices = Counter(tuple(w.shape) for w in weights if w.ndim == 2)
        matrices.update(tuple(expert.shape) for w in stacked for expert in w)
        total, d = sum(w.numel() for w in weights), text.hidden_size
        keys, n = _heads(lambda name: getattr(text, name, None), d)[1], text.num_hidden_layers
        return Size(d, n, keys, len(table), total, round(total - idle - separate), dict(matrices))
    except Exception:  # whatever a family's code raises for numbers that do not fit it
        return near(config)


def _number(number: Number, what: str) -> int | None:
    """A number under whichever of its names a configuration has it."""
    return next((found for name in NAMES[what] if (found := number(name))), None)


def _heads(number: Number, hidden: int) -> tuple[int, int]:
    """Numbers of a head, and of the keys (or values) of one token and layer."""
    heads = _number(number, "heads") or 1
    head = number("head_dim") or hidden // heads
    if number("qk_nope_head_dim"):  # latent attention, whose keys have two parts
        head = number("qk_nope_head_dim") + (number("qk_rope_head_dim") or 0)
    one = number("multi_query") and not number("new_decoder_architecture")  # which Falcon's later models have
    return head, head * (1 if one else _number(number, "key heads") or heads)
