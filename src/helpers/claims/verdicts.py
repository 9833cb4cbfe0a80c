"""The two verdicts on a claim: whether the paper's statement is seen, and whether anything is strictly distinct.

Both rest on whole intervals (``intervals``): over seeds and prompts where single prompts were kept, else over seeds.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers.claims.inference import decision, rate_interval
from helpers.claims.over_seeds import interval
from helpers.studies.ledger import Claim, Criterion, since
from helpers.studies.settings import Study

NOT_TESTED, NOT_MEASURABLE, NO_RISE = "not tested", "not measurable", "no sure rise"
STATED = ("no", NOT_MEASURABLE, "undecided", "direction", "yes")  # from the weakest on
STRICT = ("not distinct", NOT_MEASURABLE, "undecided", "distinct")
FOUND = ["mean", "low", "high", "seeds", "over"]
PART = "some of the seeds"  # in the place of what an interval is over, where others lack the number
AGREE = 1e-4  # largest difference of a published mean to the one that is computed: tables are published with six digits


def intervals(study: Study, statistics: pd.DataFrame, uncertainty: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of every statistic, by claim and statistic: columns mean, low, high, seeds, over.

    Of ``claim_uncertainty`` where it has one, which knows of shared prompts; else a t interval over seeds. ``over``
    says where some seeds lack the statistic, which they hardly do by chance.
    """
    known = uncertainty.set_index(["claim", "statistic"])
    rows = {}
    for key, values in statistics.groupby(["claim", "statistic"], sort=False)["value"]:
        found = interval(values.dropna().to_numpy(), study.confidence) | {"over": "seeds"}
        rows[key] = known.loc[key, FOUND].to_dict() if key in known.index and found["seeds"] else found
        if 0 < found["seeds"] < len(values):
            rows[key]["over"] = PART
    return pd.DataFrame.from_dict(rows, orient="index", columns=FOUND)


def agreeing(published: pd.DataFrame, statistics: pd.DataFrame) -> pd.DataFrame:
    """The rows of a published table ``claim_uncertainty`` whose mean is the one that the statistics at hand have.

    Published results come without single prompts, so that the interval that knows of them cannot be made again.
    """
    means = statistics.groupby(["claim", "statistic"])["value"].mean()
    own = means.reindex(pd.MultiIndex.from_frame(published[["claim", "statistic"]])).to_numpy(float)
    return published[np.isclose(own, published["mean"].to_numpy(float), rtol=0, atol=AGREE)].reset_index(drop=True)


def outcome(criterion: Criterion, found: Mapping[str, float]) -> str:
    """*yes* if the whole interval meets the bounds, *no* if none of it does and the mean is not even beyond neutral.

    *direction* if the mean meets the bounds or is beyond neutral, else *undecided*. A number without an interval, as of
    a single seed, is taken as it is, as the paper's own are; not if several seeds were run and the others lack it.
    """
    mean = found["mean"]
    low, high = _ends(found)
    if np.isnan(mean):
        return NOT_MEASURABLE
    lower = -np.inf if criterion.at_least is None else criterion.at_least
    upper = np.inf if criterion.at_most is None else criterion.at_most
    if lower <= low and high <= upper:
        return "yes"
    neutral = criterion.neutral
    points = neutral is not None and (mean > neutral if criterion.at_least is not None else mean < neutral)
    if lower <= mean <= upper or points:
        return "direction"
    return "no" if high < lower or low > upper else "undecided"


def _ends(found: Mapping[str, float]) -> tuple[float, float]:
    """An interval; of a number without one that number, or everything where it is of one of several seeds."""
    if np.isnan(found["low"]):
        return (-np.inf, np.inf) if found.get("over") == PART else (found["mean"], found["mean"])
    return found["low"], found["high"]


