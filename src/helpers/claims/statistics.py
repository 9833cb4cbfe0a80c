"""The statistics of the claims C0–C4, one number per seed; ``helpers.claims.verdicts`` judges them by the ledger.

Every statistic takes the tables of one seed and returns one number; its docstring is shown in the book.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from helpers.claims.matched import scaled_at
from helpers.claims.over_seeds import share
from helpers.studies.settings import Study

TABLES = ("behaviour", "projection", "scaling", "energy", "update_overlap", "activation_overlap")
LOST, LEFT = 0.01, 0.05  # a variant is compared where it lost this share of energy and keeps this share of utility
Values = pd.Series | pd.DataFrame  # by fraction or α; a frame has a column for each replicate of a resampling
STATISTICS: dict[str, "Statistic"] = {}  # name -> function; the names that the ledger may use


@dataclass(frozen=True)
class SeedResults:
    """The tables of one seed, which stay as they are: what is read of them twice is kept."""

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

    @cached_property
    def _variants(self) -> pd.DataFrame:
        keys = ["mode", "task", "control", "subspace", "fraction"]
        return self.projection.groupby(keys).mean(numeric_only=True)  # over random draws

    @cached_property
    def _overlaps(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(tuple(self.update_overlap.groupby(["a", "b"])))

    def variants(self, mode: str, task: str, control: str, measure: str, subspace: str = "alignment") -> Values:
        """A measure of the projected variants of one kind by fraction k, random draws averaged."""
        asked, table = (mode, task, control, subspace), self._variants[measure]
        return table.loc[asked] if asked in table.index else pd.Series(dtype=float)

    def scaled(self, task: str, measure: str) -> Values:
        """A measure of the scaled update W = WA + α D by α, from 0 (aligned) to 1 (fine-tuned)."""
        return self.scaling[self.scaling["task"] == task].set_index("alpha")[measure].sort_index()

    def overlap(self, a: str, b: str) -> pd.DataFrame:
        """The overlap of two updates and its random baseline, a row for each energy fraction and tensor."""
        return self._overlaps[a, b]

    def mso(self, a: str, b: str) -> float:
        """MSO of two updates, mean over energy fractions and tensors."""
        return float(self.overlap(a, b)["mso"].mean())

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


def _share(r: SeedResults, values: Values, task: str, measure: str) -> Values:
    """Values of a measure as shares of the way from the aligned to the fine-tuned model of a task."""
    curve = r.scaled(task, measure)
    return share(values, curve.loc[0.0], curve.loc[1.0])


def _excess(r: SeedResults, mode: str, task: str, control: str, on: str, measure: str) -> tuple[Values, Values]:
    """``on`` of the variants (a measure as a share), their share of ``measure`` beyond scaling with the same ``on``."""
    at, curve = r.variants(mode, task, control, on), r.scaled(task, on)
    if on != "energy_kept":
        at, curve = (_share(r, values, task, on) for values in (at, curve))
    own = _share(r, r.variants(mode, task, control, measure), task, measure)
    scaled = _share(r, r.scaled(task, measure), task, measure)
    if isinstance(at, pd.Series):
        return at, own - scaled_at(curve, scaled, at.to_numpy())
    columns = [scaled_at(curve[c], scaled[c], at[c].to_numpy()) for c in at]
    return at, own - np.transpose(columns)


def _control_gap(r: SeedResults, task: str, measure: str, better: str, worse: str) -> float:
    """Share of the full effect reached by one control minus that by another, mean over the fractions k.

    NaN where the study leaves one of them out.
    """
    first, second = (_share(r, r.variants("parallel", task, c, measure), task, measure) for c in (better, worse))
    return (first - second).mean()


@statistic
def top_k_gain_utility(r: SeedResults) -> float:
    """Share of the utility margin gained, Top-K minus Random, useful update in the alignment subspace, mean over k."""
    return _control_gap(r, "useful", "utility_margin", "top-k", "random")


@statistic
def top_k_gain_harm(r: SeedResults) -> float:
    """Share of the harm margin gained, Top-K minus Random, harmful update in the alignment subspace, mean over k."""
    return _control_gap(r, "harmful", "harm_margin", "top-k", "random")


@statistic
def parallel_selectivity(r: SeedResults) -> float:
    """Share of the harm margin kept minus share of the utility margin kept, Top-K minus Random, mean over k."""
    return top_k_gain_harm(r) - top_k_gain_utility(r)


def _both(r: SeedResults, better: str, worse: str) -> float:
    measures = {"useful": "utility_margin", "harmful": "harm_margin"}
    return min(_control_gap(r, task, measure, better, worse) for task, measure in measures.items())


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
    harm, utility = (
        _excess(r, "parallel", task, "top-k", "energy_kept", measure)[1].mean()
        for task, measure in (("harmful", "harm_margin"), ("useful", "utility_margin"))
    )
    return harm - utility


def _extra_harm_removed(r: SeedResults, harm: str, control: str = "top-k") -> float:
    """Harm share of the scaled update of equal utility minus that of the projected one, mean over the fractions k.

    Left out are variants that took next to nothing out of the update, and those that left next to no utility, of which
    nothing could be selective; 0 where no variant remains. A variant with more utility than the full update is compared
    with the full update.
    """
    kind = ("orthogonal", "contaminated", control)
    utility, beyond = _excess(r, *kind, "utility_margin", harm)
    compared = (r.variants(*kind, "energy_kept") <= 1 - LOST) & (utility >= LEFT)
    return np.where(compared.any(), -beyond.where(compared).mean(), 0.0)[()]


@statistic
def extra_harm_removed_margin(r: SeedResults) -> float:
    """Share of the harm margin removed with the alignment subspace beyond scaling at equal utility margin."""
    return _extra_harm_removed(r, "harm_margin")


@statistic
def extra_harm_removed_judge(r: SeedResults) -> float:
    """Share of the judged harm removed with the alignment subspace beyond scaling at equal utility margin."""
    return _extra_harm_removed(r, "harm")


@statistic
def extra_harm_removed_above_random(r: SeedResults) -> float:
    """The extra share of the harm margin removed with Top-K minus that with a random subspace of the same k."""
    return extra_harm_removed_margin(r) - _extra_harm_removed(r, "harm_margin", "random")


@statistic
def harm_removed_alone(r: SeedResults) -> float:
    """Best over k and both subspaces of min(share of judged harm removed, share of utility gain kept), Top-K."""
    best = 0.0
    for subspace in {"alignment", "safety"} & set(r.projection["subspace"]):  # the paper's
        harm, utility = (
            _share(r, r.variants("orthogonal", "contaminated", "top-k", m, subspace), "contaminated", m)
            for m in ("harm", "utility")
        )
        both = np.minimum(1 - harm, utility).dropna()  # judged variants only
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
def overlap_alignment_harmful_minus_useful_harmful(r: SeedResults) -> float:
    """MSO(alignment, harmful) − MSO(useful, harmful) of the updates, mean over energy fractions and tensors."""
    return -overlap_useful_harmful_minus_alignment_harmful(r)


@statistic
def overlap_useful_harmful_above_random(r: SeedResults) -> float:
    """MSO(useful, harmful) of the updates minus its random baseline."""
    rows = r.overlap("useful", "harmful")
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
    """Every statistic that the ledger names for the study, for every seed."""
    rows = [
        (study.name, claim, name, seed, float(STATISTICS[name](r)))
        for claim, entry in study.claims.items()
        for name in entry.statistics
        for seed, r in results.items()
    ]
    return pd.DataFrame(rows, columns=["study", "claim", "statistic", "seed", "value"])
