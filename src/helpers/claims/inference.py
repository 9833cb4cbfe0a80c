"""Inference over few seeds: hierarchical bootstrap, permutation and equivalence tests, effect sizes, power.

The seed is the unit of replication and the prompts of a seed are a sample within it. ``helpers.claims.over_seeds`` has the
plain t interval; what is here says how sure one may be of a difference, and of the absence of one. Derivations are in
the chapter on statistics of the book, and ``benchmarks.coverage`` measures the coverage on data with a known truth.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import optimize, special, stats

from helpers.claims.over_seeds import interval

Decision = Literal["distinct", "not distinct", "undecided"]
Alternative = Literal["two-sided", "greater", "less"]
EXACT = 2**16  # permutations up to which all are made: exact for up to 16 seeds


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
    half = float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))
    spread = {"seed_sd": float(np.sqrt(between)), "prompt_sd": float(np.sqrt(within))}
    units = {"seeds": n, "prompts": prompts, "over": "seeds" if n > 1 else "prompts"}
    return {"mean": mean, "low": mean - half, "high": mean + half, **spread, **units}


def hierarchical_bootstrap(
    values: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    ids: Sequence[np.ndarray] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, float | str]:
    """Bootstrap over prompts within seeds and over seeds, corrected for counting the prompts twice.

    ``values``: per seed an array (prompts, variants); ``statistic``: a function of the means over prompts (variants,),
    so variants are always compared on the same prompts. ``ids``: the prompts' names per seed, where seeds share some.
    Returns mean, low, high, seed_sd, prompt_sd, seeds, prompts and over ("seeds" or "prompts").

    Resampling seeds and then prompts has, for the mean over n seeds, the expected variance
    ((n−1)/n) E[S²]/n + W/n where the true one is E[S²]/n, S² being the variance of the seeds' estimates and W the
    part of it that is due to prompts: too much by nearly W/n, and too little by the factor (n−1)/n. Taking W/n off and
    dividing by (n−1)/n gives S²/n exactly, so that is computed (``combine``), with a t quantile.
    """
    starts = np.cumsum([0, *map(len, values)])
    names = [start + np.arange(len(v)) for start, v in zip(starts, values, strict=False)] if ids is None else ids
    pairs = [len(np.intersect1d(a, b)) / len(a) for a, b in combinations(names, 2)]
    weights = prompt_weights(names, replicates, np.random.default_rng(seed))
    estimates = np.array([statistic(np.mean(v, axis=0)) for v in values])
    drawn = np.array([[statistic(means) for means in w @ v] for w, v in zip(weights, values, strict=True)])
    return combine(estimates, drawn, min(len(v) for v in values), confidence, float(np.mean(pairs or [0])))


def sign_flip_test(values: np.ndarray, alternative: Alternative = "two-sided") -> float:
    """p value of the mean of one paired difference per seed against 0, by flipping signs; exact up to 16 seeds.

    With n seeds it cannot be below 1/2ⁿ (one-sided), which no number of prompts changes.
    """
    return _permuted((values,), lambda x, axis: np.mean(x, axis=axis), "samples", alternative)


def exchange_test(
    first: np.ndarray, second: np.ndarray, paired: bool = True, alternative: Alternative = "two-sided"
) -> float:
    """p value of the difference of two means over prompts when labels are exchanged, within each prompt if ``paired``.

    It speaks of the prompts of one seed, and says nothing about other seeds.
    """
    kind = "samples" if paired else "independent"
    return _permuted((first, second), lambda x, y, axis: np.mean(x, axis) - np.mean(y, axis), kind, alternative)


def _permuted(data: tuple[np.ndarray, ...], statistic: Callable, kind: str, alternative: Alternative) -> float:
    samples = tuple(np.asarray(sample, float) for sample in data)
    rng = np.random.default_rng(0)
    size = EXACT if len(samples[0]) <= 16 else 9999
    options = {"permutation_type": kind, "vectorized": True, "n_resamples": size, "alternative": alternative}
    return float(stats.permutation_test(samples, statistic, rng=rng, **options).pvalue)


def tost(values: np.ndarray, low: float, high: float) -> dict[str, float]:
    """Two one-sided t tests (Schuirmann 1987): is the mean over seeds within (low, high)?

    ``p`` is the larger of the two; below 0.05 the 90 % interval lies within the margin. NaN for fewer than two seeds.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return {"mean": float(np.mean(values)), "p_low": np.nan, "p_high": np.nan, "p": np.nan}
    above = float(_one_sided(values - low))
    below = float(_one_sided(high - values))
    return {"mean": float(values.mean()), "p_low": above, "p_high": below, "p": max(above, below)}


def _one_sided(values: np.ndarray) -> float:
    """p value of a mean above 0; values that do not vary decide by their sign."""
    if np.ptp(values) == 0:
        return 0.0 if values[0] > 0 else 1.0
    return stats.ttest_1samp(values, 0, alternative="greater").pvalue


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


