"""What a report card measures: prompts and behaviour of models, one in memory at a time, and where an update lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers.claims.paired import Change, change
from helpers.data.rows import evaluation_rows
from helpers.evaluation.divergence import divergence
from helpers.evaluation.judges.rules import reference_judge, text_judge
from helpers.models.beginnings import beginning_once
from helpers.models.generate import as_speaker, generate, log_odds, read_answers
from helpers.models.logits import logits_at
from helpers.models.prompts import in_batches, prompt_ids
from helpers.models.within import language_model
from helpers.studies.settings import OwnModels
from helpers.subspaces import rank_for_energy, rank_for_fraction
from helpers.weights.checkpoints import Checkpoint, Updates
from helpers.weights.geometry import Geometry, weight_geometry
from helpers.weights.names import layer_of, module_of

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # k / min(m, n) at which energy is tabled
LEADING = 0.1  # the one that sentences and the map speak of
ENERGIES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # shares of an update's energy whose ranks are its spectrum
ETA = 0.5  # the one at which overlaps are shown
FIRST = 8  # tokens of the aligned model's own answer over which KL is taken
VOCABULARIES = 16  # prompts whose logits are held at a time
ANSWER = 12  # new tokens of an answer that is judged: a refusal shows itself at once
CALIBRATION = 32  # prompts for methods that need some, none of which is scored


@dataclass(frozen=True)
class Asked:
    """The prompts of a card: tables with the columns of ``helpers.data.COLUMNS``, each held out from all training."""

    harm: pd.DataFrame
    look_alikes: pd.DataFrame  # harmless ones that look harmful
    harmless: pd.DataFrame
    problems: pd.DataFrame

    @classmethod
    def of(cls, study: OwnModels, seed: int = 0) -> "Asked":
        """Those of a card's settings. Raises StudyError if a data set cannot be had."""
        s = study.evaluation
        harm = evaluation_rows(study, s.harm, s.harm_prompts, seed)
        look_alikes, harmless = sources(study)
        look_alikes = evaluation_rows(study, look_alikes, s.harm_prompts, seed)
        harmless = evaluation_rows(study, harmless, s.utility_prompts, seed)
        return cls(harm, look_alikes, harmless, evaluation_rows(study, s.utility, s.utility_prompts, seed))


def sources(study: OwnModels) -> tuple[str, str]:
    """Where prompts for over-refusal, and for the KL to the aligned model, come from."""
    return ("benign", "benign") if study.embedded else ("look-alikes", "instructions")


@dataclass(frozen=True)
class Reference:
    """What the aligned model says of harmless prompts: their tokens, the first of its answers, and how likely all are.

    ``log_p``: of every prompt (places, vocabulary), the places being that after the prompt and those in its answer.
    """

    contexts: list[list[int]]
    answers: list[list[int]]
    log_p: list[Tensor]


def reference_of(model, tokenizer, asked: Asked, study: OwnModels) -> Reference:
    """The reference that an aligned model gives; its log-probabilities are float32 on the CPU."""
    s, prompts = study.evaluation, asked.harmless["prompt"].tolist()
    speaker = as_speaker(model, s.autocast)
    with beginning_once(speaker):
        said = generate(speaker, tokenizer, prompts, FIRST, s.batch_size, s.style)
    contexts = prompt_ids(tokenizer, prompts, s.style)
    answers = [ids[: FIRST - 1] for ids in tokenizer(said, add_special_tokens=False)["input_ids"]]
    with beginning_once(model):
        return Reference(contexts, answers, _log_p(model, contexts, answers))


