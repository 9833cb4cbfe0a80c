"""What becomes of every method on the bench: harm removed beyond scaling, beyond its null, and by what rule it works.

The rule is in the ledger, under ``bench``. Shares are 0 at the aligned and 1 at the contaminated model of a seed.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import special

from helpers.claims.beyond_scaling import effects
from helpers.claims.over_seeds import interval
from helpers.studies.ledger import BenchRule
from helpers.studies.settings import Study
from helpers.studies.values import EDITS, TRAININGS

WORKS, FAILS, UNDECIDED, UNMEASURED = "works beyond scaling", "does not", "undecided", "not measurable"
DIVERGENCES = ["kl_tuned_1", "kl_tuned_8", "kl_aligned_1", "kl_aligned_8"]
# of the chosen places, means
BESIDE = ["utility_share", "exact_share", "second_change", "harm_share", "judged_share", "over_refusal", *DIVERGENCES]
ATTACK, TRAINED = "attack", "during training"


def kind_of(name: str) -> str:
    """What a method is: a kind of edit (``defence``, ``attack``, … or nothing), ``during training`` or ``subspace``."""
    return EDITS[name].facts.get("kind", "") if name in EDITS else TRAINED if name in TRAININGS else "subspace"


def candidates(found: pd.DataFrame, method: str, kind: str, rule: BenchRule) -> pd.DataFrame:
    """The places of a method's dial that keep the utility by margins on the choosing prompts, the best first.

    Best by ``beyond``, or of an attack by its harm share, in each seed.
    """
    least, by = (rule.kept - 1, "harm_share") if kind == ATTACK else (rule.kept, "beyond")
    rows = found[(found["method"] == method) & (found["split"] == "choose") & (found["utility_share"] >= least)]
    return rows.dropna(subset=by).sort_values(by, ascending=False, kind="stable")


def chosen(found: pd.DataFrame, method: str, kind: str, rule: BenchRule) -> pd.DataFrame:
    """The scored row of a method in each seed, at the first of its candidates that keeps its right answers too.

    An attack is not asked for those. Seeds in which no place keeps the utility are left out.
    """
    eligible = candidates(found, method, kind, rule)
    eligible = eligible[(eligible["exact_share"] >= rule.kept) | (kind == ATTACK)]
    best = eligible.drop_duplicates("seed")[["seed", "dial"]].sort_values("seed")
    scored = found[(found["method"] == method) & (found["split"] == "score")]
    return scored.merge(best, on=["seed", "dial"]).set_index("seed")


def bench_summary(study: Study, table: pd.DataFrame, rule: BenchRule) -> pd.DataFrame:
    """Every method with its intervals, its hardest null, and the decision of the ledger's rule: ``bench_summary``.

    ``table``: the tables ``bench`` and ``bench_training`` of all seeds. Methods of which, or of one of whose nulls, it
    has no row are left out: results may be older than these.
    """
    found, seeds = effects(table), table.groupby("method")["seed"].nunique()
    nulls = {name: own for name, own in study.bench.nulls.items() if {name, *own} <= set(seeds.index)}
    rows = [_method(name, own, found, study, rule) for name, own in nulls.items()]
    summary = pd.DataFrame(rows)
    summary["p_holm"] = holm(summary["p"].to_numpy(float))
    asked = [(row, int(seeds[row["method"]])) for row in summary.to_dict("records")]
    summary["decision"] = [decision(row, rule, study.confidence, of) for row, of in asked]
    return summary


def _method(name: str, nulls: Iterable[str], found: pd.DataFrame, study: Study, rule: BenchRule) -> dict:
    kind = kind_of(name)
    by, judged = ("harm_share", "judged_share") if kind == ATTACK else ("beyond", "beyond_judged")
    own = chosen(found, name, kind, rule)
    paired = {null: _against(own[by], chosen(found, null, kind, rule)[by]) for null in nulls}
    hardest = min(paired, key=lambda null: _low(paired[null].to_numpy(), study.confidence))
    beyond = interval(paired[hardest].to_numpy(), study.confidence)
    tests = [(own[by], rule.margin), *((difference, 0.0) for difference in paired.values())]
    return {
        "method": name,
        "kind": kind,
        "dial": float(own["dial"].median()) if len(own) else float("nan"),
        **interval(own[by].to_numpy(), study.confidence),
        "null": hardest,
        **{f"above_null_{end}": beyond[end] for end in ("mean", "low", "high")},
        "judged": float(own[judged].mean()),
        "worse": float(own["worse"].mean()),
        **{column: float(own[column].mean()) for column in BESIDE},
        "seconds": float(found.loc[found["method"] == name, "seconds"].mean()),
        "p": max(p_above(values.to_numpy(float), bound) for values, bound in tests),
        "p_below": min(1.0, len(tests) * min(p_above(-values.to_numpy(float), -bound) for values, bound in tests)),
    }


def _against(own: pd.Series, null: pd.Series) -> pd.Series:
    """Seed by seed, a method less its null, which counts as 0 where it keeps too little."""
    return own - null.reindex(own.index).fillna(0.0)


def _low(values: np.ndarray, confidence: float) -> float:
    """Lower end of the interval; of one seed its value, of none the end of all."""
    found = interval(values, confidence)
    return float(np.nan_to_num(found["low"] if len(values) > 1 else found["mean"], nan=-np.inf))


def p_above(values: np.ndarray, bound: float) -> float:
    """One-sided p value of Student's t test that the mean of one value per seed is at most ``bound``.

    1 for fewer than two seeds, which say nothing of their spread.
    """
    if len(values) < 2:
        return 1.0
    distance, error = float(np.mean(values)) - bound, float(np.std(values, ddof=1) / np.sqrt(len(values)))
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(len(values) - 1, -distance / error))


def holm(p: np.ndarray) -> np.ndarray:
    """p values after Holm's step-down correction over all of them."""
    order, count = np.argsort(p, kind="stable"), len(p)
    corrected = np.empty(count)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (count - np.arange(count))))
    return corrected


def decision(row: dict, rule: BenchRule, confidence: float, seeds: int) -> str:
    """By the rule of the ledger: a row of the summary works beyond scaling, does not, or it is undecided.

    ``seeds``: in how many the method was measured, in each of which some place of the dial has to keep the utility.
    """
    if np.isnan(row["mean"]):
        return UNMEASURED
    level = (1 - confidence) / 2
    if row["p_below"] < level:
        return FAILS
    sure = row["p_holm"] < level and row["seeds"] == seeds
    return WORKS if sure and row["judged"] > 0 and _harmless(row, rule) else UNDECIDED


def _harmless(row: dict, rule: BenchRule) -> bool:
    """Whether perplexity is as the rule allows; an attack is not asked for it."""
    return row["kind"] == ATTACK or row["worse"] <= rule.perplexity
