"""Do the intervals cover? Simulation on data whose truth is known, and the error rates of the decision.

    python -m benchmarks.coverage            # about 2 minutes on one core
    python -m benchmarks.coverage --quick    # 50 draws per setting, a few seconds: it runs, but says little

Writes the tables ``coverage`` and ``decisions`` with their provenance to ``benchmarks/published``, where the book reads
them (``--quick``: to ``results/bench-quick``), and prints a summary. They depend on no machine: its seed is fixed.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks import tables
from helpers import paths
from helpers.claims.inference import combine, decide, prompt_weights, rate_interval
from helpers.claims.power import power_of

NOMINAL = 0.95
SEEDS, PROMPTS = (3, 5, 10), (50, 200)
RATIOS = (0.0, 0.5, 1.0, 2.0)  # SD between seeds, as a multiple of the standard error over a seed's prompts
OUTCOMES = ("normal", "skewed", "threshold")
DESIGNS = ("own prompts", "same prompts")  # does each seed have its own prompts, or do all seeds have the same?
SHARED = 0.5  # share of the variance over prompts that is the prompt's own, whatever the seed
THRESHOLD = stats.norm.isf(0.1)  # a threshold outcome is 1 for one prompt in ten
EFFECTS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # truth minus margin, in SDs over seeds
PUBLISHED = paths.ROOT / "benchmarks" / "published"
METHODS = ("t over seeds", "naive hierarchical", "corrected hierarchical")


@dataclass(frozen=True)
class Setting:
    """One kind of data."""

    outcome: str
    design: str
    seeds: int
    prompts: int
    ratio: float

    def draw(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Values (draws, seeds, prompts) of a measure that is ``truth`` on average over seeds and prompts."""
        size = (draws, self.seeds, self.prompts)
        common = rng.standard_normal((draws, 1 if self.design == "same prompts" else self.seeds, self.prompts))
        latent = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.standard_normal(size)
        shift = self.between() * rng.standard_normal((draws, self.seeds, 1))
        if self.outcome == "threshold":
            return (latent + shift > THRESHOLD).astype(float)
        return (np.exp(latent) if self.outcome == "skewed" else latent) + self._scale() * shift

    def between(self) -> float:
        """SD of a seed's shift, in units of the latent variable; of a threshold outcome by its slope at the threshold.

        There the SD of the rate over seeds is the ratio times the rate's standard error to first order only.
        """
        if self.outcome == "threshold":
            rate = stats.norm.sf(THRESHOLD)
            return self.ratio * np.sqrt(rate * (1 - rate) / self.prompts) / stats.norm.pdf(THRESHOLD)
        return self.ratio / np.sqrt(self.prompts)

    def _scale(self) -> float:
        return float(np.sqrt((np.e - 1) * np.e)) if self.outcome == "skewed" else 1.0  # SD of exp of a normal variable

    @property
    def truth(self) -> float:
        """The expected value over seeds and prompts."""
        if self.outcome == "threshold":
            return float(stats.norm.sf(THRESHOLD / np.sqrt(1 + self.between() ** 2)))
        return float(np.exp(0.5)) if self.outcome == "skewed" else 0.0


def settings() -> list[Setting]:
    """Every combination."""
    return [Setting(*values) for values in itertools.product(OUTCOMES, DESIGNS, SEEDS, PROMPTS, RATIOS)]


def intervals(values: np.ndarray, same_prompts: bool, replicates: int, rng: np.random.Generator) -> dict:
    """Ends (draws, 2) of each method's interval for values (draws, seeds, prompts)."""
    estimates = values.mean(axis=2)
    n, m = values.shape[1:]
    half = stats.t.ppf((1 + NOMINAL) / 2, n - 1) * stats.sem(estimates, axis=1)
    plain = estimates.mean(axis=1)[:, None] + np.outer(half, [-1, 1])
    names = [np.arange(m) if same_prompts else np.arange(m) + s * m for s in range(n)]
    weights = np.stack(prompt_weights(names, replicates, rng))  # (seeds, replicates, prompts)
    drawn = np.einsum("dsp,sbp->dsb", values, weights, optimize=True)
    found = [combine(e, d, m, NOMINAL, float(same_prompts)) for e, d in zip(estimates, drawn, strict=True)]
    corrected = np.array([[f["low"], f["high"]] for f in found])
    return dict(zip(METHODS, (plain, _naive(values, replicates, rng), corrected), strict=True))