def adjusted(p: np.ndarray, method: Literal["holm", "bh"] = "holm") -> np.ndarray:
    """p values corrected for their number: Holm (family-wise error) or Benjamini–Hochberg (false discovery rate)."""
    p = np.asarray(p, float)
    if method == "bh":
        return stats.false_discovery_control(p, method="bh")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(steps, 1)
    return found


def hedges_g(values: np.ndarray, confidence: float) -> dict[str, float]:
    """Standardised mean of paired differences, Hedges' g, with its noncentral t interval; NaN without variation."""
    values = np.asarray(values, float)
    n = len(values)
    if n < 2 or np.ptp(values) == 0:
        return {"g": np.nan, "low": np.nan, "high": np.nan}
    t = float(values.mean() / stats.sem(values))
    freedom = n - 1
    small = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    correction = small if freedom > 1 else 1.0  # is not defined for two values
    ends = [_noncentrality(t, freedom, p) for p in ((1 + confidence) / 2, (1 - confidence) / 2)]
    g, low, high = (correction * x / np.sqrt(n) for x in (t, *ends))
    return {"g": float(g), "low": float(low), "high": float(high)}


def _noncentrality(t: float, freedom: int, p: float) -> float:
    """The noncentrality with which a t variable is below ``t`` with probability ``p``."""

    def lacking(nc: float) -> float:
        found = stats.nct.cdf(t, freedom, nc)
        return (float(nc < t) if np.isnan(found) else found) - p  # NaN only where nc is far from t

    width = 10 + 5 * abs(t)
    return optimize.brentq(lacking, t - width, t + width)


def rate_interval(successes: int, trials: int, confidence: float) -> dict[str, float]:
    """A rate with its exact (Clopper–Pearson) interval."""
    found = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="exact")
    return {"rate": successes / trials, "low": float(found.low), "high": float(found.high)}


def power_of(mean: float, sd: float, margin: float, seeds: int, confidence: float) -> float:
    """Probability that the lower end of the t interval over ``seeds`` seeds is above the margin (noncentral t)."""
    if not seeds > 1 or np.isnan(mean) or np.isnan(sd):
        return float("nan")
    if sd == 0:
        return float(mean > margin)
    quantile = stats.t.ppf((1 + confidence) / 2, seeds - 1)
    return float(stats.nct.sf(quantile, seeds - 1, (mean - margin) * np.sqrt(seeds) / sd))


def effect_needed(sd: float, margin: float, seeds: int, power: float = 0.8, confidence: float = 0.95) -> float:
    """The mean that a statistic must have to be found distinct with this power, in the statistic's own unit."""
    if not seeds > 1 or np.isnan(sd):
        return float("nan")
    quantile = float(stats.t.ppf((1 + confidence) / 2, seeds - 1))

    def lacking(excess: float) -> float:
        return power_of(excess, 1.0, 0.0, seeds, confidence) - power

    return margin + sd * optimize.brentq(lacking, 0.0, (10 + 5 * quantile) / np.sqrt(seeds))


def response(dial: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A response curve made monotone: dials in order, mean over seeds at each (isotonic fit), SD pooled over dials.

    ``values``: (dials, seeds); NaN where a seed has no value. The SD is NaN if no dial has two seeds.
    """
    dial, values = np.asarray(dial, float), np.asarray(values, float)
    order, counts = np.argsort(dial), np.sum(~np.isnan(values), axis=1)
    known, rows = order[counts[order] > 0], counts > 1
    means = optimize.isotonic_regression(np.nanmean(values[known], axis=1), weights=counts[known]).x
    squares = np.nanvar(values[rows], axis=1, ddof=1) * (counts[rows] - 1)
    sd = float(np.sqrt(squares.sum() / (counts[rows] - 1).sum())) if rows.any() else float("nan")
    return dial[known], means, sd


def detectable(
    dial: np.ndarray, values: np.ndarray, margin: float, seeds: int, power: float = 0.8, confidence: float = 0.95
) -> float:
    """The smallest dial of a graded control at which ``seeds`` seeds find it distinct with this power; NaN if none.

    ``values``: the statistic, (dials, seeds). The response is linear between dials.
    """
    dials, means, sd = response(dial, values)
    needed = effect_needed(sd, margin, seeds, power, confidence)
    if np.isnan(needed) or means[-1] < needed:
        return float("nan")
    place = int(np.argmax(means >= needed))
    if place == 0:
        return float(dials[0])
    share = (needed - means[place - 1]) / (means[place] - means[place - 1])
    return float(dials[place - 1] + share * (dials[place] - dials[place - 1]))


def seeds_needed(
    dial: np.ndarray,
    values: np.ndarray,
    margin: float,
    at: float,
    power: float = 0.8,
    confidence: float = 0.95,
    most: int = 1000,
) -> float:
    """Seeds with which a control at dial ``at`` is found distinct with this power; NaN if more than ``most``.

    No number of seeds finds a dial whose mean response is below the margin.
    """
    dials, means, sd = response(dial, values)
    mean = float(np.interp(at, dials, means))
    if np.isnan(sd) or mean <= margin or power_of(mean, sd, margin, most, confidence) < power:
        return float("nan")
    low, high = 1, most  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(mean, sd, margin, middle, confidence) >= power else (middle, high)
    return float(high)