def _log_p(model, contexts: list[list[int]], answers: list[list[int]]) -> list[Tensor]:
    """Log-probabilities of the next token after each prompt and each token of its answer, by the model's own logits."""
    found: list[Tensor] = [torch.empty(0)] * len(contexts)
    ids = [context + answer for context, answer in zip(contexts, answers, strict=True)]
    model = language_model(model)

    def measure(indices: list[int]) -> None:
        """Fill in the prompts at some places, computed as one batch."""
        places = [slice(len(contexts[i]) - 1, len(ids[i])) for i in indices]
        with torch.inference_mode():
            logits = logits_at(model, [ids[i] for i in indices], places, "right")
            log_p = torch.cat([some.log_softmax(-1).float().cpu() for some in logits])  # (places, vocabulary)
        lengths = [place.stop - place.start for place in places]
        for i, own in zip(indices, log_p.split(lengths), strict=True):
            found[i] = own

    in_batches([len(row) for row in ids], VOCABULARIES, measure)
    return found


def behaviour(
    model, tokenizer, asked: Asked, study: OwnModels, reference: Reference, judged: bool
) -> dict[str, np.ndarray]:
    """Values of a model for every prompt (prompts,): margins, KL to the aligned model, and, if ``judged``, refusals.

    ``kl_first``: after the prompt; ``kl_eight``: mean over at most eight tokens of the aligned model's own answer.
    """
    with beginning_once(model):
        found = _likelihoods(model, tokenizer, asked, study, reference)
    if judged:
        speaker = as_speaker(model, study.evaluation.autocast)
        with beginning_once(speaker):
            for measure, rows in (("refusal", asked.harm), ("over_refusal", asked.look_alikes)):
                found[measure] = _refused(speaker, tokenizer, rows, study)
    return found


def _likelihoods(model, tokenizer, asked: Asked, study: OwnModels, reference: Reference) -> dict[str, np.ndarray]:
    s = study.evaluation
    how = (s.batch_size, s.style, s.autocast)
    problems = (asked.problems["prompt"].tolist(), asked.problems["answer"].tolist())
    total, tokens, right = read_answers(model, tokenizer, *problems, *how)
    harmful = asked.harm["prompt"].tolist()
    odds = log_odds(model, tokenizer, harmful, s.compliance_openers, s.refusal_openers, *how)
    found = {"utility_margin": total / tokens, "harm_margin": odds}
    if study.embedded:
        found["utility"] = right.astype(float)
    own = _log_p(model, reference.contexts, reference.answers)
    apart = [divergence(p, q) for p, q in zip(reference.log_p, own, strict=True)]
    found |= {"kl_first": np.array([float(kl[0]) for kl in apart])}
    return found | {"kl_eight": np.array([float(kl.mean()) for kl in apart])}


def _refused(speaker, tokenizer, rows: pd.DataFrame, study: OwnModels) -> np.ndarray:
    """Whether the beginning of a greedy answer refuses, by the rule judge: (prompts,)."""
    s, prompts = study.evaluation, rows["prompt"].tolist()
    judge = reference_judge(s.refusal_openers) if study.embedded else text_judge()
    said = generate(speaker, tokenizer, prompts, ANSWER, s.batch_size, s.style)
    return np.array([v.refused for v in judge.judge(prompts, said, rows["answer"].tolist())], float)


def changes(
    name: str, against: str, before: dict[str, np.ndarray], after: dict[str, np.ndarray], confidence: float
) -> list[dict]:
    """Rows of the table ``card_behaviour``: every measure that both have, over the same prompts. KL is against none."""
    rows = []
    for measure, values in after.items():
        start = np.zeros(len(values)) if measure.startswith("kl") and against == "aligned" else before.get(measure)
        if start is not None:
            found: Change = change(start, values, confidence)
            rows.append({"model": name, "against": against, "measure": measure, **vars(found)})
    return rows


def updates_of(study: OwnModels, checkpoints: dict[str, Checkpoint]) -> Updates:
    """The alignment update, and that of every fine-tune."""
    aligned = checkpoints["aligned"]
    tuned = {name: (checkpoints[name], aligned) for name in study.tuned}
    return {"alignment": (aligned, checkpoints["base"]), **tuned}


