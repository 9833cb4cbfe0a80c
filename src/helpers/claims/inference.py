"""Inference over few seeds: intervals over seeds and prompts, decisions, sign flips, effect sizes, exact rates.

The seed is the unit of replication and the prompts of a seed are a sample within it. ``helpers.claims.over_seeds`` has
the plain t interval; what is here says how sure one may be of a difference, and of the absence of one. Derivations are
in the chapter on statistics of the book, and ``benchmarks.coverage`` measures the coverage on data with a known truth.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special

from helpers.claims.over_seeds import interval, t_quantile

Decision = Literal["distinct", "not distinct", "undecided"]
EXACT = 16  # seeds up to which all changes of sign are made


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
    estimates: np.ndarray, replicates: np.ndarray, prompts: int, confidence: float, shared: float = 0.0
) -> dict[str, float | str]:
    """Interval of the mean over seeds from one estimate (seeds,) and bootstrap replicates (seeds, B) per seed.

    With S² the variance of the estimates over seeds and c the mean covariance that shared prompts cause between seeds,
    the mean has variance S²/n + c. ``prompts``: prompts of a seed; ``shared``: the share of them that two seeds have in
    common, which bounds c. ``seed_sd`` is the SD between seeds without that of
    the prompts, ``prompt_sd`` the SD that the choice of prompts gives one seed, both in units of the statistic. One
    seed: the interval is over its prompts alone, and ``over`` says so.
    """
    estimates, replicates = np.asarray(estimates, float), np.atleast_2d(replicates)
    n, mean = len(estimates), float(np.mean(estimates))
    covariance = np.atleast_2d(np.cov(replicates)) * (prompts + 1) / (prompts - 1)  # Dirichlet weights vary less
    within = float(np.mean(np.diag(covariance)))
    between, common, variance, freedom = float("nan"), 0.0, within, float(prompts - 1)
    if n > 1:
        total = float(estimates.var(ddof=1))
        common = float(np.clip(covariance[~np.eye(n, dtype=bool)].mean(), 0.0, shared * within))
        between, variance = max(0.0, total - (within - common)), total / n + common
        parts = (total / n) ** 2 / (n - 1) + common**2 / (prompts - 1)
        freedom = variance**2 / parts if parts else n - 1  # Satterthwaite
    half = t_quantile(confidence, freedom) * float(np.sqrt(variance))
    spread = {"seed_sd": float(np.sqrt(between)), "prompt_sd": float(np.sqrt(within))}
    units = {"seeds": n, "prompts": prompts, "over": "seeds" if n > 1 else "prompts"}
    return {"mean": mean, "low": mean - half, "high": mean + half, **spread, **units}


def sign_flip_test(values: np.ndarray) -> float:
    """p value of the mean of one paired difference per seed being above 0, by flipping signs; exact up to 16 seeds.

    With n seeds it cannot be below 1/2ⁿ, which no number of prompts changes.
    """
    values = np.asarray(values, float)
    if len(values) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1)  # (2ⁿ, seeds)
        flipped = np.mean(signs * values, axis=1)
        return float(np.mean(flipped >= values.mean() - 1e-14 * abs(values.mean())))
    from scipy import stats  # a second of import, for so many seeds alone

    options = {"permutation_type": "samples", "vectorized": True, "n_resamples": 9999, "alternative": "greater"}
    return float(stats.permutation_test((values,), np.mean, rng=np.random.default_rng(0), **options).pvalue)


def decide(values: np.ndarray, margin: float, confidence: float) -> Decision:
    """Is a statistic over seeds beyond its margin? Positive values mean separable.

    *distinct* if the whole t interval lies above the margin, *not distinct* if it lies below (an equivalence test of
    one side), else *undecided*: each of the first two is wrong in at most (1 − confidence)/2 of cases.
    """
    known = np.asarray(values, float)
    found = interval(known[~np.isnan(known)], confidence)
    if found["low"] > margin:
        return "distinct"
    return "not distinct" if found["high"] < margin else "undecided"


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number by Holm, which bounds the family-wise error."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(steps, 1)[np.argsort(order)]


def hedges_g(values: np.ndarray) -> float:
    """Standardised mean of paired differences, Hedges' g; NaN without variation."""
    values = np.asarray(values, float)
    freedom = len(values) - 1
    if freedom < 1 or np.ptp(values) == 0:
        return float("nan")
    small = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    correction = small if freedom > 1 else 1.0  # is not defined for two values
    return float(correction * values.mean() / values.std(ddof=1))


def rate_interval(successes: int, trials: int, confidence: float) -> dict[str, float]:
    """A rate with its exact (Clopper–Pearson) interval."""
    tail, failures = (1 - confidence) / 2, trials - successes
    low = special.betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
    return {"rate": successes / trials, "low": float(low), "high": float(high)}
