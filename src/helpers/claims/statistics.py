"""Every statistic of the claims, for every seed of a study: what the ledger may name, and what it names."""

import pandas as pd

from helpers.claims import stated, strict  # noqa: F401 (they register their statistics)
from helpers.claims.results import STATISTICS, TABLES, SeedResults
from helpers.studies.settings import Study

__all__ = ["STATISTICS", "TABLES", "SeedResults", "claim_statistics"]


def claim_statistics(study: Study, results: dict[int, SeedResults]) -> pd.DataFrame:
    """Every statistic that the ledger names for the study, for every seed: table ``claim_statistics``."""
    rows = [
        (study.name, claim, name, seed, float(STATISTICS[name](r)))
        for claim, entry in study.claims.items()
        for name in entry.statistics
        for seed, r in results.items()
    ]
    return pd.DataFrame(rows, columns=["study", "claim", "statistic", "seed", "value"])