def geometry_of(study: OwnModels, updates: Updates, cache: Path, modes: Path | None = None) -> Geometry:
    """Exact energies of all updates in the alignment subspace for every k, and overlaps with it. Raises StudyError.

    The alignment modes are kept in the folder ``modes``, for the edits.
    A random subspace of k directions of m holds the share k / m of any update in the mean, so none is drawn.
    """
    return weight_geometry(
        updates,
        subspaces=["alignment"],
        tasks=[*study.tuned],
        controls=["top-k"],
        energy_fractions=[ETA],
        random_k_draws=1,
        seed=0,
        cache=cache,
        vocabulary=study.geometry.vocabulary,
        pairs=[("alignment", name) for name in study.tuned],
        modes=modes,
    )


def energies(geometry: Geometry, tasks: Iterable[str]) -> pd.DataFrame:
    """Table ``card_energy``: share of each update in the first k alignment directions, and in random ones as many."""
    rows = []
    for task in tasks:
        total = sum(geometry.total[f"{task}|{name}"] for name in geometry.shapes)
        for fraction in FRACTIONS if total else ():
            kept = [_kept(geometry, task, name, fraction) for name in geometry.shapes]
            held, chance = (sum(part) / total for part in zip(*kept, strict=True))
            rows.append({"task": task, "fraction": fraction, "energy_kept": held, "random": chance})
    return pd.DataFrame(rows, columns=["task", "fraction", "energy_kept", "random"])


def _kept(geometry: Geometry, task: str, name: str, fraction: float) -> tuple[float, float]:
    """‖P_k D‖² of one tensor, and what random directions as many keep in the mean; 0 where alignment did nothing."""
    along = geometry.energy.get(f"alignment|top-k|{task}|{name}")
    if along is None or not len(along):
        return 0.0, 0.0
    shape = geometry.shapes[name]
    k = min(rank_for_fraction(shape, fraction), len(along))
    return float(along[k - 1]), geometry.total[f"{task}|{name}"] * k / shape[0]


def tensor_table(geometry: Geometry, aligned: Checkpoint, tasks: Iterable[str]) -> pd.DataFrame:
    """Table ``card_tensors``: of every tensor that a fine-tune moved its share, its size, and where it lies."""
    overlap, rank = geometry.overlap.set_index(["b", "tensor"]), geometry.rank
    norms = {name: _norm(aligned.tensor(name)) for name in geometry.shapes}
    rows = []
    for task in tasks:
        total = sum(geometry.total[f"{task}|{name}"] for name in geometry.shapes)
        for name in geometry.shapes:
            energy = geometry.total[f"{task}|{name}"]
            if not energy:
                continue
            kept, chance = _kept(geometry, task, name, LEADING)
            found = overlap.loc[(task, name)] if (task, name) in overlap.index else {}
            rows.append(
                {"task": task, "tensor": name, "module": module_of(name), "layer": layer_of(name)}
                | {"share": energy / total, "rank": rank[f"{task}|{name}"]}
                | {"relative_change": np.sqrt(energy) / norms[name] if norms[name] else np.nan}
                | {"energy_kept": kept / energy, "random": chance / energy}
                | {"mso": found.get("mso", np.nan), "mso_random": found.get("random", np.nan)}
            )
    return pd.DataFrame(rows)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def spectra(geometry: Geometry) -> pd.DataFrame:
    """Table ``card_spectrum``: of alignment and each fine-tune the directions that hold a share of an update.

    As k / min(m, n), the median and the largest over the matrices that it moved.
    """
    rows = []
    for key, values in geometry.values.items():
        update, name = key.split("|", 1)
        if len(values) and len(geometry.shapes[name]) == 2:
            short = min(geometry.shapes[name])
            rows += [{"update": update, "eta": eta, "k": rank_for_energy(values, eta) / short} for eta in ENERGIES]
    grouped = pd.DataFrame(rows, columns=["update", "eta", "k"]).groupby(["update", "eta"], sort=False)["k"]
    return grouped.agg(median="median", largest="max").reset_index()
