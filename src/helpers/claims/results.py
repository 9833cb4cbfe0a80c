"""What the statistics of the claims read: the tables of one seed, and the effects of variants as shares.

Every statistic takes the tables of one seed and returns one number, NaN where something it needs was not measured; what
it is, in words, says the ledger. ``stated`` has those of the paper's own comparisons, ``strict`` those that ask whether
anything is distinct.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from helpers.claims.matched import scaled_at
from helpers.claims.over_seeds import share

TABLES = (
    "behaviour", "projection", "scaling", "energy", "update_overlap", "activation_overlap", "matched_activations",
    "probe",
)  # fmt: skip
KIND = ["mode", "task", "control", "subspace"]  # of a projected variant
Values = pd.Series | pd.DataFrame  # by fraction or α; a frame has a column for each replicate of a resampling
STATISTICS: dict[str, "Statistic"] = {}  # name -> function; the names that the ledger may use


@dataclass(frozen=True)
class SeedResults:
    """The tables of one seed, which stay as they are: what is read of them twice is kept."""

    behaviour: pd.DataFrame
    projection: pd.DataFrame
    scaling: pd.DataFrame
    energy: pd.DataFrame
    update_overlap: pd.DataFrame
    activation_overlap: pd.DataFrame
    matched_activations: pd.DataFrame
    probe: pd.DataFrame

    def of_model(self, model: str, measure: str) -> float:
        """A measure of one of the six models."""
        table = self.behaviour
        return float(table.loc[(table["model"] == model) & (table["measure"] == measure), "value"].iloc[0])

    @cached_property
    def _variants(self) -> dict[tuple[str, ...], pd.DataFrame]:
        means = self.projection.groupby([*KIND, "fraction"]).mean(numeric_only=True)  # over random draws
        return {kind: rows.droplevel(KIND) for kind, rows in means.groupby(level=KIND)}

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        return {task: rows.set_index("alpha").sort_index() for task, rows in self.scaling.groupby("task")}

    @cached_property
    def _overlaps(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(tuple(self.update_overlap.groupby(["a", "b"])))

    def variants(self, mode: str, task: str, control: str, measure: str, subspace: str = "alignment") -> Values:
        """A measure of the projected variants of one kind by fraction k, random draws averaged."""
        known = self._variants.get((mode, task, control, subspace))
        return pd.Series(dtype=float) if known is None else known[measure]

    def scaled(self, task: str, measure: str) -> Values:
        """A measure of the scaled update W = WA + α D by α, from 0 (aligned) to 1 (fine-tuned)."""
        known = self._curves.get(task)
        return pd.Series(np.nan, index=[0.0, 1.0]) if known is None else known[measure]

    def kept(self, task: str, control: str, subspace: str = "alignment") -> pd.Series:
        """Energy of an update in a subspace, of all tensors together, by the fractions of the projection grid."""
        table = self.energy
        own = (table["subspace"] == subspace) & (table["control"] == control) & (table["module"] == "all")
        rows = table[own & (table["task"] == task)].set_index("fraction")["energy_kept"]
        grid = self.projection.loc[self.projection["mode"] != "edit", "fraction"]  # an edit's is a place of its dial
        return rows[rows.index.isin(grid)]

    def overlap(self, a: str, b: str) -> pd.DataFrame:
        """The overlap of two updates and its random baseline, a row for each energy fraction and tensor."""
        return self._overlaps.get((a, b), self.update_overlap.head(0))

    def mso(self, a: str, b: str) -> float:
        """MSO of two updates less its random baseline, mean over energy fractions and tensors."""
        rows = self.overlap(a, b)
        return float((rows["mso"] - rows["random"]).mean())

    def activation(self, pair: str) -> pd.DataFrame:
        """Overlap of the activations of two sets in the aligned model, in the band and where both have k > 1."""
        table = self.activation_overlap
        rows = table["in_band"] & (table["model"] == "aligned") & (table["pair"] == pair)
        return table[rows & (table["k_a"] > 1) & (table["k_b"] > 1)]

    def matched(self, pair: str) -> float:
        """Overlap of centred activations of one pair less its random baseline, mean over the band's layers and η.

        Over those with k > 1 on both sides, which vary less; over all where sets that spread along one line have none.
        """
        table = self.matched_activations
        rows = table[table["in_band"] & (table["pair"] == pair)]
        several = rows[(rows["k_a"] > 1) & (rows["k_b"] > 1)]
        rows = several if len(several) else rows
        return float((rows["mso"] - rows["random"]).mean())


Statistic = Callable[[SeedResults], float]


def statistic(function: Statistic) -> Statistic:
    """Register the statistic of a criterion under its function's name."""
    STATISTICS[function.__name__] = function
    return function


def share_of(r: SeedResults, values: Values, task: str, measure: str) -> Values:
    """Values of a measure as shares of the way from the aligned to the fine-tuned model of a task."""
    curve = r.scaled(task, measure)
    return share(values, curve.loc[0.0], curve.loc[1.0])


def variant_shares(
    r: SeedResults, mode: str, task: str, control: str, measure: str, subspace: str = "alignment"
) -> Values:
    """A measure of projected variants, by fraction k, as shares of the way from the aligned to the tuned model."""
    return share_of(r, r.variants(mode, task, control, measure, subspace), task, measure)


def beyond_scaling(
    r: SeedResults, mode: str, task: str, control: str, on: str, measure: str, subspace: str = "alignment"
) -> Values:
    """Share of ``measure`` in the variants beyond that of the scaled update with the same share of ``on``, by k."""
    at, own = (variant_shares(r, mode, task, control, name, subspace) for name in (on, measure))
    curve, scaled = (share_of(r, r.scaled(task, name), task, name) for name in (on, measure))
    if isinstance(at, pd.Series):
        return own - scaled_at(curve, scaled, at.to_numpy())
    return own - np.transpose([scaled_at(curve[c], scaled[c], at[c].to_numpy()) for c in at])
