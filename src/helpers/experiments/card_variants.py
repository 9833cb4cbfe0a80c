"""The models that a report card makes to compare with: edits of a fine-tune, and updates of its size that mean nothing.

Each is written to a folder like a user's own, in the stored type, so what is measured is what would be written.
"""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from helpers.data.rows import evaluation_rows
from helpers.draws import generator_for
from helpers.errors import StudyError
from helpers.experiments.card import CALIBRATION, sources, updates_of
from helpers.methods.context import Context, Weights
from helpers.methods.door import Edit, edit_named
from helpers.studies.doors import tenants
from helpers.studies.settings import OwnModels
from helpers.studies.values import Style
from helpers.subspaces import Modes
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint, update
from helpers.weights.kept_modes import kept_modes
from helpers.weights.matching import agree
from helpers.weights.written import write_model, write_models

UNRELATED, RANDOM = "unrelated", "random"
LARGEST = 2**28  # numbers of a tensor that is edited: in float64 2 GiB, of which an edit takes several
Variant = tuple[str, float]  # an edit and the place of its dial


class CardContext(Context):
    """What edits may ask for where there are a base, an aligned and some fine-tuned models, and no training of a study.

    Calibration prompts come after those that the card scores. Modes of one tensor are kept until another is asked for.
    """

    def __init__(
        self, study: OwnModels, checkpoints: dict[str, Checkpoint], seed: int = 0, decomposed: Path | None = None
    ):
        agreed = agree(updates_of(study, checkpoints), study.geometry.vocabulary)
        self.study, self.seed, self.updates = study, seed, agreed.updates  # under common names, adapters on their start
        self.decomposed = decomposed  # a folder with the modes of what has been decomposed before
        aligned, base = self.updates["alignment"]
        self.checkpoints = {"base": base, "aligned": aligned} | {task: self.updates[task][0] for task in study.tuned}
        self._shapes, self._kept, self._used, self._modes = agreed.shapes, {}, set(), {}
        self.names = [*self._shapes]

    def weights(self, tensor: str, task: str) -> Weights:
        """A tensor of the base, the aligned and one fine-tuned model, with the factors of an adapter's update."""
        tuned, start = self.updates[task]
        return replace(super().weights(tensor, task), factors=tuned.factors(start, tensor))

    def modes(self, label: str, tensor: str) -> Modes:
        """Left singular vectors and singular values of an update; of rank 0 where nothing changed."""
        return self._decomposed(label, tensor, math.prod(self._shapes[tensor]))

    def leading(self, label: str, tensor: str, k: int) -> Tensor:
        """The first k left singular vectors of an update, (m, k), or as many as its rank; no more are made."""
        modes = self._decomposed(label, tensor, k)
        return modes.vectors[:, : min(k, modes.rank)]

    def _decomposed(self, label: str, tensor: str, most: int) -> Modes:
        if label not in self.updates:
            raise StudyError(f"a report card has no update {label!r}, only {', '.join(self.updates)}")
        made, found = self._modes.get((label, tensor), (0, None))
        if found is None or made < most:
            self._modes = {key: one for key, one in self._modes.items() if key[1] == tensor}
            pair = self.updates[label]
            found = self.decomposed and kept_modes(self.decomposed, label, tensor, pair, most)
            made, found = (most, found) if found else (math.inf, super().modes(label, tensor))
            self._modes[label, tensor] = made, found
        return found

    def calibration(self, kind: str) -> pd.DataFrame:
        """Prompts that are not scored: ``harmful``, ``useful``, or harmless ones for whatever else is asked for."""
        s = self.study.evaluation
        known = {"harmful": (s.harm, s.harm_prompts), "useful": (s.utility, s.utility_prompts)}
        source, scored = known.get(kind, (sources(self.study)[1], max(s.harm_prompts, s.utility_prompts)))
        rows = evaluation_rows(self.study, source, scored + CALIBRATION, self.seed)
        return rows[scored:].reset_index(drop=True)

    @property
    def _style(self) -> Style:
        return self.study.evaluation.style

    def answers(self, kind: str, name: str = "aligned"):
        """Not in a report card, which knows no loss. Raises StudyError."""
        raise StudyError(f"gradients on {kind} need the training settings of a study, which a report card has not")

    @cached_property
    def moved(self) -> dict[str, set[str]]:
        """Names of the tensors that each fine-tune changed."""
        pairs = {name: self.updates[name] for name in self.study.tuned}
        return {task: {name for name in self.names if _differ(*pair, name)} for task, pair in pairs.items()}

    def left(self, task: str) -> list[str]:
        """Tensors that a fine-tune changed and no edit touches: too large, or with rows that not all models have."""
        shapes, three = self._shapes, [self.checkpoints[name] for name in ("base", "aligned", task)]
        moved = sorted(self.moved[task])
        return self.once(
            ("left", task),
            lambda: [n for n in moved if math.prod(shapes[n]) > LARGEST or any(c.shape(n) != shapes[n] for c in three)],
        )

    def edited(self, task: str, edit: Edit, dial: float, tensor: str) -> Tensor | None:
        """A tensor of a fine-tune after an edit; None where it stays. Where fine-tuning changed nothing, it stays.

        An attack may change what fine-tuning did not, so it is asked about every tensor.
        """
        if tensor not in self._shapes or tensor in self.left(task):
            return None
        if edit.kind == "defence" and tensor not in self.moved[task]:
            return None
        return edit.edited(self.weights(tensor, task), self, dial)


