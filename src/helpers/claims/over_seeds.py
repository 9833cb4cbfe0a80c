"""Statistics over seeds: the seed is the unit of replication, and every mean comes with its interval."""

import numpy as np
import pandas as pd
from scipy import special

INTERVAL = ["mean", "low", "high", "seeds"]


def interval(values: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean of one value per seed with its two-sided t interval; one seed has no interval (NaN)."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else float("nan")
    if n < 2:
        return {"mean": mean, "low": float("nan"), "high": float("nan"), "seeds": n}
    half = t_quantile(confidence, n - 1) * float(np.std(values, ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": n}


def t_quantile(confidence: float, freedom: float) -> float:
    """The quantile of Student's t distribution that a two-sided interval of this confidence takes."""
    return float(special.stdtrit(freedom, (1 + confidence) / 2))  # as scipy.stats has it, without its second of import


def over_seeds(table: pd.DataFrame, by: list[str], value: str, confidence: float) -> pd.DataFrame:
    """Mean and interval over seeds of ``value`` for each combination of ``by``.

    Rows that share a seed (random draws, tensors) are averaged first, so that they do not count as seeds.
    """
    per_seed = table[value].groupby([table[column] for column in [*by, "seed"]], sort=False).mean()
    known: dict[tuple, list[float]] = {}
    for (*key, _), mean in per_seed.items():
        known.setdefault(tuple(key), []).extend([] if np.isnan(mean) else [mean])
    rows = [dict(zip(by, key, strict=True)) | interval(values, confidence) for key, values in known.items()]
    return pd.DataFrame(rows, columns=[*by, *INTERVAL])


def measures_over_seeds(table: pd.DataFrame, by: list[str], measures: list[str], confidence: float) -> pd.DataFrame:
    """``over_seeds`` of several columns, as a long table with a column ``measure``."""
    parts = [over_seeds(table, by, m, confidence).assign(measure=m) for m in measures]
    return pd.concat(parts, ignore_index=True)[[*by, "measure", *INTERVAL]]


def overlaps_over_seeds(overlap: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    """``over_seeds`` of the overlap ``mso``, with the mean of its random baseline in the column ``random``."""
    baseline = overlap.groupby(by, as_index=False)["random"].mean()
    return over_seeds(overlap, by, "mso", confidence).merge(baseline, on=by)


def overlaps_by_group(overlap: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Overlaps of updates over seeds: of all tensors, of each module type, of each layer (columns grouping, group)."""
    parts = []
    for grouping in ("all", "module", "layer"):
        found = overlaps_over_seeds(overlap.assign(all="all"), [grouping, "a", "b", "eta"], confidence)
        parts.append(found.rename(columns={grouping: "group"}).assign(grouping=grouping))
    return pd.concat(parts, ignore_index=True)


def share(value, start, full):
    """How far ``value`` lies on the way from ``start`` (0) to ``full`` (1); NaN where there is no way to go.

    Numbers or arrays; frames (rows, replicates) take ``start`` and ``full`` of (replicates,).
    """
    return (value - start) / np.where(full == start, np.nan, full - start)