def _naive(values: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Percentiles of means of resampled prompts of resampled seeds. All draws share the resampling's choices."""
    draws, n, m = values.shape
    weights = np.zeros((replicates, n, m))
    chosen = rng.integers(n, size=(replicates, n))
    counts = rng.multinomial(m, np.full(m, 1 / m), size=(replicates, n)) / (n * m)
    for slot in range(n):
        weights[np.arange(replicates), chosen[:, slot]] += counts[:, slot]
    means = values.reshape(draws, -1) @ weights.reshape(replicates, -1).T
    return np.quantile(means, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2], axis=1).T


def coverage(setting: Setting, draws: int, replicates: int, rng: np.random.Generator) -> list[dict]:
    """Rows of the table ``coverage``: how often each method's interval holds the truth, and how wide it is."""
    values, rows = setting.draw(draws, rng), []
    for method, ends in intervals(values, setting.design == "same prompts", replicates, rng).items():
        covered = int(np.sum((ends[:, 0] <= setting.truth) & (setting.truth <= ends[:, 1])))
        found = rate_interval(covered, draws, NOMINAL)
        outside = found["high"] < 0.93 or found["low"] > 0.97
        within = 0.93 <= found["rate"] <= 0.97
        rows.append(
            vars(setting)
            | {"method": method, "draws": draws, "coverage": found["rate"], "low": found["low"], "high": found["high"]}
            | {"width": np.ptp(ends, axis=1).mean() * np.sqrt(setting.prompts)}
            | {"met": "yes" if within else "no" if outside else "within error"}
        )
    return rows


def decisions(seeds: int, shape: str, effect: float, draws: int, rng: np.random.Generator) -> dict:
    """A row of the table ``decisions``: what ``decide`` says of statistics that are ``effect`` SDs above the margin."""
    noise = rng.standard_normal((draws, seeds)) if shape == "normal" else rng.exponential(size=(draws, seeds)) - 1
    said = [decide(values + effect, 0.0, NOMINAL) for values in noise]
    rates = {name: rate_interval(said.count(name), draws, NOMINAL) for name in ("distinct", "not distinct")}
    row = {"statistic": shape, "seeds": seeds, "effect": effect, "draws": draws}
    for name, found in rates.items():
        key = name.replace(" ", "_")
        row |= {key: found["rate"], f"{key}_low": found["low"], f"{key}_high": found["high"]}
    return row | {"power": power_of(effect, 1.0, 0.0, seeds, NOMINAL)}


def main(arguments: list[str] | None = None) -> None:
    """Simulate, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="50 draws per setting")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    options = parser.parse_args(arguments)
    draws, replicates = (50, 100) if options.quick else (1000, 1000)
    start, rng = time.perf_counter(), np.random.default_rng(0)
    chosen = settings()[:: 12 if options.quick else 1]
    rows = [row for setting in chosen for row in coverage(setting, draws, replicates, rng)]
    kinds = itertools.product(SEEDS, ("normal", "skewed"), EFFECTS)
    said = [decisions(*kind, draws=draws if options.quick else 10 * draws, rng=rng) for kind in kinds]
    out = options.out or (paths.results_root() / "bench-quick" / "tables" if options.quick else PUBLISHED)
    facts = {"study": "bench", "quick": options.quick, "replicates": replicates, "nominal": NOMINAL}
    for name, table in (("coverage", pd.DataFrame(rows)), ("decisions", pd.DataFrame(said))):
        tables.write(out, name, table, facts | {"seconds": time.perf_counter() - start})
    found = pd.DataFrame(rows)
    print(found.groupby(["method", "design", "seeds"])["coverage"].describe()[["min", "mean", "max"]].to_string())
    print(f"written to {out}, {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
