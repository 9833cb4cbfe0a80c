"""Statistics that ask whether safety is distinct, each next to what would give the same without a safety subspace.

Harm answers the size of an update like a threshold and utility almost linearly, so variants are compared with plain
scaling of the same update at equal utility, by exact match and by margin, and with the same step in other subspaces.
All are 0 where nothing is distinct.
"""

import numpy as np

from helpers.claims.results import SeedResults, Values, beyond_scaling, statistic, variant_shares

TOUCHED = 0.01  # share of its energy that an update loses at least, to be called projected
KEPT = 0.8  # share of the utility gain that a variant keeps at least, to be called selective
UNRELATED = "unrelated"  # the subspace of an update that taught no safety


@statistic
def energy_gap_above_random(r: SeedResults) -> float:
    """``energy_gap`` minus that of the control ``random``."""
    gaps = [(r.kept("harmful", control) - r.kept("useful", control)).mean() for control in ("top-k", "random")]
    return float(gaps[0] - gaps[1])


@statistic
def energy_gap_above_unrelated(r: SeedResults) -> float:
    """``energy_gap`` minus that in the subspace ``unrelated``."""
    gaps = [(r.kept("harmful", "top-k", s) - r.kept("useful", "top-k", s)).mean() for s in ("alignment", UNRELATED)]
    return float(gaps[0] - gaps[1])


def _kept(r: SeedResults, on: str, control: str = "top-k", subspace: str = "alignment") -> Values | float:
    """Share of the harm margin kept beyond scaling at equal utility, contaminated update inside, mean over k."""
    return beyond_scaling(r, "parallel", "contaminated", control, on, "harm_margin", subspace).mean()


@statistic
def extra_harm_kept_at_equal_exact_match(r: SeedResults) -> float:
    """``_kept`` at equal ``utility``."""
    return _kept(r, "utility")


@statistic
def extra_harm_kept_at_equal_margin(r: SeedResults) -> float:
    """``_kept`` at equal ``utility_margin``."""
    return _kept(r, "utility_margin")


@statistic
def extra_harm_kept_above_random(r: SeedResults) -> float:
    """``_kept`` at equal ``utility_margin``, minus that of ``random``."""
    return _kept(r, "utility_margin") - _kept(r, "utility_margin", "random")


@statistic
def extra_harm_kept_above_random_k(r: SeedResults) -> float:
    """``_kept`` at equal ``utility_margin``, minus that of ``random-k``."""
    return _kept(r, "utility_margin") - _kept(r, "utility_margin", "random-k")


@statistic
def extra_harm_kept_above_unrelated(r: SeedResults) -> float:
    """``_kept`` at equal ``utility_margin``, minus that of the subspace ``unrelated``."""
    return _kept(r, "utility_margin") - _kept(r, "utility_margin", "top-k", UNRELATED)


def _removed(r: SeedResults, on: str, control: str = "top-k", subspace: str = "alignment") -> Values | float:
    """Share of the harm margin removed beyond scaling at equal utility, mean over the k that keep the utility.

    Compared are variants that kept most of the update's utility gain by exact match and by margin, and, of the subspace
    that is asked about, lost some energy; NaN where no k gives one. A control that takes off next to nothing counts: it
    removes next to nothing.
    """
    kind = ("orthogonal", "contaminated", control)
    own = (control, subspace) == ("top-k", "alignment")
    selective = r.variants(*kind, "energy_kept", subspace) <= (1 - TOUCHED if own else np.inf)
    for measure in ("utility", "utility_margin"):
        selective &= variant_shares(r, *kind, measure, subspace) >= KEPT
    return -beyond_scaling(r, *kind, on, "harm_margin", subspace).where(selective).mean()


@statistic
def extra_harm_removed_at_equal_exact_match(r: SeedResults) -> float:
    """``_removed`` at equal ``utility``."""
    return _removed(r, "utility")


@statistic
def extra_harm_removed_at_equal_margin(r: SeedResults) -> float:
    """``_removed`` at equal ``utility_margin``."""
    return _removed(r, "utility_margin")


@statistic
def extra_harm_removed_above_random(r: SeedResults) -> float:
    """``_removed`` at equal ``utility_margin``, minus that of ``random``."""
    return _removed(r, "utility_margin") - _removed(r, "utility_margin", "random")


@statistic
def extra_harm_removed_above_random_k(r: SeedResults) -> float:
    """``_removed`` at equal ``utility_margin``, minus that of ``random-k``."""
    return _removed(r, "utility_margin") - _removed(r, "utility_margin", "random-k")


@statistic
def extra_harm_removed_above_unrelated(r: SeedResults) -> float:
    """``_removed`` at equal ``utility_margin``, minus that of the subspace ``unrelated``."""
    return _removed(r, "utility_margin") - _removed(r, "utility_margin", "top-k", UNRELATED)


@statistic
def alignment_harmful_above_useful_harmful(r: SeedResults) -> float:
    """MSO(alignment, harmful) minus MSO(useful, harmful), each above its baseline."""
    return r.mso("alignment", "harmful") - r.mso("useful", "harmful")


@statistic
def alignment_harmful_above_alignment_useful(r: SeedResults) -> float:
    """MSO(alignment, harmful) minus MSO(alignment, useful), each above its baseline."""
    return r.mso("alignment", "harmful") - r.mso("alignment", "useful")


@statistic
def activation_within_above_across(r: SeedResults) -> float:
    """Mean of ``harmful-harmful`` and ``benign-benign`` minus ``harmful-benign``, matched, above baselines."""
    within = np.mean([r.matched(pair) for pair in ("harmful-harmful", "benign-benign")])
    return float(within - r.matched("harmful-benign"))


@statistic
def activation_harmful_above_topics(r: SeedResults) -> float:
    """Within minus across of harmful and benign topics, minus the same of two groups of benign topics."""
    harmful, benign = r.matched("harmful-topics"), r.matched("benign-topics")
    distinct = (harmful + benign) / 2 - r.matched("harmful-benign-topics")
    return float(distinct - (benign - r.matched("benign-benign-topics")))


@statistic
def probe_accuracy(r: SeedResults) -> float:
    """Mean held-out ``accuracy`` over the band's layers."""
    return float(r.probe.loc[r.probe["in_band"], "accuracy"].mean())
