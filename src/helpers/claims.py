"""The claims C0–C4: the statistic of each criterion per seed, and the verdict by the criteria written in the study.

Every statistic takes the tables of one seed and returns one number; its docstring is shown in the book.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.matching import excess, shares
from helpers.settings import Criterion, Study
from helpers.statistics import interval

TABLES = ("behaviour", "projection", "scaling", "energy", "update_overlap", "activation_overlap")
NOT_TESTED = "not tested"
STATISTICS: dict[str, "Statistic"] = {}  # name -> function; the names a criterion in a study may use


@dataclass(frozen=True)
class SeedResults:
    """The tables of one seed."""

    behaviour: pd.DataFrame
    projection: pd.DataFrame
    scaling: pd.DataFrame
    energy: pd.DataFrame
    update_overlap: pd.DataFrame
    activation_overlap: pd.DataFrame

    def of_model(self, model: str, measure: str) -> float:
        """A measure of one of the six models."""
        table = self.behaviour
        return float(table.loc[(table["model"] == model) & (table["measure"] == measure), "value"].iloc[0])

    def variants(self, mode: str, task: str, subspace: str = "alignment") -> pd.DataFrame:
        """Projected variants, random draws averaged, indexed by control and fraction."""
        table = self.projection.query("mode == @mode and task == @task and subspace == @subspace")
        return table.groupby(["seed", "task", "control", "fraction"], as_index=False).mean(numeric_only=True)

    def mso(self, a: str, b: str) -> float:
        """MSO of two updates, mean over energy fractions and tensors."""
        table = self.update_overlap
        return float(table.loc[(table["a"] == a) & (table["b"] == b), "mso"].mean())

    def activation(self, pair: str, column: str = "mso") -> float:
        """Activation MSO of a pair in the aligned model, mean over the band's layers and the energy fractions."""
        table = self.activation_overlap
        rows = table["in_band"] & (table["model"] == "aligned") & (table["pair"] == pair)
        return float(table.loc[rows, column].mean())


Statistic = Callable[[SeedResults], float]


def statistic(function: Statistic) -> Statistic:
    """Register the statistic of a criterion under its function's name."""
    STATISTICS[function.__name__] = function
    return function


@statistic
def harm_of_aligned(r: SeedResults) -> float:
    """Judge score of the aligned model on restricted requests."""
    return r.of_model("aligned", "harm")


@statistic
def harm_of_harmful(r: SeedResults) -> float:
    """Judge score of the harmfully fine-tuned model on restricted requests."""
    return r.of_model("harmful", "harm")


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


def _control_gap(r: SeedResults, task: str, measure: str, better: str, worse: str) -> float:
    """Share of the full effect reached by one control minus that by another, mean over the fractions k."""
    table = shares(r.variants("parallel", task), r.scaling, [measure])
    table = table.pivot(index="fraction", columns="control", values=f"share_{measure}")
    return float((table[better] - table[worse]).mean())


@statistic
def top_k_gain_utility(r: SeedResults) -> float:
    """Share of the utility margin gained, Top-K minus Random, useful update in the alignment subspace, mean over k."""
    return _control_gap(r, "useful", "utility_margin", "top-k", "random")


@statistic
def top_k_gain_harm(r: SeedResults) -> float:
    """Share of the harm margin gained, Top-K minus Random, harmful update in the alignment subspace, mean over k."""
    return _control_gap(r, "harmful", "harm_margin", "top-k", "random")


def _both(r: SeedResults, better: str, worse: str) -> float:
    gaps = [_control_gap(r, t, m, better, worse) for t, m in (("useful", "utility_margin"), ("harmful", "harm_margin"))]
    return min(gaps)


@statistic
def order_top_over_random_k(r: SeedResults) -> float:
    """Top-K minus Random-K, share of the margin gained, the smaller of utility and harm, mean over k."""
    return _both(r, "top-k", "random-k")


@statistic
def order_random_k_over_random(r: SeedResults) -> float:
    """Random-K minus Random, share of the margin gained, the smaller of utility and harm, mean over k."""
    return _both(r, "random-k", "random")


@statistic
def energy_gap_useful_harmful(r: SeedResults) -> float:
    """Energy that Top-K keeps of the useful minus of the harmful update, alignment subspace, mean over k."""
    rows = r.energy.query("subspace == 'alignment' and control == 'top-k' and module == 'all'")
    table = rows.pivot(index="fraction", columns="task", values="energy_kept")
    return float((table["useful"] - table["harmful"]).mean())


@statistic
def gain_gap_at_matched_energy(r: SeedResults) -> float:
    """Top-K's gain of harm margin beyond a scaled update of equal energy, minus that of utility margin, mean over k."""
    parts = {}
    for task, measure in (("harmful", "harm_margin"), ("useful", "utility_margin")):
        variants = r.variants("parallel", task).query("control == 'top-k'")
        parts[measure] = excess(variants, r.scaling, "energy_kept", [measure])[f"excess_{measure}"].mean()
    return float(parts["harm_margin"] - parts["utility_margin"])


