"""Inference over few seeds: intervals over seeds and prompts, decisions, exact rates.

The seed is the unit of replication and the prompts of a seed are a sample within it. ``helpers.claims.over_seeds`` has
the plain t interval; what is here says how sure one may be of a difference, and of the absence of one. Derivations are
in the chapter on statistics of the book, and ``benchmarks.coverage`` measures the coverage on data with a known truth.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special

from helpers.claims.over_seeds import interval, t_quantile

SEEDS = 3  # from so many on, an interval is over seeds
Decision = Literal["distinct", "not distinct", "undecided", "not measurable"]


def prompt_weights(ids: Sequence[np.ndarray], replicates: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights of the Bayesian bootstrap (Rubin 1981) over prompts: (replicates, prompts) for each seed, rows sum to 1.

    A prompt has one exponential weight per replicate wherever it occurs. So all variants of a seed are resampled
    alike, and a prompt that several seeds share is resampled in all of them at once.
    """
    known, places = np.unique(np.concatenate(ids), return_inverse=True)
    drawn = rng.exponential(size=(replicates, len(known)))
    parts = np.split(places, np.cumsum([len(own) for own in ids])[:-1])
    return [drawn[:, own] / drawn[:, own].sum(axis=1, keepdims=True) for own in parts]


def combine(
    estimates: np.ndarray, replicates: np.ndarray, prompts: int, confidence: float, shared: float = 0.0, seeds: int = 0
) -> dict[str, float | str]:
    """Interval of the mean over seeds from one estimate (seeds,) and bootstrap replicates (seeds, B) per seed.

    With S² the variance of the estimates over seeds and c the mean covariance that shared prompts cause between seeds,
    the mean has variance S²/n + c. ``prompts``: prompts of a seed; ``shared``: the share of them that two seeds have in
    common, which bounds c. ``seed_sd`` is the SD between seeds without that of the prompts, ``prompt_sd`` the SD that
    the choice of prompts gives one seed, both in units of the statistic. Of fewer than ``SEEDS``, whose spread is not
    known or hardly, the interval is over their prompts alone, of these very seeds, and ``over`` says so. A replicate
    that is NaN, in which there was nothing to compare, has no part in these. ``seeds``: how many were run, if the
    statistic is not known in all. Those in which it is were not chosen at random, so their prompts alone do not do: the
    interval stays one over seeds, and one seed has none (NaN).
    """
    estimates, drawn = np.asarray(estimates, float), pd.DataFrame(np.atleast_2d(replicates).T)
    n, mean = len(estimates), float(np.mean(estimates))
    covariance = drawn.cov().to_numpy() * (prompts + 1) / (prompts - 1)  # Dirichlet weights vary less
    within = float(np.nanmean(np.diag(covariance)))
    between = total = float("nan")
    common, freedom = 0.0, float(prompts - 1)
    if n > 1:
        total = float(estimates.var(ddof=1))
        common = float(np.clip(np.nanmean(covariance[~np.eye(n, dtype=bool)]), 0.0, shared * within))
        between = max(0.0, total - (within - common))
    variance = common + (within - common) / n
    if over := max(n, seeds) >= SEEDS:
        variance = total / n + common
        parts = (total / n) ** 2 / max(1, n - 1) + common**2 / (prompts - 1)
        freedom = variance**2 / parts if parts else n - 1  # Satterthwaite
    half = t_quantile(confidence, freedom) * float(np.sqrt(variance))
    spread = {"seed_sd": float(np.sqrt(between)), "prompt_sd": float(np.sqrt(within))}
    units = {"seeds": n, "prompts": prompts, "over": "seeds" if over else "prompts"}
    return {"mean": mean, "low": mean - half, "high": mean + half, **spread, **units}


def decide(values: np.ndarray, margin: float, confidence: float) -> Decision:
    """``decision`` by the t interval of one value per seed."""
    known = np.asarray(values, float)
    return decision(interval(known[~np.isnan(known)], confidence), margin)


def decision(found: Mapping[str, float], margin: float) -> Decision:
    """Is a statistic, given by ``mean``, ``low`` and ``high``, beyond its margin? Positive values mean separable.

    *distinct* if the whole interval lies above the margin, *not distinct* if it lies below (an equivalence test of one
    side), else *undecided*: each of the first two is wrong in at most (1 − confidence)/2 of cases. *not measurable*
    without a mean.
    """
    if np.isnan(found["mean"]):
        return "not measurable"
    if found["low"] > margin:
        return "distinct"
    return "not distinct" if found["high"] < margin else "undecided"


def rate_interval(successes: int, trials: int, confidence: float) -> dict[str, float]:
    """A rate with its exact (Clopper–Pearson) interval."""
    tail, failures = (1 - confidence) / 2, trials - successes
    low = special.betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
    return {"rate": successes / trials, "low": float(low), "high": float(high)}
