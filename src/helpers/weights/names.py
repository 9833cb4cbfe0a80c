"""What the name of a tensor says: its module, its layer, its part of the model, and what wraps or computes it."""

import os
import re
from collections import Counter
from collections.abc import Iterable

EMBEDDINGS = {"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings", "tokens_embed", "embeddings"}
EMBEDDINGS |= {"shared", "token_embedding", "embedding", "embd"}
HEADS = {"lm_head", "embed_out", "output", "head", "output_projection"}
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # torch.compile, FSDP, checkpointing
LEADING = ("module.", "_forward_module.")  # DistributedDataParallel, DeepSpeed: only before every name

_COMPUTED = re.compile(r"(^|\.)(\w*inv_freq|masked_bias|position_ids|num_batches_tracked|\w*position_index)$")
_SEEN_OR_HEARD = re.compile(
    r"(^|[._])(vision|visual|image|audio|speech|mm|multimodal|multi_modal|modality|video|vit|resampler|connector)([._]|$)"
)
_PREDICTION = re.compile(r"(^|\.)(mtp|mtp_\w+|nextn\w*|eagle\w*|medusa\w*)\.")
_VALUE = re.compile(r"(^|\.)(v_head|value_head|v_heads|score|classifier|reward_head|rm_head|regression_head)\.")


def module_of(name: str) -> str:
    """The module type of a tensor: ``q_proj``, ``embed_tokens``, ``lm_head``, ``input_layernorm`` …"""
    return re.sub(r"\.(weight|bias)$", "", name).rsplit(".", 1)[-1]


def layer_of(name: str) -> int:
    """The number of a tensor's layer, −1 for a tensor outside the layers."""
    found = re.search(r"(?:^|\.)(\d+)\.", name)
    return int(found.group(1)) if found else -1


def by_depth(name: str) -> tuple:
    """Sorts names from the embedding through the layers to the head."""
    layer = layer_of(name)
    return (1 if layer >= 0 else 0 if module_of(name) in EMBEDDINGS else 2, layer, name)


def counts_tokens(name: str) -> bool:
    """Whether the rows of a tensor are tokens, where it may have more rows in one model than in another."""
    return layer_of(name) < 0 and not re.search(r"pos|wpe|norm|ln_", module_of(name))


def is_computed(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a buffer that the model computes by itself: rotary frequencies, positions, causal masks."""
    mask = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3] > 1
    return bool(_COMPUTED.search(name)) or mask


def sees_or_hears(name: str) -> bool:
    """Whether a tensor belongs to what turns images or sound into tokens."""
    return bool(_SEEN_OR_HEARD.search(name))


def extra(name: str, layers: int | None) -> str | None:
    """What a tensor is that a model of the same architecture may lack, or None; ``layers`` are those of its decoder."""
    if _PREDICTION.search(name) or (layers and layer_of(name) >= layers and re.search(r"(^|\.)layers\.", name)):
        return "a layer that predicts further tokens"
    return "a value or classification head" if _VALUE.search(name) else None


def unwrapped(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Each name without what a wrapper put into all of them, and the prefixes that were taken out."""
    clean, found = {name: name for name in names}, []
    for prefix in WRAPPERS:
        if any(f".{name}".find(f".{prefix}") >= 0 for name in clean.values()):
            clean = {name: f".{short}".replace(f".{prefix}", ".")[1:] for name, short in clean.items()}
            found.append(prefix)
    for prefix in LEADING:
        if clean and all(short.startswith(prefix) for short in clean.values()):
            clean = {name: short.removeprefix(prefix) for name, short in clean.items()}
            found.append(prefix)
    return clean, found


def decoder_of(names: Iterable[str]) -> tuple[str, str]:
    """Where the decoder lies: the prefix of its names (``model.``) and that of its numbered layers (``model.layers.``).

    The first is what its embedding and its layers share; of lists that share as much, the layers are the one with most
    tensors. In a model that also sees or hears it is the language part's.
    """
    names = [name for name in names if not sees_or_hears(name)]
    stacks = Counter(found.group(1) for name in names if (found := re.match(r"(|.*?\.)\d+\.", name)))
    tables = [name for name in names if layer_of(name) < 0 and module_of(name) in EMBEDDINGS]
    shared = [(_common(table, stack), stack) for table in tables for stack in sorted(stacks)]
    return max(shared, key=lambda pair: (len(pair[0]), stacks[pair[1]]), default=("", ""))


def _common(a: str, b: str) -> str:
    prefix = os.path.commonprefix([a, b])
    return prefix[: prefix.rfind(".") + 1]


def embedding_of(names: Iterable[str]) -> str | None:
    """The table of the tokens, or None."""
    tables = (name for name in names if layer_of(name) < 0 and module_of(name) in EMBEDDINGS)
    return next((name for name in tables if extra(name, None) is None), None)


def head_of(names: Iterable[str]) -> str | None:
    """The matrix of the output head, or None."""
    return next((name for name in names if _of_head(name) and not name.endswith("bias")), None)


def _of_head(name: str) -> bool:
    """Whether a tensor is of the output head, not of one that predicts further tokens or a value."""
    return layer_of(name) < 0 and module_of(name) in HEADS and extra(name, None) is None


def key_of(name: str, place: str) -> str:
    """A name that models of one architecture share wherever the decoder lies in them: below its place, or of a head."""
    if _of_head(name):
        return ".".join(name.split(".")[-2:])
    return name.removeprefix(place)


def listed(names: list[str]) -> str:
    """The first three of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
