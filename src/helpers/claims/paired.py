"""What changed from one model to another on the same prompts, with an interval over the prompts.

Of yes or no (refused, right) the interval is exact: with u prompts that went from no to yes and d that went back, the
change is (u − d) / n, and Clopper and Pearson's bounds of both shares, each at half the error, bound their difference
whatever the prompts are. So of n prompts without a change the interval is not zero wide, as a bootstrap's would be. Of
numbers (margins) it is the bias-corrected bootstrap of the mean difference.
"""

from dataclasses import dataclass

import numpy as np

from helpers.errors import StudyError

RESAMPLES = 4000


@dataclass(frozen=True)
class Change:
    """Mean of a measure before and after, their difference, and its interval over the prompts."""

    before: float
    after: float
    difference: float
    low: float
    high: float
    prompts: int  # that have a value in both
    method: str  # exact or bootstrap

    @property
    def moved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def change(before: np.ndarray, after: np.ndarray, confidence: float = 0.95) -> Change:
    """The change of a measure over prompts (n,), in the same order; a prompt without one of both values is left out.

    Raises StudyError for different prompts, or fewer than two.
    """
    if len(before) != len(after):
        raise StudyError(f"{len(before)} and {len(after)} prompts cannot be compared one by one: ask both the same")
    known = ~np.isnan(before) & ~np.isnan(after)
    a, b = before[known].astype(float), after[known].astype(float)
    if len(a) < 2:
        raise StudyError("fewer than two prompts have a value in both models: ask more prompts")
    exact = set(np.unique([a, b])) <= {0.0, 1.0}
    low, high = _exact(a, b, confidence) if exact else _bootstrap(b - a, confidence)
    difference = float((b - a).mean())
    return Change(float(a.mean()), float(b.mean()), difference, low, high, len(a), "exact" if exact else "bootstrap")


def _exact(before: np.ndarray, after: np.ndarray, confidence: float) -> tuple[float, float]:
    from scipy.stats import beta  # here, because it takes a second that other readers of tables need not wait

    n, tail = len(before), (1 - confidence) / 4  # of each bound of each share

    def bounds(count: int) -> tuple[float, float]:
        low = beta.ppf(tail, count, n - count + 1) if count else 0.0
        return low, beta.ppf(1 - tail, count + 1, n - count) if count < n else 1.0

    up, down = (bounds(int((sign * (after - before) > 0).sum())) for sign in (1, -1))
    return float(up[0] - down[1]), float(up[1] - down[0])


def _bootstrap(differences: np.ndarray, confidence: float) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return float(differences.mean()), float(differences.mean())
    rng = np.random.default_rng(0)
    found = bootstrap((differences,), np.mean, n_resamples=RESAMPLES, confidence_level=confidence, rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
