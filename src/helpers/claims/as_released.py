"""What the defects of the released code change over seeds, and whether a verdict depends on one.

``as_released.yml`` says what each defect is; ``helpers.experiments.as_released`` switches them on.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from helpers.claims.conditions import NO_UNCERTAINTY
from helpers.claims.over_seeds import over_seeds
from helpers.claims.verdicts import NO_RISE, intervals, stated_table, strict_table, verdict_table
from helpers.studies.settings import Study

WRITTEN = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
WAY = ["defect", "setting"]  # a defect, and a way of having it
LEVELS = ("stated", "strict")
YES, NO, UNTOUCHED, NOT_MEASURED = "yes", "no", "touches none", "not measured"
TOO_FEW = "too few seeds"  # to have a verdict at all, so that none can depend on anything
EQUAL = 1e-9  # largest difference that is rounding


def released_summary(study: Study, numbers: pd.DataFrame) -> pd.DataFrame:
    """Every number as released and corrected, and their difference over seeds: table ``as_released_summary``.

    ``relative``: the difference in the natural unit of the quantity, such as what fine-tuning changed.
    """
    difference = numbers["released"] - numbers["corrected"]
    rows, keys = numbers.assign(difference=difference, relative=difference / numbers["unit"]), [*WAY, "quantity"]
    found = over_seeds(rows, keys, "difference", study.confidence)
    relative = over_seeds(rows, keys, "relative", study.confidence)
    names = {"mean": "relative", "low": "relative_low", "high": "relative_high"}
    means = rows.groupby(keys, sort=False, as_index=False)[["released", "corrected"]].mean()
    relative = relative[[*keys, *names]].rename(columns=names)
    return means.merge(found, on=keys).merge(relative, on=keys).assign(study=study.models_of)


def released_verdicts(study: Study, values: pd.DataFrame) -> pd.DataFrame:
    """Both verdicts on every claim with each defect and without: table ``as_released_verdicts``.

    By the rules of the ledger, and t intervals over seeds on both sides. ``touched``: statistics of the claim that the
    defect changes in some seed; ``seeds``: those that were measured.
    """
    rows = []
    for way, own in values.groupby(WAY, sort=False):
        sides = {side: _verdicts(study, own, side) for side in ("corrected", "released")}
        differs = own[~np.isclose(own["released"], own["corrected"], rtol=0, atol=EQUAL, equal_nan=True)]
        for claim, entry in study.claims.items():
            touched = differs.loc[differs["claim"] == claim, "statistic"].nunique()
            for level in LEVELS if entry.strict else LEVELS[:1]:
                found = {side: verdicts.loc[claim, level] for side, verdicts in sides.items()}
                where = {"study": study.models_of, **dict(zip(WAY, way, strict=True)), "claim": claim, "level": level}
                rows.append(where | found | {"touched": touched, "seeds": own["seed"].nunique()})
    return pd.DataFrame(rows)


def _verdicts(study: Study, values: pd.DataFrame, side: str) -> pd.DataFrame:
    statistics = values.rename(columns={side: "value"})
    found = intervals(study, statistics, NO_UNCERTAINTY)
    tables = (table(study, found) for table in (stated_table, strict_table))
    return verdict_table(study, statistics, found, *tables).set_index("claim")


def defect_table(verdicts: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Every defect in words, and whether a verdict depends on it and how; *not measured* where there is no number."""
    rows = []
    for number, written in WRITTEN["defects"].items():
        own = verdicts[verdicts["defect"] == number]
        changed = own[own["corrected"] != own["released"]]
        how = [f"{r.claim} {r.level}: {r.corrected} → {r.released} ({r.setting})" for r in changed.itertuples()]
        verdict = YES if how else NO if own["touched"].any() else UNTOUCHED
        unsure = own["seeds"].max() < 2 or (own["corrected"] == NO_RISE).any()
        verdict = TOO_FEW if verdict != UNTOUCHED and unsure else verdict
        known = number in set(summary["defect"])
        facts = {name: written.get(name, "") for name in ("defect", "what", "part", "said", "why")}
        facts["why"] = facts["why"] or ("" if known else "Not measured in these results.")
        verdict = verdict if known else NOT_MEASURED
        rows.append({"number": number, **facts, "verdict": verdict, "how": "; ".join(how)})
    return pd.DataFrame(rows)


def one_table(defects: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Every defect with its numbers, in words, or why there are none; the verdict stands in its first row."""
    said = numbers["mean"].map("{:.3f}".format)
    known = numbers["low"].notna()
    ends = " [" + numbers["low"].map("{:.3f}".format) + ", " + numbers["high"].map("{:.3f}".format) + "]"
    found = numbers.assign(
        difference=said + ends.where(known, ""), changes=numbers["quantity"] + ", " + numbers["setting"]
    )
    rows = defects.merge(found, left_on="number", right_on="defect", how="left", suffixes=("", "_number"))
    rows["changes"] = rows["changes"].fillna(rows["why"])
    again = rows["number"].duplicated()
    rows[["defect", "part", "verdict"]] = rows[["defect", "part", "verdict"]].mask(again, "")
    columns = ["number", "defect", "verdict", "part", "changes", "released", "corrected", "difference"]
    return rows[columns].fillna({"difference": ""})


def in_words(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with each quantity and its natural unit as they are read."""
    words = WRITTEN["quantities"]
    return summary.assign(
        quantity=[words[name]["is"] for name in summary["quantity"]],
        unit=[words[name]["unit"] for name in summary["quantity"]],
    )
