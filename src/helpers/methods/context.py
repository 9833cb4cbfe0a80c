"""What a method may ask for beside the weights of one tensor: updates, modes, activations, gradients, random numbers.

What is about a model is taken at the aligned one unless another is named, on calibration prompts that are never scored.
The context loads models for itself when they are first needed, so it does not matter what a grid has written into its
own.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from helpers.activations import capture, through_maps
from helpers.data.rows import training_rows
from helpers.draws import generator_for
from helpers.errors import StudyError
from helpers.models.load import Loaded, load_model
from helpers.studies.settings import Study
from helpers.studies.values import Style
from helpers.subspaces import Modes
from helpers.training.examples import collate, tokenised
from helpers.weights.checkpoints import Checkpoint, matched, study_updates, update
from helpers.weights.edits import Side, update_modes

CALIBRATION = 32  # rows of a training set
SHARED = 4 * 2**30  # bytes kept for methods to come; moments or gradients of a small real model are one GiB


@dataclass(frozen=True)
class Weights:
    """One tensor of three models, (m, n) or (m,) each, in float64."""

    name: str
    base: Tensor
    aligned: Tensor
    tuned: Tensor
    task: str = ""  # the fine-tuned model's name
    factors: tuple[Tensor, Tensor] | None = None  # (m, r) and (r, n), whose product the update of an adapter is

    @property
    def update(self) -> Tensor:
        """What fine-tuning changed, D_T = tuned − aligned."""
        return self.tuned - self.aligned


class Context:
    """The study, its six checkpoints by name, and what is computed from them once and shared by all methods."""

    _latest: tuple[str, dict[str, Modes]] | None = None  # an update and its modes by tensor, where they are kept

    def __init__(self, study: Study, seed: int, checkpoints: dict[str, Checkpoint], keeps_modes: bool = False):
        """``keeps_modes``: those of all tensors of the update that was asked for last, 8 bytes a number, are kept."""
        self.study, self.seed, self.checkpoints = study, seed, checkpoints
        self._latest = ("", {}) if keeps_modes else None
        self.updates = study_updates(checkpoints)  # label -> (tuned, start)
        self._shapes = matched(checkpoints.values())
        self.names = [*self._shapes]  # tensors, in the order of depth
        self._kept: dict[Hashable, Any] = {}
        self._used: set[Hashable] = set()  # of those kept, by the method that is measured

    def shape(self, tensor: str) -> tuple[int, ...]:
        """(m, n), or (m,) of a vector."""
        return self._shapes[tensor]

    def weights(self, tensor: str, task: str) -> Weights:
        """A tensor of the base, the aligned and one fine-tuned model."""
        return Weights(tensor, *(self.checkpoints[m].tensor(tensor).double() for m in ("base", "aligned", task)), task)

    def update(self, label: str, tensor: str) -> Tensor:
        """An update of the study, (m, n) or (m,), float64: alignment, safety, useful, harmful or contaminated."""
        return update(*self.updates[label], tensor)

    def modes(self, label: str, tensor: str) -> Modes:
        """Left singular vectors and singular values of an update; of rank 0 where nothing changed."""
        if self._latest is None:
            return update_modes(*self.updates[label], tensor)
        if self._latest[0] != label:
            self._latest = (label, {})
        if tensor not in self._latest[1]:
            self._latest[1][tensor] = update_modes(*self.updates[label], tensor)
        return self._latest[1][tensor]

    def leading(self, label: str, tensor: str, k: int) -> Tensor:
        """The first k left singular vectors of an update, (m, k), or as many as its rank."""
        modes = self.modes(label, tensor)
        return modes.vectors[:, : min(k, modes.rank)]

    def generator(self, method: str, tensor: str = "", draw: int = 0) -> torch.Generator:
        """A generator for a method's own draws, the same whatever ran before."""
        return generator_for(self.seed, method, tensor, "method", draw)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make()`` gives, computed the first time only."""
        self._used.add(key)
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def next_method(self) -> None:
        """Drop what the method that was measured last did not use, but for models, if all is more than ``SHARED``."""
        if sum(map(_bytes, self._kept.values())) > SHARED:
            self._kept = {key: one for key, one in self._kept.items() if key in self._used or _is_model(key)}
        self._used.clear()

    @property
    def loaded(self) -> Loaded:
        """The aligned model and its tokenizer, apart from any live model."""
        return self.model("aligned")

    def model(self, name: str) -> Loaded:
        """A model of the study and its tokenizer, apart from any live model."""
        return self.once(("model", name), lambda: load_model(self.checkpoints[name].folder))

    def calibration(self, kind: str) -> pd.DataFrame:
        """Rows (prompt, prefix, answer, source …) that no evaluation set holds: the first of a training set.

        ``kind`` is an objective such as ``harmful`` or ``useful``, or one source of it, such as ``safety/benign``.
        Raises StudyError for one that does not exist.
        """
        objective, _, source = kind.partition("/")
        settings = getattr(self.study.training, objective) if objective in self.study.objectives else None
        sources = [] if settings is None else [part.source for part in settings.data]
        if settings is None or (source and source not in sources):
            choice = ", ".join(f"{objective}/{s}" for s in sources) or ", ".join(self.study.objectives)
            raise StudyError(f"there are no calibration prompts {kind!r}: choose one of {choice}")
        rows = training_rows(self.study, settings, self.seed, self.checkpoints["base"].folder)
        return (rows[rows["source"] == source] if source else rows).head(CALIBRATION).reset_index(drop=True)

    def _prompts(self, kind: str) -> list[str]:
        return self.calibration(kind)["prompt"].tolist()

    @property
    def _style(self) -> Style:
        return self.study.activation_overlap.style

    def residual(self, kind: str) -> Tensor:
        """Residual stream after every block at the last token of the calibration prompts: (layers, prompts, width)."""
        return self.once(("residual", kind), lambda: capture(*self.loaded, self._prompts(kind), style=self._style))

    def activations(self, kind: str, side: Side = "input") -> dict[str, Tensor]:
        """What enters (``input``, (prompts, n)) or leaves (``output``, (prompts, m)) the linear map of each tensor.

        At the last token of each calibration prompt, in float64 on the CPU.
        """
        return self.once(("maps", kind), lambda: through_maps(*self.loaded, self._prompts(kind), self._style))[side]

    def gradients(self, kind: str) -> dict[str, Tensor]:
        """Mean gradient of the loss on the calibration answers for every tensor, of its shape, float64 on the CPU."""
        return self.once(("gradients", kind), lambda: _mean(self.gradient_of_each(kind)))

    def gradient_of_each(self, kind: str, name: str = "aligned") -> Iterator[dict[str, Tensor]]:
        """The gradient of one calibration row after the other, each valid until the next, at one of the models."""
        model, _ = self.model(name)
        for batch in self.answers(kind, name):
            model.zero_grad()
            with torch.enable_grad():
                model(**batch).loss.backward()
            yield {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()

    def answers(self, kind: str, name: str = "aligned") -> Iterator[dict[str, Tensor]]:
        """Each calibration row with its answer, as one of the models reads it in training: (1, tokens) each."""
        model, tokenizer = self.model(name)
        rule = self.study.training.optimiser
        for example in tokenised(self.calibration(kind), tokenizer, rule.max_length, rule.style):
            yield {key: values.to(model.device) for key, values in collate([example]).items()}


def _is_model(key: Hashable) -> bool:
    return isinstance(key, tuple) and key[0] == "model"


def _bytes(value: object) -> int:
    """Bytes of the tensors in nested mappings and sequences."""
    if isinstance(value, Tensor):
        return value.nbytes
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, inner))


def _mean(gradients: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
    total, count = {}, 0
    for gradient in gradients:
        count += 1
        for name, value in gradient.items():
            total[name] = total.get(name, 0) + value.double().cpu()
    return {name: value / count for name, value in total.items()}
