"""Checkpoints of one architecture brought to the same tensors: names, heads, adapters, and what only some hold."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, NamedTuple

from helpers.errors import StudyError, TensorMismatch
from helpers.weights.adapters import Adapted, unties
from helpers.weights.checkpoints import Checkpoint, Shape, Updates, matched
from helpers.weights.names import embedding_of, extra, head_of, listed

Vocabulary = Literal["exact", "intersection"]


class Agreed(NamedTuple):
    """Updates whose checkpoints hold the same tensors, and what it took."""

    updates: Updates
    shapes: dict[str, Shape]
    left_out: list[str]  # sentences
    remarks: list[str]  # sentences


def agree(updates: Updates, vocabulary: Vocabulary = "exact") -> Agreed:
    """The updates with LoRA adapters upon their starts, every tensor under its name in the first full model.

    What a model of the same architecture may lack, a layer that predicts further tokens or a value head, is left out;
    a head that some have and others tie to their embedding is the embedding there. Raises TensorMismatch or StudyError.
    """
    starts_first = [c for tuned, start in updates.values() for c in (start, tuned)]
    full = [c for c in dict.fromkeys(starts_first) if c.adapter is None]
    adapters = [c for c in dict.fromkeys(starts_first) if c.adapter is not None]
    if not full:
        raise StudyError(f"{adapters[0].folder} is a LoRA adapter: give the model that it stands on too")
    views, extras = _alike(full, any(map(unties, adapters)))
    for adapter in adapters:
        _stand(adapter, updates, views)
    shapes = matched(views.values(), vocabulary)
    left_out = [*extras, *_of_checkpoints(views), *_rows(views, shapes)]
    remarks = list(dict.fromkeys(remark for view in views.values() for remark in view.remarks))
    return Agreed({label: (views[a], views[b]) for label, (a, b) in updates.items()}, shapes, left_out, remarks)


def _alike(full: list[Checkpoint], head_wanted: bool) -> tuple[dict[Checkpoint, Checkpoint], list[str]]:
    """Each checkpoint under the names of the first, without what only some hold; and what that is, in sentences."""
    keys, names = {c: c.keys() for c in full}, {}
    for held in keys.values():
        taken = set(names.values())
        names |= {key: name for key, name in held.items() if key not in names and name not in taken}
    if head_wanted or len({_has_head(held) for held in keys.values()}) == 2:
        for c, held in keys.items():
            if not _has_head(held):
                held[_head_key(names)] = _tied(c)
    common = set.intersection(*(set(held) for held in keys.values()))
    dropped = defaultdict(list)
    for c, held in keys.items():
        layers = c.config.get("num_hidden_layers") or (c.config.get("text_config") or {}).get("num_hidden_layers")
        for key in set(held) - common:
            if kind := extra(held[key], layers):
                dropped[f"{kind} in {c.folder}, which not all models have"].append(held.pop(key))
    views = {c: c.renamed({names.get(key, key): name for key, name in held.items()}) for c, held in keys.items()}
    for view in views.values():
        view.place = full[0].place
    return views, [f"not read: {_counted(names)} of {kind}" for kind, names in dropped.items()]


def _has_head(keys: dict[str, str]) -> bool:
    return head_of(keys) is not None


def _head_key(keys: Iterable[str]) -> str:
    return head_of(keys) or "lm_head.weight"


def _tied(checkpoint: Checkpoint) -> str:
    """The embedding of a checkpoint without a head, which is its head. Raises TensorMismatch if it is not."""
    embedding, ties = embedding_of(checkpoint.names), checkpoint.copied or _ties(checkpoint.config)
    if embedding is None or not ties:
        raise TensorMismatch(
            f"{checkpoint.folder} holds no output head, others of these models do, and its config.json does not tie it "
            "to the embedding: save that model with its head, or set tie_word_embeddings to true if they are one"
        )
    return embedding


def _ties(config: dict) -> bool:
    """Whether the head is the embedding, by ``config.json``, or where it is silent by the default of its class."""
    for where in (config, config.get("text_config") or {}):
        if where.get("tie_word_embeddings") is not None:
            return bool(where["tie_word_embeddings"])
    from transformers import CONFIG_MAPPING  # here: hardly ever needed, and slow to import

    kind = config.get("model_type")
    return bool(getattr(CONFIG_MAPPING[kind](), "tie_word_embeddings", False)) if kind in CONFIG_MAPPING else False


def _stand(adapter: Checkpoint, updates: Updates, views: dict[Checkpoint, Checkpoint]) -> None:
    """Put an adapter upon the start of its update, which may be an adapter itself. Raises StudyError."""
    if adapter in views:
        return
    starts = list(dict.fromkeys(start for tuned, start in updates.values() if tuned is adapter))
    if len(starts) != 1 or starts[0] is adapter:
        raise StudyError(f"{adapter.folder} is a LoRA adapter: it must be the tuned model of updates from one start")
    if starts[0].adapter is not None:
        _stand(starts[0], updates, views)
    views[adapter] = Adapted(adapter, views[starts[0]])


def _of_checkpoints(views: dict[Checkpoint, Checkpoint]) -> list[str]:
    found = {
        f"not read: {_counted(names)} in {c.folder}: {kind}"
        for c in views.values()
        for kind, names in c.left_out.items()
    }
    return sorted(found)


def _rows(views: dict[Checkpoint, Checkpoint], shapes: dict[str, Shape]) -> list[str]:
    """The rows of embeddings and heads that not all models have, in sentences."""
    found = []
    for view in views.values():
        more = {name: view.shape(name)[0] - shape[0] for name, shape in shapes.items() if view.shape(name) != shape}
        if more:
            rows = f"the last {max(more.values())} rows" if max(more.values()) > 1 else "the last row"
            found.append(f"not read: {rows} of {listed([*more])} in {view.folder}, which not all models have")
    return found


def _counted(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({listed(sorted(names))})"
