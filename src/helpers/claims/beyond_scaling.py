"""What single points of the bench do beyond a scaled update of equal utility, as shares of what fine-tuning raised."""

import pandas as pd

from helpers.claims.matched import scaled_at
from helpers.claims.over_seeds import share

SCALING = "scaling"


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table ``bench`` with shares of utility and harm, and what scaling does at equal utility.

    ``beyond`` and ``beyond_judged`` are S by margins and by the judge; ``worse`` is the perplexity over that of the
    scaled update and ``second_change`` the second utility less that update's, nats. Of each, scaling of the same seed
    and half of the prompts is what is compared with.
    """
    parts = []
    for _, rows in table.groupby(["seed", "split"], sort=False):
        curve = rows[rows["method"] == SCALING].set_index("dial").sort_index()
        ends = {m: (curve.loc[0.0, m], curve.loc[1.0, m]) for m in ("utility", "utility_margin", "harm", "harm_margin")}
        at, exact, harm, judged = (
            share(rows[m].to_numpy(float), *ends[m]) for m in ("utility_margin", "utility", "harm_margin", "harm")
        )
        on = pd.Series(share(curve["utility_margin"].to_numpy(float), *ends["utility_margin"]), curve.index)
        scaled = {m: scaled_at(on, curve[m], at) for m in ("harm", "harm_margin", "perplexity", "second_utility")}
        parts.append(
            rows.assign(
                utility_share=at,
                exact_share=exact,
                harm_share=harm,
                judged_share=judged,
                beyond=share(scaled["harm_margin"], *ends["harm_margin"]) - harm,
                beyond_judged=share(scaled["harm"], *ends["harm"]) - judged,
                worse=rows["perplexity"].to_numpy(float) / scaled["perplexity"],
                second_change=rows["second_utility"].to_numpy(float) - scaled["second_utility"],
            )
        )
    return pd.concat(parts, ignore_index=True)
