"""What the method could have seen: response curves of the graded control, and the smallest effect detected."""

import numpy as np
import pandas as pd

from helpers.claims.inference import detectable, effect_needed, response, seeds_needed
from helpers.claims.over_seeds import over_seeds
from helpers.studies.settings import Study

POWER = 0.8
SEEDS = (2, 3, 5, 10, 20)  # numbers of seeds for which the power is given


def response_curves(study: Study, graded: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of each claim's statistic at each place of the dial: table ``graded_summary``."""
    return over_seeds(graded, ["claim", "statistic", "dial"], "value", study.confidence)


def power_table(study: Study, graded: pd.DataFrame) -> pd.DataFrame:
    """For each claim and number of seeds: what is detected with 80 % power: table ``power``.

    ``smallest_detectable``: the place of the dial, from 0 (nothing planted) to 1; ``effect``: the mean that the
    statistic must have, in its own unit, with the spread over seeds of the graded control; ``seeds_for_half``: seeds
    that would detect half of that place. NaN where no number of seeds up to a thousand does.
    """
    rows = []
    for (claim, statistic), group in graded.groupby(["claim", "statistic"], sort=False):
        table = group.pivot(index="dial", columns="seed", values="value")
        dial, values = table.index.to_numpy(), table.to_numpy()  # (dials,), (dials, seeds)
        margin, spread = study.claims[claim].distinct.margin, response(dial, values)[2]
        for seeds in SEEDS:
            asked = {"power": POWER, "confidence": study.confidence}
            smallest = detectable(dial, values, margin, seeds, **asked)
            rows.append(
                {
                    "claim": claim,
                    "statistic": statistic,
                    "margin": margin,
                    "seeds": seeds,
                    "power": POWER,
                    "smallest_detectable": smallest,
                    "effect": effect_needed(spread, margin, seeds, **asked),
                    "seeds_for_half": _seeds(dial, values, margin, smallest / 2, asked),
                }
            )
    return pd.DataFrame(rows)


def _seeds(dial: np.ndarray, values: np.ndarray, margin: float, at: float, asked: dict[str, float]) -> float:
    return float("nan") if np.isnan(at) else seeds_needed(dial, values, margin, at, **asked)
