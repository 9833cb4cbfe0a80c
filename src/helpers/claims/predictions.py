"""How well first-order predictions of updates do: the table ``theory`` (``helpers.experiments.theory``), summed up."""

import numpy as np
import pandas as pd

STEPS = 40  # batches of which gradients are taken, at most: about as many as the shortest training run of the organism
PREDICTIONS = ("outputs", "gradient", "adamw")
BASELINE = "random"
PAIRS = (("useful", "harmful"), ("alignment", "harmful"), ("safety", "harmful"))  # of the overlap
IN_ALIGNMENT = ("useful", "harmful")  # updates whose energy in the alignment subspace is predicted
KEY = ["seed", "quantity", "a", "b", "prediction"]
SIDES = ["predicted", "measured"]


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """How well each prediction does in each seed: columns seed, quantity, a, b, prediction, statistic, value.

    ``rank correlation`` (Spearman) over matrices of predicted and measured; ``within modules`` the same after the mean
    of each module type is taken off both; ``absolute error``, and the means ``predicted`` and ``measured``.
    """
    table = table.reset_index(drop=True)
    centred = table[SIDES] - table.groupby([*KEY, "module"], sort=False)[SIDES].transform("mean")
    rows = []
    for key, group in table.groupby(KEY, sort=False):
        values = {
            "rank correlation": _rank_correlation(group[SIDES]),
            "within modules": _rank_correlation(centred.loc[group.index]),
            "absolute error": (group["predicted"] - group["measured"]).abs().mean(),
            "predicted": group["predicted"].mean(),
            "measured": group["measured"].mean(),
        }
        rows += [(*key, statistic, float(value)) for statistic, value in values.items()]
    return pd.DataFrame(rows, columns=[*KEY, "statistic", "value"])


def _rank_correlation(pair: pd.DataFrame) -> float:
    """Spearman's rank correlation of two columns; NaN where one side does not vary."""
    if (np.ptp(pair.to_numpy(), axis=0) < 1e-9).any():
        return float("nan")
    return float(np.corrcoef(pair.rank().to_numpy().T)[0, 1])


def order_of_pairs(found: pd.DataFrame) -> pd.DataFrame:
    """MSO(alignment, harmful) − MSO(useful, harmful), predicted and measured, from ``agreement``: one row per seed."""
    means = found[(found["quantity"] == "overlap") & found["statistic"].isin(SIDES)]
    wide = means.pivot(index=["seed", "prediction", "statistic"], columns=["a", "b"], values="value")
    gap = (wide["alignment", "harmful"] - wide["useful", "harmful"]).rename("value").reset_index()
    return gap.assign(quantity="difference of overlaps", a="alignment-harmful", b="useful-harmful")


def with_intervals(summary: pd.DataFrame) -> pd.Series:
    """ "mean [low, high]" of the table ``theory_summary``, by quantity, a, b, prediction and statistic."""
    ends = summary[["mean", "low", "high"]].itertuples(index=False)
    texts = ["" if np.isnan(mean) else f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in ends]
    return pd.Series(texts, index=pd.MultiIndex.from_frame(summary[[*KEY[1:], "statistic"]]))
