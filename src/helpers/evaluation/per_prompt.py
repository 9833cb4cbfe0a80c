"""What single prompts gave in the variants that the statistics of C1 and C2 compare (table ``projection_prompts``).

A mean hides how much it owes to the choice of prompts. With one value per prompt the choice can be made again
(``helpers.claims.resampling``), for all variants of a seed alike.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # the statistics read what is here, and need no model
    from helpers.evaluation.behaviour import EvaluationSets

SUBSPACE = "alignment"
CONTROLS = ("top-k", "random")  # and the scaling curve, as the control "scaling"
MARGINS = ("utility_margin", "harm_margin")
TASKS = {  # task -> its projection and the measures that are compared
    "useful": ("parallel", MARGINS[:1]),
    "harmful": ("parallel", MARGINS[1:]),
    "contaminated": ("orthogonal", (*MARGINS, "utility", "harm")),
}
DECIMALS = 4
COLUMNS = ["task", "control", "size", "measure", "item", "value"]


def set_of(measure: str) -> str:
    """The evaluation set on which a measure is taken, ``utility`` or ``harm``."""
    return measure.split("_")[0]


class PromptValues:
    """Collects the values of single prompts while the grid of variants is measured."""

    def __init__(self, sets: "EvaluationSets") -> None:
        self._items = {name: _items(getattr(sets, name)["prompt"]) for name in ("utility", "harm")}
        self._parts: list[pd.DataFrame] = []

    def add_projected(self, variant: dict, fraction: float, measured: dict[str, np.ndarray]) -> None:
        """Keep the values of a projected variant (its columns in the table ``projection``) if they are compared."""
        task, wanted = variant["task"], (variant["subspace"], variant["mode"])
        if task in TASKS and wanted == (SUBSPACE, TASKS[task][0]) and variant["control"] in CONTROLS:
            self._add(task, variant["control"], fraction, measured)

    def add_scaled(self, task: str, alpha: float, measured: dict[str, np.ndarray]) -> None:
        """Keep the values of a point of a task's scaling curve."""
        if task in TASKS:
            self._add(task, "scaling", alpha, measured)

    def _add(self, task: str, control: str, size: float, measured: dict[str, np.ndarray]) -> None:
        for measure in TASKS[task][1]:
            if measure in measured:
                values = {"item": self._items[set_of(measure)], "value": np.round(measured[measure], DECIMALS)}
                part = pd.DataFrame(values).assign(task=task, control=control, size=float(size), measure=measure)
                self._parts.append(part[COLUMNS])

    def table(self) -> pd.DataFrame:
        """All that was kept, without the prompts that have no value (replies of a judge that could not be read)."""
        found = pd.concat(self._parts, ignore_index=True) if self._parts else pd.DataFrame(columns=COLUMNS)
        return found.dropna(subset="value")


def _items(prompts: pd.Series) -> list[int]:
    """A number for each prompt that is the same in every seed and says nothing of its text."""
    return [int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) for prompt in prompts]