def _extra_harm_removed(r: SeedResults, harm: str) -> float:
    """Harm share of the scaled update of equal utility minus that of the projected one, mean over matched fractions."""
    variants = r.variants("orthogonal", "contaminated").query("control == 'top-k'")
    table = excess(variants, r.scaling, "utility_margin", [harm])
    matched = table[table["share_utility_margin"].between(0.05, 0.95)]  # elsewhere nothing, or everything, is left
    return float(-matched[f"excess_{harm}"].mean()) if len(matched) else 0.0


@statistic
def extra_harm_removed_margin(r: SeedResults) -> float:
    """Share of the harm margin removed with the alignment subspace beyond scaling at equal utility margin."""
    return _extra_harm_removed(r, "harm_margin")


@statistic
def extra_harm_removed_judge(r: SeedResults) -> float:
    """Share of the judged harm removed with the alignment subspace beyond scaling at equal utility margin."""
    return _extra_harm_removed(r, "harm")


@statistic
def harm_removed_alone(r: SeedResults) -> float:
    """Best over k and both subspaces of min(share of judged harm removed, share of utility gain kept), Top-K."""
    best = 0.0
    for subspace in r.projection["subspace"].unique():
        variants = r.variants("orthogonal", "contaminated", subspace).query("control == 'top-k'")
        table = shares(variants, r.scaling, ["harm", "utility"])
        both = np.minimum(1 - table["share_harm"], table["share_utility"]).dropna()  # judged variants only
        best = max(best, float(both.max()) if len(both) else 0.0)
    return best


@statistic
def overlap_useful_harmful_minus_alignment_harmful(r: SeedResults) -> float:
    """MSO(useful, harmful) − MSO(alignment, harmful) of the updates, mean over energy fractions and tensors."""
    return r.mso("useful", "harmful") - r.mso("alignment", "harmful")


@statistic
def overlap_useful_harmful_minus_safety_harmful(r: SeedResults) -> float:
    """MSO(useful, harmful) − MSO(safety, harmful) of the updates, mean over energy fractions and tensors."""
    return r.mso("useful", "harmful") - r.mso("safety", "harmful")


@statistic
def overlap_useful_harmful_above_random(r: SeedResults) -> float:
    """MSO(useful, harmful) of the updates minus its random baseline."""
    rows = r.update_overlap.query("a == 'useful' and b == 'harmful'")
    return float((rows["mso"] - rows["random"]).mean())


@statistic
def activation_harmful_minus_useful(r: SeedResults) -> float:
    """Activation MSO of two harmful sets (no shared topic) minus that of useful and harmful prompts, aligned model."""
    return r.activation("harmful-harmful") - r.activation("useful-harmful")


@statistic
def activation_harmful_minus_benign(r: SeedResults) -> float:
    """Activation MSO of two harmful sets minus that of benign and harmful requests of the same form, aligned model."""
    return r.activation("harmful-harmful") - r.activation("benign-harmful")


@statistic
def activation_useful_above_random(r: SeedResults) -> float:
    """Activation MSO of useful and harmful prompts minus its random baseline, aligned model."""
    return r.activation("useful-harmful") - r.activation("useful-harmful", "random")


def claim_statistics(study: Study, results: dict[int, SeedResults]) -> pd.DataFrame:
    """Every criterion's statistic for every seed."""
    rows = [
        (study.name, claim, c.statistic, seed, STATISTICS[c.statistic](r))
        for claim, entry in study.claims.items()
        for c in entry.criteria
        for seed, r in results.items()
    ]
    return pd.DataFrame(rows, columns=["study", "claim", "statistic", "seed", "value"])


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


def judge_criteria(study: Study, statistics: pd.DataFrame) -> pd.DataFrame:
    """Interval and outcome of every criterion of every claim; a criterion without results is not tested."""
    rows = []
    for claim, entry in study.claims.items():
        for criterion in entry.criteria:
            mask = (statistics["claim"] == claim) & (statistics["statistic"] == criterion.statistic)
            values = statistics.loc[mask, "value"].dropna()
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


def verdicts(study: Study, criteria: pd.DataFrame) -> pd.DataFrame:
    """One verdict per claim.

    *reproduced*: every criterion holds; *not reproduced*: a core criterion fails; *direction only*: anything between.
    """
    rows = []
    for claim, entry in study.claims.items():
        own = criteria[criteria["claim"] == claim].reset_index(drop=True)
        core = own[[c.core for c in entry.criteria]]
        rank = {"fails": 0, NOT_TESTED: 1, "direction": 2, "holds": 3}
        deciding = core.loc[core["outcome"].map(rank).idxmin()]
        rows.append(
            {
                "study": study.name,
                "claim": claim,
                "statement": entry.statement,
                "verdict": _verdict(own["outcome"], core["outcome"]),
                "deciding": deciding["statistic"],
                **deciding[["criterion", "mean", "low", "high", "seeds"]],
            }
        )
    return pd.DataFrame(rows)


def _verdict(all_outcomes: pd.Series, core: pd.Series) -> str:
    if (core == NOT_TESTED).any():
        return NOT_TESTED
    if (core == "fails").any():
        return "not reproduced"
    return "reproduced" if (all_outcomes == "holds").all() else "direction only"
