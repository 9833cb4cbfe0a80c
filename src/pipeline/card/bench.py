"""The models of a card, measured one at a time; what was found is kept, so that a card that was stopped goes on."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from helpers.experiments.card import Asked, Reference, behaviour, reference_of
from helpers.experiments.card_variants import CardContext, Variant, write_null, write_variants, write_whole
from helpers.experiments.own_models import starts
from helpers.files import remove, sha256, write_tensors
from helpers.memory import free_memory
from helpers.models.load import Loaded, exceeds_memory, load_model
from helpers.studies.settings import OwnModels, digest
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.folders import is_adapter
from pipeline.card.record import Card, weights_of

BEHAVIOUR = 1  # raised whenever a measure of a model changes, so that older values are not taken for it
MODES = "modes"  # the folder below the scratch in which the geometry keeps those of the alignment update
Measures = dict[str, np.ndarray]  # (prompts,) each


class Bench:
    """Where models are measured: those of a card, updates that mean nothing, and edits, written to ``scratch``."""

    def __init__(self, card: Card, folders: dict[str, Path], checkpoints: dict[str, Checkpoint], scratch: Path):
        self.study, self.folders, self.scratch = card.study, folders, scratch
        self.context, self.asked = (
            CardContext(card.study, checkpoints, decomposed=scratch / MODES),
            Asked.of(card.study),
        )
        self.weights = {name: weights_of(checkpoint) for name, checkpoint in checkpoints.items()}
        hashes = {name: sha256(folder) for name, folder in folders.items()}
        self.kept = card.folder.root / "values" / digest(card.study, hashes, BEHAVIOUR)

    def of_model(self, name: str) -> Measures:
        """Of one of the card's models."""
        return self._once(name, lambda: self._measured(lambda: self._loaded(name), judged=True))

    def of_null(self, task: str) -> Measures:
        """Of the aligned model with an update as large as a fine-tune's that means nothing. Raises StudyError."""

        def measured() -> Measures:
            write_null(self.context, task, self.scratch / "null")
            return self._of_written(self.scratch / "null", judged=True)

        return self._once(f"null of {task}", measured)

    def edits(self, task: str, variants: dict) -> tuple[list[Variant], dict[str, str]]:
        """Write those edits of a fine-tune that are not measured; returns which there are, and why others are not.

        Raises StudyError where none can be written.
        """
        if all(self._file(_label(task, variant)).exists() for variant in variants):
            return [*variants], {}
        written = write_variants(self.context, task, variants, self.scratch)
        return [*written["folders"]], written["failed"]

    def of_edit(self, task: str, variant: Variant) -> Measures:
        """Of an edit that has been written, which is then removed."""
        folder = self.scratch / "{}-{:g}".format(*variant)
        return self._once(_label(task, variant), lambda: self._of_written(folder, judged=self.study.embedded))

    @cached_property
    def _compared(self) -> tuple[Asked, OwnModels, Reference]:
        reference = reference_of(*self._loaded("aligned"), self.asked, self.study)
        free_memory()
        return self.asked, self.study, reference

    def _loaded(self, name: str) -> Loaded:
        folder = self.folders[name]
        if is_adapter(folder) and exceeds_memory(self.folders["base"]):
            folder = write_whole(self.context.checkpoints[name], self.scratch / name)
        return load_model(folder, starts=starts(name, self.folders), room=self.scratch / "offload")

    def _of_written(self, folder: Path, judged: bool) -> Measures:
        found = self._measured(lambda: load_model(folder, room=self.scratch / "offload"), judged)
        remove(folder)
        return found

    def _measured(self, load: Callable[[], Loaded], judged: bool) -> Measures:
        compared = self._compared  # before the model is loaded: one is in memory at a time
        found = behaviour(*load(), *compared, judged=judged)
        free_memory()  # a model that is read from its files holds itself
        return found

    def _file(self, label: str) -> Path:
        return self.kept / f"{label}.safetensors"

    def _once(self, label: str, measure: Callable[[], Measures]) -> Measures:
        file = self._file(label)
        if not file.exists():
            write_tensors(file, {name: torch.from_numpy(values) for name, values in measure().items()})
        return load_file(file)


def _label(task: str, variant: Variant) -> str:
    return "{} after {} at {:g}".format(task, *variant)  # with spaces, which no name of a fine-tune has
