"""What becomes of the strict verdicts as one condition after another is changed: the chapter on conditions."""

import pandas as pd

from helpers.claims.over_seeds import over_seeds
from helpers.claims.verdicts import FOUND, gate, intervals, judged_strict, strict_table
from helpers.studies.ledger import Prediction, label_of
from helpers.studies.settings import Study

PLACE = ["dial", "at"]
NO_UNCERTAINTY = pd.DataFrame(columns=["claim", "statistic", *FOUND])


def condition_summary(study: Study, values: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of every statistic at every place, and of its change from the study itself.

    The change is paired: both places of a seed share its base model and whatever else is not changed. Table
    ``conditions_summary``.
    """
    default = {c.dial: next(p.at for p in c.places if not p.changes) for c in study.conditions}
    start = values[values["at"] == values["dial"].map(default)]
    paired = values.merge(start, on=["dial", "claim", "statistic", "seed"], suffixes=("", "_default"))
    paired["change"] = paired["value"] - paired["value_default"]
    keys = [*PLACE, "claim", "statistic"]
    found, change = (over_seeds(paired, keys, name, study.confidence) for name in ("value", "change"))
    ends = {"mean": "change", "low": "change_low", "high": "change_high"}
    return found.merge(change[[*keys, *ends]].rename(columns=ends), on=keys)


def condition_verdicts(study: Study, values: pd.DataFrame) -> pd.DataFrame:
    """The strict verdict on every claim at every place, in the order of the settings: table ``conditions_verdicts``."""
    rows = []
    for condition in study.conditions:
        for place in condition.places:
            here = values[(values["dial"] == condition.dial) & (values["at"] == place.at)]
            found = intervals(study, here, NO_UNCERTAINTY)
            strict, closed = strict_table(study, found), gate(study, found)
            for name in strict["claim"].unique():
                verdict = judged_strict(strict[strict["claim"] == name]) | ({"strict": closed} if closed else {})
                where = {"dial": condition.dial, "at": place.at, "label": place.label, "claim": name}
                rows.append(where | {key: verdict[key] for key in ("strict", "strict_by", "margin", *FOUND[:-1])})
    return pd.DataFrame(rows)


def clear_changes(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``conditions_summary`` whose paired change has an interval that leaves out 0."""
    return summary[(summary["change_low"] > 0) | (summary["change_high"] < 0)]


def foretold(summary: pd.DataFrame, places: dict[str, float]) -> pd.Series:
    """What the conditions foretell of a study at some places of their dials, by statistic, from ``conditions_summary``.

    The mean of the default study plus the paired change of each dial, as if what dials do adds up.
    """
    rows = summary[summary["claim"] != "C0"].set_index("statistic")
    first = rows[rows["dial"] == rows["dial"].iloc[0]]
    changes = [rows.loc[(rows["dial"] == dial) & (rows["at"] == at), "change"] for dial, at in places.items()]
    return sum(changes, start=first.loc[first["change"] == 0, "mean"].groupby(level=0).first())


def against_prediction(prediction: Prediction, verdicts: pd.DataFrame, strict: pd.DataFrame) -> pd.DataFrame:
    """What was foretold of a study beside what came out, from its tables ``verdicts`` and ``strict``.

    One row for each claim and strict statistic: label, foretold and found, each number after the verdict on its claim.
    """
    said, found = verdicts.set_index("claim")["strict"], strict.set_index("statistic")
    rows = []
    for claim, verdict in prediction.strict.items():
        rows.append((claim, "strict verdict", verdict, said[claim]))
        own = [name for name in found.index[found["claim"] == claim] if name in prediction.values]
        rows += [(claim, label_of(s), f"{prediction.values[s]:.3f}", f"{found.loc[s, 'mean']:.3f}") for s in own]
    return pd.DataFrame(rows, columns=["claim", "", "foretold", "found"])
