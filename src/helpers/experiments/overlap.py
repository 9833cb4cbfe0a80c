"""Overlap of the subspaces that the activations of two sets of prompts span (claim C4)."""

import pandas as pd
from torch import Tensor

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


def prompt_sets(study: Study, seed: int) -> dict[str, list[str]]:
    """The prompt sets of PAIRS, all of (about) the size the study asks for, from held-out prompts.

    ``harmful-a``/``-b`` are two halves of one draw. ``harmful-topics-1``/``-2`` are two harmful sets that share no
    topic: in the embedded study halves by topic, else two data sets. ``benign`` and ``harmful-matched`` have one form.
    """
    n, chosen = study.activation_overlap.prompts, study.activation_overlap.sources
    if chosen is None:
        sizes = {"utility": 2 * n, "harm": 2 * n, "benign": n}
        parts = disjoint_rows(study, sizes, seed)
        useful, harmful, benign = (part["prompt"].tolist() for part in parts.values())
        first, second = (half["prompt"].tolist() for half in halves_by_topic(parts["harm"]))
        matched = harmful[:n]
    else:
        harmful, useful = _prompts(study, chosen.harmful, 2 * n, seed), _prompts(study, chosen.useful, 2 * n, seed)
        first, second = harmful[:n], _prompts(study, chosen.other_harmful, n, seed)
        m = study.activation_overlap.matched_prompts or n
        matched, benign = (_prompts(study, s, m, seed) for s in (chosen.matched_harmful, chosen.matched_benign))
    toxic = {"toxic": _prompts(study, chosen.toxic, n, seed)} if chosen is not None and chosen.toxic else {}
    return {
        "useful": useful[:n],
        "useful-b": useful[n:],
        "benign": benign,
        "harmful-matched": matched,
        "harmful-a": harmful[:n],
        "harmful-b": harmful[n:],
        "harmful-topics-1": first,
        "harmful-topics-2": second,
    } | toxic


def _prompts(study: Study, source: str, n: int, seed: int) -> list[str]:
    return evaluation_rows(study, source, n, seed)["prompt"].tolist()


def activation_overlaps(sets: dict[str, Tensor], study: Study) -> pd.DataFrame:
    """MSO of every pair of PAIRS at every layer and energy fraction, with the random baseline (claim C4).

    ``sets`` maps a prompt set to its activations (layers, prompts, width); matrices are (width, prompts), uncentred.
    Layers are numbered as transformers' ``hidden_states``: 1 is the output of the first block.
    """
    depth = next(iter(sets.values())).shape[0]
    present = {pair: names for pair, names in PAIRS.items() if set(names) <= set(sets)}
    low, high = (int(share * depth) for share in study.activation_overlap.band)
    rows = []
    for layer in range(1, depth + 1):
        with enough_to(f"decompose the activations of layer {layer}"):
            modes = {name: decompose(a[layer - 1].T) for name, a in sets.items()}
        for pair, (a, b) in present.items():
            for eta in study.activation_overlap.energy_fractions:
                overlap = mode_subspace_overlap(modes[a], modes[b], eta)
                rows.append({"layer": layer, "in_band": low <= layer < high, "pair": pair, "eta": eta, **vars(overlap)})
    return pd.DataFrame(rows)
