"""Overlap of the subspaces that the activations of two sets of prompts span (claim C4)."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.activations import capture
from helpers.data.rows import disjoint_rows, evaluation_rows, halves_by_topic
from helpers.memory import enough_to
from helpers.studies.settings import Study
from helpers.subspaces import decompose, mode_subspace_overlap

PAIRS = {  # name of a pair of prompt sets -> the sets, each of which spans one subspace per layer
    "useful-harmful": ("useful", "harmful-a"),
    "benign-harmful": ("benign", "harmful-matched"),
    "harmful-harmful": ("harmful-topics-1", "harmful-topics-2"),
    "harmful-toxic": ("harmful-a", "toxic"),
    "harmful-ceiling": ("harmful-a", "harmful-b"),
    "useful-ceiling": ("useful", "useful-b"),
}
MATCHED = {"harmful": "harmful-matched", "benign": "benign"}  # sets of one form
TOPICS = {
    "h": "harmful-topics-1",
    "b": "benign-topics-1",
    "c": "benign-topics-2",
}  # sets of one form without a common topic
CROSSED = (  # pairs of halves of these sets: within a set, and across
    ("harmful-harmful", ("harmful-1", "harmful-2")),
    ("benign-benign", ("benign-1", "benign-2")),
    ("harmful-benign", ("harmful-1", "benign-1")),
    ("harmful-benign", ("harmful-2", "benign-2")),
    ("harmful-topics", ("h-1", "h-2")),
    ("benign-topics", ("b-1", "b-2")),
    ("benign-topics", ("c-1", "c-2")),
    ("harmful-benign-topics", ("h-1", "b-1")),
    ("harmful-benign-topics", ("h-2", "b-2")),
    ("benign-benign-topics", ("b-1", "c-1")),
    ("benign-benign-topics", ("b-2", "c-2")),
)


def prompt_sets(study: Study, seed: int) -> dict[str, list[str]]:
    """The prompt sets of PAIRS, all of (about) the size the study asks for, from held-out prompts.

    ``harmful-a``/``-b`` are two halves of one draw. ``harmful-topics-1``/``-2`` are two harmful sets that share no
    topic: in the embedded study halves by topic, else two data sets. ``benign`` and ``harmful-matched`` have one form.
    ``benign-topics-1``/``-2``, in the embedded study alone, are benign requests that share no topic.
    """
    n, chosen = study.activation_overlap.prompts, study.activation_overlap.sources
    if chosen is None:
        sizes = {"utility": 2 * n, "harm": 2 * n, "benign": 3 * n}
        parts = disjoint_rows(study, sizes, seed)
        useful, harmful, benign = (part["prompt"].tolist() for part in parts.values())
        first, second = (half["prompt"].tolist() for half in halves_by_topic(parts["harm"]))
        topics = [half["prompt"].tolist() for half in halves_by_topic(parts["benign"].iloc[n:])]
        matched, benign = harmful[:n], benign[:n]
    else:
        harmful, useful = _prompts(study, chosen.harmful, 2 * n, seed), _prompts(study, chosen.useful, 2 * n, seed)
        first, second = harmful[:n], _prompts(study, chosen.other_harmful, n, seed)
        m = study.activation_overlap.matched_prompts or n
        matched, benign = (_prompts(study, s, m, seed) for s in (chosen.matched_harmful, chosen.matched_benign))
    if chosen is None:
        others = {f"benign-topics-{i}": prompts for i, prompts in enumerate(topics, start=1)}
    else:
        others = {"toxic": _prompts(study, chosen.toxic, n, seed)} if chosen.toxic else {}
    return {
        "useful": useful[:n],
        "useful-b": useful[n:],
        "benign": benign,
        "harmful-matched": matched,
        "harmful-a": harmful[:n],
        "harmful-b": harmful[n:],
        "harmful-topics-1": first,
        "harmful-topics-2": second,
    } | others


def _prompts(study: Study, source: str, n: int, seed: int) -> list[str]:
    return evaluation_rows(study, source, n, seed)["prompt"].tolist()


def set_activations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sets: dict[str, list[str]], study: Study
) -> dict[str, Tensor]:
    """Activations of each prompt set, (layers, prompts, width), at the study's token position.

    Raises StudyError where a prompt is too short to have that position.
    """
    grid = study.activation_overlap
    how = {"position": grid.position, "style": grid.style, "autocast": study.evaluation.autocast}
    return {name: capture(model, tokenizer, prompts, **how) for name, prompts in sets.items()}


def in_band(layer: int, depth: int, study: Study) -> bool:
    """Whether the paper's band holds a layer of a model with ``depth`` blocks.

    The band's shares are of the number of ``hidden_states``, one more than blocks, as the released code counts them.
    """
    low, high = (int(share * (depth + 1)) for share in study.activation_overlap.band)
    return low <= layer < high


def activation_overlaps(sets: dict[str, Tensor], study: Study) -> pd.DataFrame:
    """MSO of every pair of PAIRS at every layer and energy fraction, with the random baseline (claim C4).

    ``sets`` maps a prompt set to its activations (layers, prompts, width); matrices are (width, prompts), uncentred as
    the paper's unless the study says ``centred``. Layers are numbered as transformers' ``hidden_states``: 1 is the
    output of the first block.
    """
    pairs = [(pair, names) for pair, names in PAIRS.items() if set(names) <= set(sets)]
    if study.activation_overlap.centred:
        sets = {name: _centred(activations) for name, activations in sets.items()}
    return _overlaps(sets, pairs, study)


def matched_overlaps(sets: dict[str, Tensor], study: Study) -> pd.DataFrame:
    """MSO within and across harmful and benign requests of one form, centred (table ``matched_activations``).

    Beside it, where there are topics, that of harmful and benign requests of some topics, and of benign requests of
    different topics: what any difference of topics gives. Each set is cut into two halves, and each half's mean is
    taken off, so that what is compared is how the prompts of a set differ among themselves and not where the set lies;
    ``probe_accuracies`` says whether that tells them apart.
    """
    halves = {
        f"{name}-{part}": _centred(sets[key][:, start::2])  # (layers, prompts / 2, width)
        for name, key in (MATCHED | TOPICS).items()
        if key in sets
        for part, start in (("1", 0), ("2", 1))
    }
    return _overlaps(halves, [(pair, names) for pair, names in CROSSED if set(names) <= set(halves)], study)


def probe_accuracies(sets: dict[str, Tensor], study: Study) -> pd.DataFrame:
    """Held-out accuracy of a linear probe for harmful against benign requests of one form, by layer (table ``probe``).

    Logistic regression on standardised activations, fitted on one half of each set and scored on the other, both ways.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    harmful, benign = (sets[key].numpy() for key in MATCHED.values())  # (layers, prompts, width) each
    labels = np.repeat([1, 0], [harmful.shape[1], benign.shape[1]])
    rows = []
    for layer, x in enumerate(np.concatenate([harmful, benign], axis=1), start=1):
        scores = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), x, labels, cv=2)
        where = {"layer": layer, "in_band": in_band(layer, len(harmful), study)}
        rows.append(where | {"prompts": len(labels), "accuracy": float(scores.mean())})
    return pd.DataFrame(rows)


def _centred(activations: Tensor) -> Tensor:
    return activations - activations.mean(dim=1, keepdim=True)


def _overlaps(sets: dict[str, Tensor], pairs: Iterable[tuple[str, tuple[str, str]]], study: Study) -> pd.DataFrame:
    depth, rows = next(iter(sets.values())).shape[0], []
    for layer in range(1, depth + 1):
        with enough_to(f"decompose the activations of layer {layer}"):
            modes = {name: decompose(a[layer - 1].T) for name, a in sets.items()}
        where = {"layer": layer, "in_band": in_band(layer, depth, study)}
        for pair, (a, b) in pairs:
            for eta in study.activation_overlap.energy_fractions:
                rows.append({**where, "pair": pair, "eta": eta, **vars(mode_subspace_overlap(modes[a], modes[b], eta))})
    return pd.DataFrame(rows)
