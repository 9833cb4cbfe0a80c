"""All steps of a card, in order, with what has been done and what is left: weights beside, models one at a time."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.errors import StudyError
from helpers.experiments.card import (
    changes,
    energies,
    geometry_of,
    spectra,
    tensor_table,
    updates_of,
)
from helpers.experiments.card_variants import variants_of
from helpers.files import remove
from helpers.memory import say
from helpers.studies.settings import OwnModels
from helpers.weights.checkpoints import Checkpoint
from pipeline.card.bench import MODES, Bench, Measures
from pipeline.card.estimate import room_for_both
from pipeline.card.record import Card

Values = dict[str, Measures]  # by model


class Progress:
    """Says each step with its number and the minutes left, by how long the steps took so far."""

    def __init__(self, steps: int, seconds: float | None):
        self.steps, self.expected, self.done, self.begun = steps, seconds, 0, time.monotonic()

    def step(self, what: str) -> None:
        """The next step begins."""
        past = time.monotonic() - self.begun
        share = self.done / self.steps
        whole = past / share if self.done > 2 else self.expected
        left = f", about {max(0.0, whole - past) / 60:.1f} minutes left" if whole else ""
        self.done += 1
        say(f"[{self.done}/{self.steps}] {what}{left}")


@contextmanager
def scratch_of(card: Card) -> Iterator[Path]:
    """A folder for models that are measured and thrown away."""
    folder = card.folder.scratch("variants")
    remove(folder)
    try:
        yield folder
    finally:
        remove(folder)


def make(card: Card, folders: dict[str, Path], seconds: float | None) -> dict[str, Any]:
    """Measure everything and write the tables of a card; returns what no table holds (``Card.note``).

    That is: why edits could not be measured, by edit, and sentences on what was left out. Raises StudyError.
    """
    study, started = card.study, time.monotonic()
    checkpoints = {name: Checkpoint(folder) for name, folder in folders.items()}
    variants, tuned = variants_of(study), [*study.tuned]
    with scratch_of(card) as scratch, ThreadPoolExecutor(1) as beside:
        cache = card.folder.root / "geometry"
        geometry = beside.submit(geometry_of, study, updates_of(study, checkpoints), cache, scratch / MODES)
        bench = Bench(card, folders, checkpoints, scratch)
        if not _room_for_both(study, bench.context.checkpoints["aligned"]):
            say("there is no room in memory for models beside the geometry of the updates, which is done first")
            geometry.result()
        left = None if seconds is None else max(0.0, seconds - (time.monotonic() - started))
        progress = Progress(3 + len(tuned) * (3 + len(variants)), left)  # of steps alone, whose minutes it learns from
        measured, failed = _behaviours(bench, progress)
        progress.step("waiting for the geometry of the updates")
        found = geometry.result()  # before the edits, which use the modes that it keeps
        edits, reasons = _every_edit(bench, variants, progress)
    progress.step("writing the tables")
    tables = {
        "card_models": _models(checkpoints, bench.weights, card),
        "card_behaviour": _compared(measured, tuned, study.confidence),
        "card_prompts": _prompts(measured),
        "card_energy": energies(found, tuned),
        "card_tensors": tensor_table(found, bench.context.checkpoints["aligned"], tuned),
        "card_spectrum": spectra(found),
        "card_updates": found.rounding,
        "card_edits": edits,
    }
    for name, frame in tables.items():
        card.write(name, frame, list(folders.values()), time.monotonic() - started)
    return {"failed": failed | reasons, "remarks": [*found.remarks, *found.left_out]}


def _room_for_both(study: OwnModels, model: Checkpoint) -> bool:
    sizes = [math.prod(model.shape(name)) for name in model.names]
    return room_for_both(study, sum(sizes), max(sizes))


def _behaviours(bench: Bench, progress: Progress) -> tuple[Values, dict[str, str]]:
    progress.step("the aligned model: answers and margins")
    measured, failed = {"aligned": bench.of_model("aligned")}, {}
    for task in bench.study.tuned:
        progress.step(f"{task}: answers and margins")
        measured[task] = bench.of_model(task)
        progress.step(f"{task}: an unrelated update of its size")
        try:
            measured[f"null of {task}"] = bench.of_null(task)
        except StudyError as error:  # of quantised weights, which no edit is written in
            failed[f"an unrelated update of the size of {task}"] = str(error)
    return measured, failed


def _every_edit(bench: Bench, variants: dict, progress: Progress) -> tuple[pd.DataFrame, dict[str, str]]:
    rows, failed = [], {}
    for task in bench.study.tuned:
        made, reasons = _edited(bench, task, variants, progress)
        rows, failed = rows + made, failed | reasons
    return pd.DataFrame(rows), failed


def _edited(bench: Bench, task: str, variants: dict, progress: Progress) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of ``card_edits`` for one fine-tune, and why edits are not among them."""
    progress.step(f"{task}: writing {len(variants)} edits")
    try:
        edits, failed = bench.edits(task, variants)
    except StudyError as error:
        return [], {f"every edit of {task}": str(error)}
    rows = []
    for edit, dial in edits:
        progress.step(f"{task}: {edit} at {dial:g}")
        found = bench.of_edit(task, (edit, dial))
        means = {measure: float(value.mean()) for measure, value in found.items()}
        rows.append({"task": task, "edit": edit, "kind": variants[edit, dial].kind, "dial": dial, **means})
    return rows, failed


def _compared(measured: Values, tuned: list[str], confidence: float) -> pd.DataFrame:
    rows = []
    for task in tuned:
        null = f"null of {task}"
        for name, against in ((task, "aligned"), (null, "aligned"), (task, null)):
            rows += (
                []
                if null in (name, against) and null not in measured
                else changes(name, against, measured[against], measured[name], confidence)
            )
    return pd.DataFrame(rows)


def _prompts(measured: Values) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"model": model, "measure": measure, "item": range(len(values)), "value": values})
        for model, found in measured.items()
        for measure, values in found.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _models(checkpoints: dict[str, Checkpoint], weights: dict[str, str], card: Card) -> pd.DataFrame:
    rows = []
    for name, checkpoint in checkpoints.items():
        origin = card.study.origins[name]
        types = sorted({str(checkpoint.dtype(tensor)).removeprefix("torch.") for tensor in checkpoint.names})
        numbers = sum(int(np.prod(checkpoint.shape(tensor))) for tensor in checkpoint.names)
        given = origin.path or f"{origin.id}@{origin.revision}"
        rows.append({"model": name, "origin": given, "parameters": numbers, "stored": " ".join(types)})
        rows[-1]["sha256"] = weights[name]
    return pd.DataFrame(rows)
