"""Statistics of the claims as the paper states them: its own k and η, its own comparisons, judged scores first.

Where a study judges no answers of the variants, their margins take the place of the scores.
"""

import numpy as np
import pandas as pd

from helpers.claims.results import SeedResults, Values, statistic, variant_shares

JUDGED_FIRST = {"utility": ("utility", "utility_margin"), "harm": ("harm", "harm_margin")}


@statistic
def harm_of_aligned(r: SeedResults) -> float:
    """``harm`` of ``aligned``."""
    return r.of_model("aligned", "harm")


@statistic
def harm_of_harmful(r: SeedResults) -> float:
    """``harm`` of ``harmful``."""
    return r.of_model("harmful", "harm")


@statistic
def harm_rise_harmful(r: SeedResults) -> float:
    """``harm`` of ``harmful`` minus that of ``aligned``."""
    return r.of_model("harmful", "harm") - r.of_model("aligned", "harm")


@statistic
def harm_rise_contaminated(r: SeedResults) -> float:
    """``harm`` of ``contaminated`` minus that of ``aligned``."""
    return r.of_model("contaminated", "harm") - r.of_model("aligned", "harm")


@statistic
def utility_rise_useful(r: SeedResults) -> float:
    """``utility`` of ``useful`` minus that of ``aligned``."""
    return r.of_model("useful", "utility") - r.of_model("aligned", "utility")


@statistic
def utility_rise_contaminated(r: SeedResults) -> float:
    """``utility`` of ``contaminated`` minus that of ``aligned``."""
    return r.of_model("contaminated", "utility") - r.of_model("aligned", "utility")


def _gap(r: SeedResults, task: str, kind: str, better: str, worse: str) -> Values | float:
    """A score of parallel variants with one control minus that with another, mean over k; judged where it can be."""
    for measure in JUDGED_FIRST[kind]:
        gap = r.variants("parallel", task, better, measure) - r.variants("parallel", task, worse, measure)
        if np.asarray(gap.notna()).any():
            return gap.mean()
    return float("nan")


@statistic
def top_k_above_random_utility(r: SeedResults) -> float:
    """Utility of ``useful``, parallel: ``top-k`` minus ``random``."""
    return _gap(r, "useful", "utility", "top-k", "random")


@statistic
def top_k_above_random_harm(r: SeedResults) -> float:
    """Harm of ``harmful``, parallel: ``top-k`` minus ``random``."""
    return _gap(r, "harmful", "harm", "top-k", "random")


@statistic
def top_k_above_random_k_utility(r: SeedResults) -> float:
    """Utility of ``useful``, parallel: ``top-k`` minus ``random-k``."""
    return _gap(r, "useful", "utility", "top-k", "random-k")


@statistic
def top_k_above_random_k_harm(r: SeedResults) -> float:
    """Harm of ``harmful``, parallel: ``top-k`` minus ``random-k``."""
    return _gap(r, "harmful", "harm", "top-k", "random-k")


@statistic
def energy_gap(r: SeedResults) -> float:
    """``energy_kept`` in ``alignment``, ``top-k``: ``harmful`` minus ``useful``, mean over k."""
    return float((r.kept("harmful", "top-k") - r.kept("useful", "top-k")).mean())


@statistic
def harm_removed_alone(r: SeedResults) -> float:
    """Maximum over k and subspaces of min(harm removed, utility kept), shares of ``contaminated``, ``top-k``."""
    best = []
    for subspace in ("alignment", "safety"):
        for harm, utility in zip(JUDGED_FIRST["harm"], JUDGED_FIRST["utility"], strict=True):
            how = ("orthogonal", "contaminated", "top-k")
            shares = [variant_shares(r, *how, measure, subspace) for measure in (harm, utility)]
            both = np.minimum(1 - shares[0], shares[1]).dropna()
            if len(both):
                best.append(float(both.max()))
                break
    return max(best, default=float("nan"))


def _highest(r: SeedResults, subspace: str) -> float:
    """Share of the η at which the harmful update overlaps more with a subspace than any other pair does."""
    pairs = [(subspace, "harmful"), (subspace, "useful"), ("useful", "harmful")]
    means = pd.DataFrame({pair: r.overlap(*pair).groupby("eta")["mso"].mean() for pair in pairs})
    if means.isna().any(axis=None) or means.empty:
        return float("nan")
    return float((means.iloc[:, 0] > means.iloc[:, 1:].max(axis=1)).mean())


@statistic
def alignment_harmful_highest(r: SeedResults) -> float:
    """``_highest`` of ``alignment``."""
    return _highest(r, "alignment")


@statistic
def safety_harmful_highest(r: SeedResults) -> float:
    """``_highest`` of ``safety``."""
    return _highest(r, "safety")


@statistic
def useful_harmful_above_random(r: SeedResults) -> float:
    """MSO(useful, harmful) above its baseline."""
    return r.mso("useful", "harmful")


@statistic
def activation_ratio(r: SeedResults) -> float:
    """Mean MSO of ``useful-harmful`` over that of ``harmful-harmful``."""
    return float(r.activation("useful-harmful")["mso"].mean() / r.activation("harmful-harmful")["mso"].mean())


def _above_random(r: SeedResults, pair: str) -> float:
    rows = r.activation(pair)
    return float((rows["mso"] - rows["random"]).mean())


@statistic
def activation_useful_above_random(r: SeedResults) -> float:
    """MSO of ``useful-harmful`` above its baseline."""
    return _above_random(r, "useful-harmful")


@statistic
def activation_harmful_above_random(r: SeedResults) -> float:
    """MSO of ``harmful-harmful`` above its baseline."""
    return _above_random(r, "harmful-harmful")
