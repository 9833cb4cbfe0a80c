"""What single prompts gave in the variants that the statistics of C1 and C2 compare (table ``projection_prompts``).

A mean hides how much it owes to the choice of prompts. With one value per prompt the choice can be made again
(``helpers.claims.resampling``), for all variants of a seed alike.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # the statistics read the constants, and need no torch
    from helpers.evaluation.behaviour import EvaluationSets

MARGINS = ("utility_margin", "harm_margin")
COMPARED = {  # mode and task of the variants that are compared -> their measures
    ("parallel", "useful"): ("utility",),
    ("parallel", "harmful"): ("harm",),
    ("parallel", "contaminated"): (*MARGINS, "utility"),
    ("orthogonal", "contaminated"): (*MARGINS, "utility"),
}
CONTROLS = {"alignment": ("top-k", "random-k", "random"), "unrelated": ("top-k",)}  # by subspace
SCALED = ("contaminated", (*MARGINS, "utility"))  # task and measures of the scaling curve that variants are matched on
KEY = ["mode", "task", "subspace", "control", "size"]
DECIMALS = 4
COLUMNS = [*KEY, "measure", "item", "value"]


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
        if variant["control"] in CONTROLS.get(variant["subspace"], ()):
            where = {name: variant[name] for name in KEY[:-1]} | {"size": float(fraction)}
            self._add(where, COMPARED.get((variant["mode"], variant["task"]), ()), measured)

    def add_scaled(self, task: str, alpha: float, measured: dict[str, np.ndarray]) -> None:
        """Keep the values of a point of the scaling curve on which variants are matched."""
        if task == SCALED[0]:
            where = {"mode": "scaling", "task": task, "subspace": "none", "control": "scaling", "size": float(alpha)}
            self._add(where, SCALED[1], measured)

    def _add(self, where: dict, measures: tuple[str, ...], measured: dict[str, np.ndarray]) -> None:
        for measure in measures:
            if measure in measured:
                values = {"item": self._items[set_of(measure)], "value": np.round(measured[measure], DECIMALS)}
                self._parts.append(pd.DataFrame(values).assign(**where, measure=measure)[COLUMNS])

    def table(self) -> pd.DataFrame:
        """All that was kept, without the prompts that have no value (replies of a judge that could not be read)."""
        found = pd.concat(self._parts, ignore_index=True) if self._parts else pd.DataFrame(columns=COLUMNS)
        return found.dropna(subset="value")


def _items(prompts: pd.Series) -> list[int]:
    """A number for each prompt that is the same in every seed and says nothing of its text."""
    return [int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) for prompt in prompts]
