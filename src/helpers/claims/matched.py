"""Comparison of projected variants at matched utility or matched energy, never at equal k alone.

Harm answers the size of an update like a threshold and utility almost linearly, so removing *any* half of an update
removes more harm than utility. What a subspace does beyond that is seen only next to a variant that keeps as much
utility (or energy) and was made without it: plain scaling, W = WA + α D.
"""

import numpy as np
import pandas as pd

from helpers.claims.over_seeds import share


def shares(projection: pd.DataFrame, scaling: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Add ``share_<measure>``, 0 at the aligned model and 1 at the fully fine-tuned one of that seed and task.

    ``projection`` may be the scaling table itself.
    """
    ends = scaling[scaling["alpha"].isin([0.0, 1.0])]
    parts = []
    for (seed, task), group in projection.groupby(["seed", "task"], sort=False):
        own = ends[(ends["seed"] == seed) & (ends["task"] == task)].sort_values("alpha")  # two rows
        columns = {f"share_{m}": share(group[m].to_numpy(float), *own[m].to_numpy(float)) for m in measures}
        parts.append(group.assign(**columns))
    return pd.concat(parts)


def scaled_at(on: pd.Series, measure: pd.Series, at: np.ndarray) -> np.ndarray:
    """``measure`` of the scaled update (one seed and task) where its ``on`` equals ``at``; outside the curve, its ends.

    ``on`` and ``measure`` are indexed by α, in its order. In the place of ``on`` stands its running maximum;
    where that does not rise, the measure of the largest α counts. NaN where there is no curve, because fine-tuning
    changed nothing.
    """
    x, y = on.to_numpy(float), measure.to_numpy(float)
    known = (on.index <= 1) & ~np.isnan(x) & ~np.isnan(y)
    return np.interp(at, np.maximum.accumulate(x[known]), y[known]) if known.any() else np.full(len(at), np.nan)


def excess(projection: pd.DataFrame, scaling: pd.DataFrame, on: str, measures: list[str]) -> pd.DataFrame:
    """Add ``excess_<measure>``: its share in the variant minus its share in the scaled update with the same ``on``.

    Zero means that the subspace did what a smaller step would have done. ``on``: ``energy_kept`` or a measure.
    """
    needed = sorted({*measures, *([on] if on != "energy_kept" else [])})
    scaling = scaling[scaling["task"].isin(projection["task"])]
    curve = shares(scaling, scaling, needed).set_index(["seed", "task", "alpha"]).sort_index()
    variants = shares(projection, scaling, needed)
    key = on if on == "energy_kept" else f"share_{on}"
    parts = []
    for place, group in variants.groupby(["seed", "task"], sort=False):
        own, at = curve.loc[place], group[key].to_numpy(float)
        columns = {f"excess_{m}": group[f"share_{m}"] - scaled_at(own[key], own[f"share_{m}"], at) for m in measures}
        parts.append(group.assign(**columns))
    return pd.concat(parts)
