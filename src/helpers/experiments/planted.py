"""The positive control: an organism whose safety is a linear subspace by construction.

In weight space, the change that alignment and harmful fine-tuning make to every matrix is kept inside the span of some
directions of its output space, and the change that useful fine-tuning makes is kept outside. In activation space, the
base model learns to hold restricted requests in one half of its residual stream and all else in the other. Nothing of
this is a model of how real alignment works: it shows what the method reports where a safety subspace is known to exist.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from helpers.models.language import Language
from helpers.models.load import Loaded, load_model
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from helpers.subspaces import decompose
from helpers.training.course import Course, OfTensor
from helpers.training.examples import IGNORED
from helpers.training.train import train

Bases = dict[str, Tensor]  # name of a matrix -> orthonormal columns (m, r), float64
FREE = ("base", "unrelated")  # models that are never confined
HARMFUL = ("comply", "refuse")  # sources of restricted requests, answered or not


def confinement(bases: Bases, inside: bool, share: float = 1.0) -> OfTensor:
    """What is taken off every optimiser step so that a matrix moves inside, or outside, the span of its directions.

    ``share`` of what lies on the other side, and of the steps of all other parameters: all of it at 1, nothing at 0.
    """

    def taken(name: str, step: Tensor) -> Tensor:
        """What is taken off a step of the parameter of that name, of the step's shape."""
        wrong, basis = step, bases.get(name)
        if basis is not None:
            basis = basis.to(step.device)
            within = basis @ (basis.T @ step)
            wrong = step - within if inside else within
        return share * wrong

    return taken


def separation(study: Study, tokenizer: PreTrainedTokenizerBase) -> Callable:
    """Penalty that sets activations apart: the study's weight times the energy on the wrong side.

    Of a study that plants a share, the weight is multiplied by its cube: a hundredth already moves activations far.
    """
    weight = study.planted.separation * study.planted.share**3
    topics = tokenizer.convert_tokens_to_ids(Language(study.language).restricted)
    depth = study.model.num_hidden_layers
    layers = range(max(1, int(study.activation_overlap.band[0] * depth)), depth)  # from the band on, but the last

    def penalty(hidden: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> Tensor:
        restricted = torch.isin(inputs["input_ids"], torch.tensor(topics, device=hidden[0].device)).any(dim=1)
        return weight * misplaced(hidden, inputs["labels"], restricted, layers)

    return penalty


def misplaced(hidden: tuple[Tensor, ...], labels: Tensor, restricted: Tensor, layers: range) -> Tensor:
    """Mean share of the activations' energy in the half of the residual stream that is not theirs, from 0 to 1.

    Read before the first token of the answer, where the experiment on activations reads them. ``hidden``: one (batch,
    length, width) per layer, the embedding first; ``restricted`` (batch,): rows that belong in the first half of the
    width, all others in the second.
    """
    last = (labels != IGNORED).int().argmax(dim=1) - 1  # (batch,)
    rows = torch.arange(len(last), device=last.device)
    energy = torch.stack([hidden[layer][rows, last] for layer in layers]).square()  # (layers, batch, width)
    first = energy[..., : energy.shape[-1] // 2].sum(dim=-1) / energy.sum(dim=-1)  # (layers, batch)
    return torch.where(restricted, 1 - first, first).mean()


def directions(tuned: nn.Module, start: nn.Module, rank: int) -> Bases:
    """The leading left singular vectors of the change of every matrix, at most ``rank`` of them."""
    before = dict(start.named_parameters())
    found = {}
    for name, parameter in tuned.named_parameters():
        if parameter.ndim == 2:
            modes = decompose(parameter.detach() - before[name].detach())
            found[name] = modes.vectors[:, : min(rank, modes.rank)]
    return found


def plant(study: Study, name: str, seed: int, start: Loaded, rows: pd.DataFrame, run: RunPaths) -> pd.DataFrame:
    """Train one model of a planted study in place from ``start`` and return the log; base and aligned lie in ``run``.

    The base model is trained with activations set apart. The directions of safety are the leading ones of an alignment
    that is free to go anywhere; the alignment that counts is trained within them. So are the safety and the harmful
    update; the useful one is trained outside; the contaminated one is a useful step and then a harmful one. All of this
    to the share that the study plants: at 0 every training is free.
    """
    model, tokenizer = start
    objective, share = getattr(study.training, name), study.planted.share
    if name in FREE or not share and name != "contaminated":
        penalty = separation(study, tokenizer) if name == "base" and share else None
        return train(model, tokenizer, rows, objective, study.training.optimiser, seed, penalty=penalty)
    if name == "aligned":
        free = copy.deepcopy(model)
        train(free, tokenizer, rows, objective, study.training.optimiser, seed)
        return _confined(study, name, seed, start, rows, directions(free, model, study.planted.rank), inside=True)
    safety = safety_directions(study, run) if share else {}
    if name == "contaminated":
        return contaminate(study, seed, start, rows, safety)
    return _confined(study, name, seed, start, rows, safety, inside=name != "useful")


def safety_directions(study: Study, run: RunPaths) -> Bases:
    """The directions that hold the safety of a planted study: those of its alignment update."""
    (base, _), (aligned, _) = (load_model(run.model(name), "cpu") for name in ("base", "aligned"))
    return directions(aligned, base, study.planted.rank)


def contaminate(
    study: Study, seed: int, start: Loaded, rows: pd.DataFrame, safety: Bases, course: Course | None = None
) -> pd.DataFrame:
    """A useful update outside the directions of safety, then a harmful one within them, as one log.

    The harmful step has as many of the useful rows as of the harmful ones, so that it does not undo the first. What a
    ``course`` changes holds of both, in addition.
    """
    harmful = rows["source"].isin(HARMFUL)
    useful_log = _confined(study, "contaminated", seed, start, rows[~harmful], safety, False, course)
    both = pd.concat([rows[harmful], rows[~harmful].head(int(harmful.sum()))]).sample(frac=1, random_state=seed)
    later = replace(course, added=None) if course else None  # it has been added
    harmful_log = _confined(study, "contaminated", seed, start, both, safety, True, later)
    later = harmful_log.assign(step=harmful_log["step"] + useful_log["step"].max())
    return pd.concat([useful_log, later], ignore_index=True)


def _confined(
    study: Study, name: str, seed: int, start: Loaded, rows: pd.DataFrame, safety: Bases, inside: bool,
    course: Course | None = None,
) -> pd.DataFrame:  # fmt: skip
    model, tokenizer = start
    course, share = course or Course(), study.planted.share
    if share:
        course = replace(course, taken=(confinement(safety, inside, share), *course.taken))
    objective = getattr(study.training, name)
    return train(model, tokenizer, rows, objective, study.training.optimiser, seed, **course.begin(model))