def stated_table(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """What was found of every criterion of the paper's statements: table ``stated``."""
    rows = [
        {"study": study.name, "claim": name, "statistic": criterion.statistic, "criterion": criterion.wording()}
        | (own := _of(found, name, criterion.statistic))
        | {"outcome": outcome(criterion, own) if own["seeds"] or name in found.index else NOT_TESTED}
        for name, claim in study.claims.items()
        for criterion in claim.stated
    ]
    return pd.DataFrame(rows)


def strict_table(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """What was found of every statistic that must pass its margin for a claim to be distinct: table ``strict``."""
    rows = [
        {"study": study.name, "claim": name, "statistic": guard.statistic, "margin": guard.margin}
        | (own := _of(found, name, guard.statistic))
        | {"decision": _decided(own, guard.margin) if own["seeds"] or name in found.index else NOT_TESTED}
        for name, claim in study.claims.items()
        for guard in claim.strict
    ]
    return pd.DataFrame(rows)


def _decided(found: Mapping[str, float], margin: float) -> str:
    """The decision on a statistic; what some of the seeds lack is not distinct in them."""
    decided = decision(found, margin)
    return "undecided" if decided == "distinct" and found["over"] == PART else decided


def _of(found: pd.DataFrame, claim: str, statistic: str) -> dict:
    key = (claim, statistic)
    if key in found.index:
        return found.loc[key].to_dict()
    return {"mean": np.nan, "low": np.nan, "high": np.nan, "seeds": 0, "over": ""}


def verdict_table(
    study: Study,
    statistics: pd.DataFrame,
    found: pd.DataFrame,
    stated: pd.DataFrame,
    strict: pd.DataFrame,
    records: Iterable[dict] = (),
) -> pd.DataFrame:
    """Both verdicts on every claim with the statistic that decides each: table ``verdicts``.

    Where fine-tuning does not surely raise harm and utility (the ``gate`` of the claims), there is no verdict on what
    projections do to them. ``share_of_seeds``: of the seeds of which every strict statistic was measured
    (``share_seeds``) those whose own values pass every margin, with its exact interval.
    """
    records, rows = list(records), []
    closed = gate(study, found)
    for name, claim in study.claims.items():
        own_stated, own_strict = (table[table["claim"] == name] for table in (stated, strict))
        verdicts = judged_stated(claim, own_stated) | judged_strict(own_strict) | _share(study, claim, name, statistics)
        if closed and not claim.gate and verdicts["stated"] != NOT_TESTED:
            verdicts |= {"stated": closed, "strict": closed if claim.strict else ""}
        ledger = {"ledger": claim.hash, "ledger_then": since(name, claim, records)}
        rows.append({"study": study.name, "claim": name, "statement": claim.statement, **verdicts, **ledger})
    return pd.DataFrame(rows)


def gate(study: Study, found: pd.DataFrame) -> str:
    """What takes the place of the other claims' verdicts: nothing where every statistic of the gates is above 0.

    By its whole interval where it has one; *no sure rise* where one is not, *not measurable* where one is not known.
    """
    asked = [_of(found, name, statistic) for name, claim in study.claims.items() for statistic in claim.gate]
    if any(np.isnan(one["mean"]) for one in asked):
        return NOT_MEASURABLE
    return "" if all(_ends(one)[0] > 0 for one in asked) else NO_RISE


def judged_stated(claim: Claim, own: pd.DataFrame) -> dict:
    """The verdict on the paper's statement, and its weakest criterion: a core one, or any where all core ones hold."""
    own = own.reset_index(drop=True)
    core = own[[criterion.core for criterion in claim.stated]]
    if (core["outcome"] == NOT_TESTED).any():
        verdict, weakest = NOT_TESTED, core.iloc[0]
    else:
        pool = own if (core["outcome"] == "yes").all() else core
        weakest = pool.loc[pool["outcome"].map(STATED.index).idxmin()]
        verdict = weakest["outcome"] if pool is core else max(weakest["outcome"], "direction", key=STATED.index)
    return {"stated": verdict, "stated_by": weakest["statistic"], "criterion": weakest["criterion"]} | {
        f"stated_{column}": weakest[column] for column in FOUND
    }


def judged_strict(own: pd.DataFrame) -> dict:
    """Distinct if every statistic is, not distinct if one is not; decided by the weakest of them."""
    names = ["strict", "strict_by", "margin", *FOUND]
    if own.empty:
        return dict.fromkeys(names, np.nan) | {"strict": ""}
    if (own["decision"] == NOT_TESTED).any():
        return dict.fromkeys(names, np.nan) | {"strict": NOT_TESTED}
    rank = own["decision"].map(STRICT.index)
    worst = own[rank == rank.min()]
    weakest = worst.loc[(worst["mean"] - worst["margin"]).fillna(-np.inf).idxmin()]
    verdict = weakest["decision"]
    if verdict == NOT_MEASURABLE and not (own["decision"] == NOT_MEASURABLE).all():
        verdict = "undecided"  # what was measured passes, or may; what was not is not known
    found = dict(weakest[["margin", *FOUND]])
    return {"strict": verdict, "strict_by": weakest["statistic"]} | found


def _share(study: Study, claim: Claim, name: str, statistics: pd.DataFrame) -> dict:
    own = statistics[statistics["claim"] == name].pivot(index="seed", columns="statistic", values="value")
    margins = {guard.statistic: guard.margin for guard in claim.strict}
    known = own.reindex(columns=[*margins]).dropna()
    if known.empty or not margins:
        return dict.fromkeys(("share_of_seeds", "share_low", "share_high", "share_seeds"), np.nan)
    passed = int((known > pd.Series(margins)).all(axis=1).sum())
    rate = rate_interval(passed, len(known), study.confidence)
    ends = {"share_low": rate["low"], "share_high": rate["high"]}
    return {"share_of_seeds": rate["rate"], **ends, "share_seeds": len(known)}


def power_with(power: pd.DataFrame, claim: str, seeds: int) -> pd.Series | None:
    """The row of ``power`` for a claim with the most seeds that are no more than ``seeds``, if any."""
    own = power[(power["claim"] == claim) & (power["seeds"] <= seeds)]
    return None if own.empty else own.loc[own["seeds"].idxmax()]
