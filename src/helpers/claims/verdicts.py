"""The verdicts: what the ledger's criteria say of the statistics, and whether each claim's safety is found distinct."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers.claims.inference import decide, hedges_g, holm, rate_interval, sign_flip_test
from helpers.claims.over_seeds import interval
from helpers.studies.ledger import Claim, Criterion, since
from helpers.studies.settings import Study

NOT_TESTED = "not tested"


def outcome(criterion: Criterion, found: dict[str, float]) -> str:
    """``holds`` if the whole interval meets the bounds, ``direction`` if only the mean does or beats ``neutral``."""
    low, high, mean = found["low"], found["high"], found["mean"]
    lower = -np.inf if criterion.at_least is None else criterion.at_least
    upper = np.inf if criterion.at_most is None else criterion.at_most
    if lower <= low and high <= upper:
        return "holds"
    neutral = criterion.neutral
    beats_neutral = neutral is not None and (mean > neutral if criterion.at_least is not None else mean < neutral)
    return "direction" if lower <= mean <= upper or beats_neutral else "fails"


def judge_criteria(study: Study, statistics: pd.DataFrame, claims: Mapping[str, Claim] | None = None) -> pd.DataFrame:
    """Interval and outcome of every criterion of every claim (of the study's, unless some are given).

    A criterion without results is not tested.
    """
    rows = []
    for claim, entry in (claims or study.claims).items():
        for criterion in entry.criteria:
            values = _values(statistics, claim, criterion.statistic)
            found = interval(values, study.confidence)
            rows.append(
                {
                    "study": study.name,
                    "claim": claim,
                    "statistic": criterion.statistic,
                    "criterion": criterion.wording(),
                    **found,
                    "outcome": outcome(criterion, found) if len(values) else NOT_TESTED,
                }
            )
    return pd.DataFrame(rows)


def _values(statistics: pd.DataFrame, claim: str, name: str) -> pd.Series:
    """A statistic of a claim, one value for each seed that has one."""
    own = (statistics["claim"] == claim) & (statistics["statistic"] == name)
    return statistics.loc[own, "value"].dropna()


def distinctness(study: Study, statistics: pd.DataFrame) -> pd.DataFrame:
    """For each claim whether what it speaks of is found distinct, by the statistic and the margin of the ledger.

    ``decision`` is over seeds; ``share_of_seeds`` is the share of seeds whose own value is above the margin, with its
    exact interval. ``p`` is that of the mean being above the margin, by flipping the signs of the seeds, ``p_holm``
    corrected for the number of claims, and ``g`` the distance from the margin in standard deviations over seeds.
    """
    rows = []
    for claim, entry in study.claims.items():
        if entry.distinct is not None:
            name, margin = entry.distinct.statistic, entry.distinct.margin
            values = _values(statistics, claim, name)
            found = interval(values, study.confidence)
            decision = decide(values.to_numpy(float), margin, study.confidence) if len(values) else NOT_TESTED
            beyond = _beyond(values.to_numpy(float) - margin, study.confidence)
            own = {"study": study.name, "claim": claim, "statistic": name, "margin": margin}
            rows.append({**own, **found, "decision": decision, **beyond})
    table = pd.DataFrame(rows)
    known = table["p"].notna()
    table.loc[known, "p_holm"] = holm(table.loc[known, "p"].to_numpy())
    return table


def _beyond(excess: np.ndarray, confidence: float) -> dict[str, float]:
    """How far a statistic is beyond its margin, from one value per seed minus the margin (seeds,)."""
    none = dict.fromkeys(("share_of_seeds", "share_low", "share_high", "p", "p_holm", "g"), float("nan"))
    if not len(excess):
        return none
    rate = rate_interval(int((excess > 0).sum()), len(excess), confidence)
    found = {"share_of_seeds": rate["rate"], "share_low": rate["low"], "share_high": rate["high"]}
    if len(excess) > 1:
        found |= {"p": sign_flip_test(excess), "g": hedges_g(excess)}
    return none | found


def verdicts(study: Study, criteria: pd.DataFrame, records: Iterable[dict] = ()) -> pd.DataFrame:
    """One verdict per claim, and whether its entry in the ledger is the one that the ``records`` of the seeds hold.

    *reproduced*: every criterion holds; *not reproduced*: a core criterion fails; *direction only*: anything between.
    """
    records = list(records)
    rows = []
    for claim, entry in study.claims.items():
        recorded = {"ledger": entry.hash, "ledger_then": since(claim, entry, records)}
        judged = judged_claim(entry, criteria[criteria["claim"] == claim])
        rows.append({"study": study.name, "claim": claim, "statement": entry.statement, **judged, **recorded})
    return pd.DataFrame(rows)


def judged_claim(entry: Claim, criteria: pd.DataFrame) -> dict:
    """The verdict of a claim, and its weakest criterion: of the core ones, or of all where every core one holds."""
    own = criteria.reset_index(drop=True)
    core = own[[criterion.core for criterion in entry.criteria]]
    rank = {"fails": 0, NOT_TESTED: 1, "direction": 2, "holds": 3}
    weakest = core if (core["outcome"] != "holds").any() else own
    deciding = weakest.loc[weakest["outcome"].map(rank).idxmin()]
    verdict = {"verdict": _verdict(own["outcome"], core["outcome"]), "deciding": deciding["statistic"]}
    return verdict | dict(deciding[["criterion", "mean", "low", "high", "seeds"]])


def _verdict(all_outcomes: pd.Series, core: pd.Series) -> str:
    if (core == NOT_TESTED).any():
        return NOT_TESTED
    if (core == "fails").any():
        return "not reproduced"
    return "reproduced" if (all_outcomes == "holds").all() else "direction only"


def power_with(power: pd.DataFrame, claim: str, name: str, seeds: int) -> pd.Series | None:
    """The row of ``power`` for a claim's statistic with the most seeds that are no more than ``seeds``, if any."""
    own = power[(power["claim"] == claim) & (power["statistic"] == name) & (power["seeds"] <= seeds)]
    return None if own.empty else own.loc[own["seeds"].idxmax()]
