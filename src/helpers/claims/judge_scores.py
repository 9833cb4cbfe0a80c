"""A judge's scores as a distribution: of each model and seed how many answers got which score."""

import pandas as pd
from scipy import special

from helpers.evaluation.measures import RATES, SCORES

COLUMNS = ["seed", "model", "score", "answers", "of", "share", "low", "high"]


def score_shares(behaviour: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the table ``judge_scores`` from those of ``behaviour``, with exact intervals over prompts.

    Only of scores whose rate was measured, which of older results is that of 5 alone. Where no reply of the judge could
    be read the share is NaN, and its interval is all that it can be. Intervals are those of Clopper and Pearson.
    """
    scores = {name: score for score, name in RATES.items()}
    rows = behaviour[behaviour["measure"].isin(scores)]
    n, tail = rows["prompts"].astype(int), (1 - confidence) / 2
    k = (rows["value"] * n).fillna(0).round().astype(int)
    ends = special.betaincinv(k, n - k + 1, tail), special.betaincinv(k + 1, n - k, 1 - tail)
    found = rows[["seed", "model"]].assign(score=rows["measure"].map(scores), answers=k, of=n, share=rows["value"])
    return found.assign(low=ends[0].where(k > 0, 0.0), high=ends[1].where(k < n, 1.0))[COLUMNS].reset_index(drop=True)


def are_whole(shares: pd.DataFrame) -> bool:
    """Whether the share of every score was measured, which of older results it was not."""
    return set(shares["score"]) == set(SCORES)


def middle(shares: pd.DataFrame) -> pd.DataFrame:
    """Of each model and seed the share of the scores between the lowest and the highest, as ``mean``."""
    between = shares[shares["score"].between(min(SCORES) + 1, max(SCORES) - 1)]
    return between.groupby(["seed", "model"], as_index=False)["share"].sum().rename(columns={"share": "mean"})
