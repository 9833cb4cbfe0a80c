"""How much the statistics of C0, C1 and C2 owe to the choice of prompts.

Of C1 and C2 by prompts drawn anew, alike for all variants; of C0, where seeds are few, by the models' standard errors.

The matching at equal utility and the choice of the variants that keep it are made anew in every replicate as well.

For each replicate every prompt gets a weight, the means of the tables ``projection`` and ``scaling`` are made again
from ``projection_prompts``, and the statistics are computed from them as they are from the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from helpers.claims.inference import SEEDS, combine, prompt_weights
from helpers.claims.over_seeds import t_quantile
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.evaluation.per_prompt import KEY, set_of
from helpers.studies.settings import Study

RESAMPLED = (  # statistics that need nothing but the variants whose prompts are kept
    "top_k_above_random_utility",
    "top_k_above_random_harm",
    "extra_harm_kept_at_equal_exact_match",
    "extra_harm_kept_at_equal_margin",
    "extra_harm_kept_above_random",
    "extra_harm_kept_above_random_k",
    "extra_harm_kept_above_unrelated",
    "extra_harm_removed_at_equal_exact_match",
    "extra_harm_removed_at_equal_margin",
    "extra_harm_removed_above_random",
    "extra_harm_removed_above_random_k",
    "extra_harm_removed_above_unrelated",
)
OF_MODELS = (  # statistics that are sums and differences of means of whole models
    "harm_of_aligned",
    "harm_of_harmful",
    "harm_rise_harmful",
    "harm_rise_contaminated",
    "utility_rise_useful",
    "utility_rise_contaminated",
)
RANGES = {"utility": 1.0, "harm": 4.0}  # of the measures that they read, from one end to the other
REPLICATES = 200  # over all seeds together, at least FEWEST of each: the mean SD over prompts is then known to some 5 %
FEWEST = 10
ROUNDING = 1e-9  # a statistic that replicates change by less is not changed by them
INTERVAL = ["mean", "low", "high", "seed_sd", "prompt_sd", "seeds", "prompts", "over"]
COLUMNS = ["study", "claim", "statistic", *INTERVAL]
Replicates = dict[tuple[str, ...], pd.DataFrame]  # measure and kind of variant -> means (sizes, replicates)


@dataclass(frozen=True)
class Redrawn(SeedResults):
    """The tables of one seed with the means of every replicate, as frames (fractions or alphas, replicates)."""

    means: Replicates
    replicates: int

    def variants(self, mode: str, task: str, control: str, measure: str, subspace: str = "alignment") -> pd.DataFrame:
        """As of ``SeedResults``, drawn anew where single prompts were kept."""
        own = super().variants(mode, task, control, measure, subspace)
        return self._drawn(own, (mode, task, subspace, control), measure)

    def scaled(self, task: str, measure: str) -> pd.DataFrame:
        """As of ``SeedResults``, drawn anew where single prompts were kept."""
        return self._drawn(super().scaled(task, measure), ("scaling", task, "none", "scaling"), measure)

    def _drawn(self, own: pd.Series, where: tuple[str, ...], measure: str) -> pd.DataFrame:
        known = self.means.get((measure, *where))
        drawn = np.full((len(own), self.replicates), np.nan) if known is None else known.reindex(own.index).to_numpy()
        return pd.DataFrame(np.where(np.isnan(drawn), own.to_numpy()[:, None], drawn), index=own.index)


def claim_uncertainty(
    study: Study, results: Mapping[int, SeedResults], prompts: Mapping[int, pd.DataFrame], total: int = REPLICATES
) -> pd.DataFrame:
    """Table ``claim_uncertainty``: interval of each resampled statistic, its SD over seeds and over prompts.

    ``results`` and ``prompts`` by seed, the latter the tables ``projection_prompts``; without them the table is empty.
    ``total``: replicates over all seeds. A statistic that no replicate changes has no row: it rests on variants whose
    prompts were not kept.
    """
    if not prompts:
        return pd.DataFrame(columns=COLUMNS)
    replicates = max(FEWEST, total // len(prompts))
    means = _means(list(prompts.values()), replicates)
    own = [results[seed] for seed in prompts]
    drawn = [Redrawn(*(getattr(r, t) for t in TABLES), m, replicates) for r, m in zip(own, means, strict=True)]
    size, shared = _size_and_overlap(list(prompts.values()))
    rows = []
    for claim, name in _asked(study):
        estimates = np.array([STATISTICS[name](r) for r in own])  # (seeds,)
        sampled = np.array([np.broadcast_to(STATISTICS[name](r), replicates) for r in drawn])  # (seeds, replicates)
        known = ~np.isnan(estimates) & (np.sum(~np.isnan(sampled), axis=1) > 1)
        estimates, sampled = estimates[known], sampled[known]
        if (np.nanmax(sampled, axis=1) - np.nanmin(sampled, axis=1) > ROUNDING).any():
            found = combine(estimates, sampled, size, study.confidence, shared, len(own))
            rows.append({"study": study.name, "claim": claim, "statistic": name, **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def with_models(study: Study, results: Mapping[int, SeedResults], uncertainty: pd.DataFrame) -> pd.DataFrame:
    """``claim_uncertainty`` with the rows of ``OF_MODELS`` where there are fewer than three seeds, if it has none.

    Intervals over prompts by the standard errors of the table ``behaviour``, as if models erred independently and
    seeds had the same prompts. Both make them wider than they need be, the first where a prompt that is hard for one
    model is hard for the other.
    """
    if not 0 < len(results) < SEEDS:
        return uncertainty
    known = set(uncertainty["statistic"])
    asked = [(claim, name) for claim, name in _asked(study, OF_MODELS) if name not in known]
    own = list(results.values())
    rows = [{"study": study.name, "claim": c, "statistic": name} | _of_models(name, own, study) for c, name in asked]
    return pd.concat([uncertainty, pd.DataFrame(rows, columns=COLUMNS)])


def _of_models(name: str, results: list[SeedResults], study: Study) -> dict[str, float | str]:
    """Interval of one statistic over the prompts of one or two seeds: every model's mean is moved by its error."""
    found, variances, prompts = [], [], []
    for r in results:
        own = r.behaviour.reset_index(drop=True)
        found.append(STATISTICS[name](r))
        moved = [(row, _moved(name, r, own, row) - found[-1]) for row in own.index[own["measure"].isin(RANGES)]]
        variances.append(sum(change**2 for _, change in moved))
        prompts += [own.loc[row, "prompts"] for row, change in moved if change]
    variance, least = float(np.mean(variances)), int(min(prompts))
    half = t_quantile(study.confidence, least - 1) * float(np.sqrt(variance))
    mean, units = float(np.mean(found)), {"seeds": len(results), "prompts": least, "over": "prompts"}
    spread = {"seed_sd": float("nan"), "prompt_sd": float(np.sqrt(variance))}
    return {"mean": mean, "low": mean - half, "high": mean + half} | spread | units


