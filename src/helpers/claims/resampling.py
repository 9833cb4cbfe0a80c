"""How much the statistics of C1 and C2 owe to the choice of prompts: prompts drawn anew, alike for all variants.

For each replicate every prompt gets a weight, the means of the tables ``projection`` and ``scaling`` are made again
from ``projection_prompts``, and the statistics are computed from them as they are from the tables.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from helpers.claims.inference import combine, prompt_weights
from helpers.claims.statistics import STATISTICS, SeedResults
from helpers.evaluation.per_prompt import CONTROLS, SUBSPACE, TASKS, set_of
from helpers.studies.settings import Study

RESAMPLED = (  # statistics that need nothing but the variants whose prompts are kept
    "top_k_gain_utility",
    "top_k_gain_harm",
    "parallel_selectivity",
    "gain_gap_at_matched_energy",
    "extra_harm_removed_margin",
    "extra_harm_removed_judge",
    "extra_harm_removed_above_random",
)
REPLICATES = 200  # over all seeds together, at least FEWEST of each: the mean SD over prompts is then known to some 5 %
FEWEST = 10
KEY = ["task", "control", "size"]
INTERVAL = ["mean", "low", "high", "seed_sd", "prompt_sd", "seeds", "prompts", "over"]
COLUMNS = ["study", "claim", "statistic", *INTERVAL]
Replicates = dict[str, pd.DataFrame]  # measure -> means (variants, replicates)


def claim_uncertainty(
    study: Study, results: Mapping[int, SeedResults], prompts: Mapping[int, pd.DataFrame], total: int = REPLICATES
) -> pd.DataFrame:
    """Table ``claim_uncertainty``: interval of each resampled statistic, its SD over seeds and over prompts.

    ``results`` and ``prompts`` by seed, the latter the tables ``projection_prompts``; without them the table is empty.
    ``total``: replicates over all seeds.
    """
    if not prompts:
        return pd.DataFrame(columns=COLUMNS)
    replicates = max(FEWEST, total // len(prompts))
    drawn = {seed: means for seed, means in zip(prompts, _means(list(prompts.values()), replicates), strict=True)}
    values = {seed: _statistics(study, results[seed], drawn[seed], replicates) for seed in prompts}
    size, shared = _size_and_overlap(list(prompts.values()))
    rows = []
    for claim, name in _asked(study):
        estimates = np.array([STATISTICS[name](results[seed]) for seed in prompts])
        sampled = np.array([values[seed][name] for seed in prompts])
        known = ~np.isnan(estimates) & ~np.isnan(sampled).any(axis=1)
        if known.any():
            found = combine(estimates[known], sampled[known], size, study.confidence, shared)
            rows.append({"study": study.name, "claim": claim, "statistic": name, **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def _asked(study: Study) -> list[tuple[str, str]]:
    """Claim and name of every resampled statistic that the ledger names, each once."""
    found: dict[tuple[str, str], None] = {}
    for claim, entry in study.claims.items():
        names = [c.statistic for c in entry.criteria] + ([entry.distinct.statistic] if entry.distinct else [])
        found |= {(claim, name): None for name in [*names, *entry.beside] if name in RESAMPLED}
    return list(found)


def _means(tables: list[pd.DataFrame], replicates: int) -> list[Replicates]:
    """Means of every variant and measure for every replicate, per seed; a prompt has one weight in all of them."""
    rng = np.random.default_rng(0)
    found: list[Replicates] = [{} for _ in tables]
    for kind in ("utility", "harm"):
        own = [table[table["measure"].map(set_of) == kind] for table in tables]
        items = [np.unique(table["item"]) for table in own]
        for means, table, names, weights in zip(found, own, items, prompt_weights(items, replicates, rng), strict=True):
            for measure, rows in table.groupby("measure"):
                wide = rows.pivot(index=KEY, columns="item", values="value").reindex(columns=names)
                known = wide.notna().to_numpy(float)  # a prompt without a value has no part in the mean
                sums = wide.fillna(0).to_numpy() @ weights.T
                means[str(measure)] = pd.DataFrame(sums / (known @ weights.T), index=wide.index)
    return found


def _statistics(study: Study, results: SeedResults, means: Replicates, replicates: int) -> dict[str, list[float]]:
    """Every resampled statistic of one seed: a value per replicate."""
    names = dict.fromkeys(name for _, name in _asked(study))
    projection, scaling = _compared(results.projection), results.scaling[results.scaling["task"].isin(TASKS)]
    found: dict[str, list[float]] = {name: [] for name in names}
    for replicate in range(replicates):
        drawn = replace(
            results,
            projection=_redrawn(projection, projection["control"], "fraction", means, replicate),
            scaling=_redrawn(scaling, "scaling", "alpha", means, replicate),
        )
        for name in names:
            found[name].append(STATISTICS[name](drawn))
    return found


def _compared(projection: pd.DataFrame) -> pd.DataFrame:
    """The variants whose prompts are kept."""
    mode = projection["task"].map({task: mode for task, (mode, _) in TASKS.items()})
    kept = (projection["subspace"] == SUBSPACE) & (projection["mode"] == mode) & projection["control"].isin(CONTROLS)
    return projection[kept]


def _redrawn(table: pd.DataFrame, control: pd.Series | str, size: str, means: Replicates, replicate: int):
    """The table with the means of one replicate where there are any, and its own values elsewhere."""
    key = pd.MultiIndex.from_frame(table.assign(control=control, size=table[size])[KEY])
    columns = {measure: found[replicate].reindex(key).to_numpy() for measure, found in means.items()}
    return table.assign(**{m: np.where(np.isnan(values), table[m], values) for m, values in columns.items()})


def _size_and_overlap(tables: list[pd.DataFrame]) -> tuple[int, float]:
    """Prompts of the smaller evaluation set, and the share of prompts that two seeds have in common (mean of pairs)."""
    sets = [[set(t.loc[t["measure"].map(set_of) == kind, "item"]) for t in tables] for kind in ("utility", "harm")]
    size = min(len(items) for own in sets for items in own)
    common = [np.mean([len(a & b) / len(a) for a, b in combinations(own, 2)] or [0.0]) for own in sets]
    return size, float(max(common))
