"""How fast an update enters a subspace: slopes of logarithms, beside what gradient flow predicts."""

import numpy as np
import pandas as pd

from helpers.claims.over_seeds import over_seeds
from helpers.errors import StudyError

PREDICTED = {"alignment": 2.0, "refusals": 2.0, "random": 1.0, "all": 1.0, "refusal_loss": 4.0}
RANGES = {"first 16 steps": 16, "all steps": np.inf}
KEYS = ["task", "optimiser", "of", "steps"]


def slopes(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Slopes of log displacement, and of the log rise of the refusals' loss, on log steps: ``time_course_summary``.

    Least squares over 1, 2, 4 … steps, of each seed. Where a rise is not positive at every one of them the seed has no
    slope and does not count in ``seeds``. Raises StudyError where there is nothing to take a slope of.
    """
    if table.empty:
        raise StudyError(
            "no time course was measured in these results: run notebooks/27_time_course.ipynb of each seed"
        )
    moved = table[table["quantity"] == "moved"]
    loss = table[table["quantity"] == "refusal_loss"].assign(of="refusal_loss")
    found = []
    for key, rows in pd.concat([moved, loss]).groupby(["seed", *KEYS[:3]], sort=False):
        values = rows.set_index("step")["value"].sort_index()
        rise = (values - values.loc[0]).drop(0)
        named = dict(zip(("seed", *KEYS[:3]), key, strict=True))
        found += [named | {"steps": name, "slope": _slope(rise[rise.index <= last])} for name, last in RANGES.items()]
    summary = over_seeds(pd.DataFrame(found), KEYS, "slope", confidence)
    return summary.assign(predicted=summary["of"].map(PREDICTED))


def _slope(rise: pd.Series) -> float:
    """Slope on logarithmic axes; NaN of fewer than two points, or where one is not positive."""
    if len(rise) < 2 or not (rise > 0).all():
        return float("nan")
    return float(np.polyfit(np.log(rise.index.to_numpy(float)), np.log(rise.to_numpy(float)), 1)[0])