def _moved(name: str, r: SeedResults, table: pd.DataFrame, row: int) -> float:
    """The statistic with one mean moved by its standard error; one without, by one answer at the scale's other end."""
    measure, error, prompts = table.loc[row, ["measure", "stderr", "prompts"]]
    value = table["value"].copy()
    value[row] += error or RANGES[measure] / prompts
    return STATISTICS[name](replace(r, behaviour=table.assign(value=value)))


def _asked(study: Study, names: tuple[str, ...] = RESAMPLED) -> list[tuple[str, str]]:
    """Claim and name of every one of some statistics that the ledger names, each once."""
    return [(claim, name) for claim, entry in study.claims.items() for name in entry.statistics if name in names]


def _means(tables: list[pd.DataFrame], replicates: int) -> list[Replicates]:
    """Means of every variant and measure for every replicate, per seed; a prompt has one weight in all of them."""
    rng = np.random.default_rng(0)
    found: list[Replicates] = [{} for _ in tables]
    for kind in ("utility", "harm"):
        own = [table[table["measure"].map(set_of) == kind] for table in tables]
        items = [np.unique(table["item"]) for table in own]
        for means, table, names, weights in zip(found, own, items, prompt_weights(items, replicates, rng), strict=True):
            for measure, rows in table.groupby("measure"):
                wide = rows.pivot_table(index=KEY, columns="item", values="value").reindex(
                    columns=names
                )  # draws averaged
                known = wide.notna().to_numpy(float)  # a prompt without a value has no part in the mean
                sums = wide.fillna(0).to_numpy() @ weights.T
                kinds = pd.DataFrame(sums / (known @ weights.T), index=wide.index).groupby(level=KEY[:-1])
                means |= {(str(measure), *kind): drawn.droplevel(KEY[:-1]) for kind, drawn in kinds}
    return found


def _size_and_overlap(tables: list[pd.DataFrame]) -> tuple[int, float]:
    """Prompts of the smaller evaluation set, and the share of prompts that two seeds have in common (mean of pairs)."""
    sets = [[set(t.loc[t["measure"].map(set_of) == kind, "item"]) for t in tables] for kind in ("utility", "harm")]
    size = min(len(items) for own in sets for items in own)
    common = [np.mean([len(a & b) / len(a) for a, b in combinations(own, 2)] or [0.0]) for own in sets]
    return size, float(max(common))
