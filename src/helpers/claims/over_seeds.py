"""Statistics over seeds: the seed is the unit of replication, and every mean comes with its interval."""

import numpy as np
import pandas as pd
from scipy import stats

INTERVAL = ["mean", "low", "high", "seeds"]


def interval(values: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean of one value per seed with its two-sided t interval; one seed has no interval (NaN)."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else float("nan")
    if n < 2:
        return {"mean": mean, "low": float("nan"), "high": float("nan"), "seeds": n}
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values))
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": n}


def over_seeds(table: pd.DataFrame, by: list[str], value: str, confidence: float) -> pd.DataFrame:
    """Mean and interval over seeds of ``value`` for each combination of ``by``.

    Rows that share a seed (random draws, tensors) are averaged first, so that they do not count as seeds.
    """
    keys = [table[column] for column in by]
    per_seed = table[value].groupby([*keys, table["seed"]], sort=False).mean()
    rows = [
        dict(zip(by, key, strict=True)) | interval(group.dropna(), confidence)
        for key, group in per_seed.groupby(level=by, sort=False)  # a list as level gives tuples as keys
    ]
    return pd.DataFrame(rows, columns=[*by, *INTERVAL])


def measures_over_seeds(table: pd.DataFrame, by: list[str], measures: list[str], confidence: float) -> pd.DataFrame:
    """``over_seeds`` of several columns, as a long table with a column ``measure``."""
    parts = [over_seeds(table, by, m, confidence).assign(measure=m) for m in measures]
    return pd.concat(parts, ignore_index=True)[[*by, "measure", *INTERVAL]]


def share(value: float | np.ndarray, start: float, full: float) -> float | np.ndarray:
    """How far ``value`` lies on the way from ``start`` (0) to ``full`` (1); NaN where there is no way to go."""
    return (value - start) / (full - start) if full != start else np.full_like(np.asarray(value, float), np.nan)