def _differ(tuned: Checkpoint, start: Checkpoint, name: str) -> bool:
    if isinstance(tuned, Adapted):
        return name in tuned.low_rank or name in tuned.whole
    a, b = tuned.tensor(name), start.tensor(name)
    return a.shape != b.shape or not torch.equal(a, b)


def variants_of(study: OwnModels) -> dict[Variant, Edit]:
    """The edits of a card at every place of their dials for models of an invented language, else at the middle one."""
    found = {}
    for name in tenants("methods", "edit"):
        edit = edit_named(name)
        if not edit.card:
            continue
        dials = edit.dials if study.embedded else edit.dials[len(edit.dials) // 2 :][:1]
        found |= {(name, dial): edit for dial in dials}
    return found


def write_variants(context: CardContext, task: str, variants: dict[Variant, Edit], scratch: Path) -> dict:
    """Write all edits of a fine-tune below ``scratch``; returns folders by variant, and what went wrong by edit.

    An edit that needs what a card has not is left out, with its own sentence as the reason.
    """
    failed: dict[str, str] = {}
    tuned = context.checkpoints[task]
    folders = {variant: scratch / f"{variant[0]}-{variant[1]:g}" for variant in variants}

    def edited(key: str, tensor: str) -> Tensor | None:
        """A tensor of one variant; None, which leaves it as it is, once that edit has failed."""
        variant = keys[key]
        if variant[0] in failed:
            return None
        try:
            return whole(tuned, tensor, context.edited(task, variants[variant], variant[1], tensor))
        except StudyError as error:
            failed[variant[0]] = str(error)
            return None

    keys = {str(place): variant for place, variant in enumerate(folders)}
    unrounded = isinstance(tuned, Adapted)  # as an adapter is measured, and as its edit would be written
    write_models(layout_of(tuned), {key: folders[variant] for key, variant in keys.items()}, edited, unrounded)
    return {"folders": {v: f for v, f in folders.items() if v[0] not in failed}, "failed": failed}


def layout_of(model: Checkpoint) -> Checkpoint:
    """The checkpoint whose files a whole model takes after: of an adapter what it stands on."""
    return layout_of(model.start) if isinstance(model, Adapted) else model


def whole(model: Checkpoint, name: str, edited: Tensor | None = None) -> Tensor | None:
    """A tensor of a model that is written in full: the edited one, else the model's own where the files have another.

    Raises StudyError for an adapter that gives a tensor another shape than what it stands on has.
    """
    if edited is not None or not isinstance(model, Adapted):
        return edited
    if model.shape(name) != layout_of(model).shape(name):
        raise StudyError(f"the adapter in {model.folder} changes the shape of {name}: merge it, and give that model")
    return model.tensor(name)


def write_whole(model: Checkpoint, folder: Path) -> Path:
    """Write what an adapter makes of the model that it stands on, in at least 32 bits."""
    write_model(layout_of(model), lambda name: whole(model, name), folder, whole=True)
    return folder


def write_null(context: CardContext, task: str, folder: Path) -> str:
    """Write the aligned model plus an update as large as the fine-tune's that means nothing; returns what it is.

    Where another fine-tune is named ``unrelated``, that one's update, scaled to the size of this; else Gaussian numbers
    with the norm of this update, tensor by tensor. In at least 32 bits: of an update of few units in the last place,
    16 would leave half of its energy. What is too large for an edit, or of another shape than the start's, stays.
    """
    own, aligned = context.updates[task], context.checkpoints["aligned"]
    other = context.updates.get(UNRELATED) if task != UNRELATED else None
    pairs = [own, other] if other else [own]
    made = [n for n in context.names if math.prod(own[1].shape(n)) <= LARGEST and all(_alike(p, n) for p in pairs)]
    energy = {name: _energy(own, name) for name in made}
    others = sum(_energy(other, name) for name in made) if other else 0.0
    scale = math.sqrt(sum(energy.values()) / others) if others else 0.0

    def moved(name: str) -> Tensor | None:
        """A tensor of the aligned model plus the meaningless update."""
        if name not in energy:
            return whole(aligned, name)
        start = aligned.tensor(name).double()
        if other is not None:
            return start + scale * update(*other, name)
        noise = torch.randn(start.shape, generator=generator_for(context.seed, task, name, "null"))
        return start + noise.double() * (math.sqrt(energy[name]) / float(noise.double().norm()))

    write_model(layout_of(aligned), moved, folder, whole=True)
    return UNRELATED if other is not None else RANDOM


def _alike(pair: tuple[Checkpoint, Checkpoint], name: str) -> bool:
    return pair[0].shape(name) == pair[1].shape(name)


def _energy(pair: tuple[Checkpoint, Checkpoint], name: str) -> float:
    known = pair[0].difference(pair[1], name)
    return float((update(*pair, name) if known is None else known).square().sum())
