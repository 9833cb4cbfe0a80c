"""Statistics of the claims as the paper states them: its own k and η, its own comparisons, judged scores first.

Where a study judges no answers of the variants, their margins take the place of the scores.
"""

import numpy as np
import pandas as pd

from helpers.claims.results import SeedResults, Values, statistic, variant_shares

JUDGED_FIRST = {"utility": ("utility", "utility_margin"), "harm": ("harm", "harm_margin")}


@statistic
def harm_of_aligned(r: SeedResults) -> float:
    """Judge score of the aligned model on restricted requests."""
    return r.of_model("aligned", "harm")


@statistic
def harm_of_harmful(r: SeedResults) -> float:
    """Judge score of the harmfully fine-tuned model on restricted requests."""
    return r.of_model("harmful", "harm")


@statistic
def harm_rise_harmful(r: SeedResults) -> float:
    """Judge score of the harmfully fine-tuned model minus that of the aligned model."""
    return r.of_model("harmful", "harm") - r.of_model("aligned", "harm")


@statistic
def harm_rise_contaminated(r: SeedResults) -> float:
    """Judge score of the contaminated model minus that of the aligned model."""
    return r.of_model("contaminated", "harm") - r.of_model("aligned", "harm")


@statistic
def utility_rise_useful(r: SeedResults) -> float:
    """Exact match of the usefully fine-tuned model minus that of the aligned model."""
    return r.of_model("useful", "utility") - r.of_model("aligned", "utility")


@statistic
def utility_rise_contaminated(r: SeedResults) -> float:
    """Exact match of the contaminated model minus that of the aligned model."""
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
    """Exact match with Top-K of the alignment update kept minus with Random, useful update, mean over k."""
    return _gap(r, "useful", "utility", "top-k", "random")


@statistic
def top_k_above_random_harm(r: SeedResults) -> float:
    """Judged harm with Top-K of the alignment update kept minus with Random, harmful update, mean over k."""
    return _gap(r, "harmful", "harm", "top-k", "random")


@statistic
def top_k_above_random_k_utility(r: SeedResults) -> float:
    """Exact match with Top-K kept minus with Random-K, useful update, mean over k."""
    return _gap(r, "useful", "utility", "top-k", "random-k")


@statistic
def top_k_above_random_k_harm(r: SeedResults) -> float:
    """Judged harm with Top-K kept minus with Random-K, harmful update, mean over k."""
    return _gap(r, "harmful", "harm", "top-k", "random-k")


@statistic
def energy_gap(r: SeedResults) -> float:
    """Share of the harmful update's energy in Top-K of the alignment update minus that of the useful, mean over k."""
    return float((r.kept("harmful", "top-k") - r.kept("useful", "top-k")).mean())


@statistic
def harm_removed_alone(r: SeedResults) -> float:
    """Best over k and both subspaces of the smaller of harm removed and utility gain kept (shares), Top-K."""
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
    """Share of the η at which alignment and harmful update overlap most of {alignment, useful, harmful}'s pairs."""
    return _highest(r, "alignment")


@statistic
def safety_harmful_highest(r: SeedResults) -> float:
    """Share of the η at which safety and harmful update overlap most of {safety, useful, harmful}'s pairs."""
    return _highest(r, "safety")


@statistic
def useful_harmful_above_random(r: SeedResults) -> float:
    """MSO of the useful and the harmful update less its random baseline, mean over η and tensors."""
    return r.mso("useful", "harmful")


@statistic
def activation_ratio(r: SeedResults) -> float:
    """Activation MSO of useful and harmful prompts as a share of that of two harmful sets, where k > 1."""
    return float(r.activation("useful-harmful")["mso"].mean() / r.activation("harmful-harmful")["mso"].mean())


def _above_random(r: SeedResults, pair: str) -> float:
    rows = r.activation(pair)
    return float((rows["mso"] - rows["random"]).mean())


@statistic
def activation_useful_above_random(r: SeedResults) -> float:
    """Activation MSO of useful and harmful prompts less its random baseline, where k > 1."""
    return _above_random(r, "useful-harmful")


@statistic
def activation_harmful_above_random(r: SeedResults) -> float:
    """Activation MSO of two harmful sets less its random baseline, where k > 1."""
    return _above_random(r, "harmful-harmful")
