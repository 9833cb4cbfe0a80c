"""What the method could have seen: response curves of the graded control, and the smallest effect detected.

Modules of scipy are imported where they are used: most who read this module's tables need none of them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.claims.over_seeds import over_seeds, t_quantile
from helpers.studies.settings import Study

POWER = 0.8
SEEDS = (2, 3, 5, 10, 20)  # numbers of seeds for which the power is given


def grid_of(study: Study, claim: str) -> list:
    """What the statistics of a claim average over: fractions k, energy fractions η, and the band of layers."""
    activations = study.activation_overlap
    grids = {"C3": [study.update_overlap.energy_fractions], "C4": [activations.energy_fractions, activations.band]}
    return grids.get(claim, [study.projection.fractions])


def on_grid(study: Study, control: Study, power: pd.DataFrame) -> pd.DataFrame:
    """The rows of the control's table ``power`` that hold for a study: of claims on the same grid.

    On another one the same statistic has another mean and spread.
    """
    same = {name: grid_of(study, name) == grid_of(control, name) for name in power["claim"].unique()}
    return power[power["claim"].map(same).astype(bool)]


def response_curves(study: Study, graded: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of each claim's statistic at each place of the dial: table ``graded_summary``."""
    return over_seeds(graded, ["claim", "statistic", "dial"], "value", study.confidence)


def power_table(study: Study, graded: pd.DataFrame) -> pd.DataFrame:
    """For each claim and number of seeds: what is detected with 80 % power, table ``power``.

    A claim is distinct when all of its strict statistics are, so it is shown by the last of them to be detected; one
    that could not be measured is never detected.
    ``smallest_detectable``: the place of the dial, from 0 (nothing planted) to 1; ``effect``: the mean that the
    statistic must have, in its own unit, with the spread over seeds of the graded control; ``seeds_for_half``: seeds
    that would detect half of that place. NaN where no number of seeds up to a thousand does.
    """
    margins = {guard.statistic: guard.margin for claim in study.claims.values() for guard in claim.strict}
    rows = [
        row
        for (claim, statistic), group in graded.groupby(["claim", "statistic"], sort=False)
        for row in _powers(claim, statistic, margins[statistic], group, study.confidence)
    ]
    table = pd.DataFrame(rows)
    last = table["smallest_detectable"].fillna(np.inf).groupby([table["claim"], table["seeds"]]).idxmax()
    return table.loc[sorted(last)].reset_index(drop=True)


def _powers(claim: str, statistic: str, margin: float, group: pd.DataFrame, confidence: float) -> Iterator[dict]:
    """The rows of one statistic, one for each number of seeds."""
    table = group.pivot(index="dial", columns="seed", values="value")
    dial, values = table.index.to_numpy(), table.to_numpy()  # (dials,), (dials, seeds)
    asked = {"power": POWER, "confidence": confidence}
    for seeds in SEEDS:
        smallest = detectable(dial, values, margin, seeds, **asked)
        yield {
            "claim": claim,
            "statistic": statistic,
            "margin": margin,
            "seeds": seeds,
            "power": POWER,
            "smallest_detectable": smallest,
            "effect": effect_needed(response(dial, values)[2], margin, seeds, **asked),
            "seeds_for_half": _seeds(dial, values, margin, smallest / 2, asked),
        }


def _seeds(dial: np.ndarray, values: np.ndarray, margin: float, at: float, asked: dict[str, float]) -> float:
    return float("nan") if np.isnan(at) else seeds_needed(dial, values, margin, at, **asked)


def power_of(mean: float, sd: float, margin: float, seeds: int, confidence: float) -> float:
    """Probability that the lower end of the t interval over ``seeds`` seeds is above the margin (noncentral t)."""
    if not seeds > 1 or np.isnan(mean) or np.isnan(sd):
        return float("nan")
    if sd == 0:
        return float(mean > margin)
    from scipy import stats

    return float(stats.nct.sf(t_quantile(confidence, seeds - 1), seeds - 1, (mean - margin) * np.sqrt(seeds) / sd))


def effect_needed(sd: float, margin: float, seeds: int, power: float = 0.8, confidence: float = 0.95) -> float:
    """The mean that a statistic must have to be found distinct with this power, in the statistic's own unit."""
    if not seeds > 1 or np.isnan(sd):
        return float("nan")
    from scipy import optimize

    quantile = t_quantile(confidence, seeds - 1)

    def lacking(excess: float) -> float:
        return power_of(excess, 1.0, 0.0, seeds, confidence) - power

    return margin + sd * optimize.brentq(lacking, 0.0, (10 + 5 * quantile) / np.sqrt(seeds))


def response(dial: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A response curve made monotone: dials in order, mean over seeds at each (isotonic fit), SD pooled over dials.

    ``values``: (dials, seeds); NaN where a seed has no value. The SD is NaN if no dial has two seeds.
    """
    from scipy import optimize

    dial, values = np.asarray(dial, float), np.asarray(values, float)
    order, counts = np.argsort(dial), np.sum(~np.isnan(values), axis=1)
    known, rows = order[counts[order] > 0], counts > 1
    means = np.nanmean(values[known], axis=1)
    if len(known):
        means = optimize.isotonic_regression(means, weights=counts[known]).x
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
