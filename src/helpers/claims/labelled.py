"""What labelled subspaces hold and do beyond chance, beyond a smaller step, and beyond their twins, over seeds."""

import pandas as pd

from helpers.claims.matched import excess
from helpers.claims.over_seeds import measures_over_seeds
from helpers.errors import StudyError

SCALING, TASK = "scaling", "contaminated"
PLACE = ["subspace", "grouping", "group", "fraction"]
GEOMETRY = ["value", "above_chance", "above_twin"]
BEHAVIOUR = ["energy_kept", "utility_share", "harm_share", "beyond", "beyond_judged", "above_twin"]
Twins = dict[str, str]  # of each labelled subspace


def geometry_summary(table: pd.DataFrame, twins: Twins, confidence: float) -> pd.DataFrame:
    """Table ``labelled_geometry_summary``: shares, and by how much they exceed chance and the twin's.

    ``chance`` is its mean over seeds. Raises StudyError where nothing was measured.
    """
    keys = [*PLACE, "quantity", "of"]
    found = _measured(table).assign(above_chance=table["value"] - table["chance"])
    summary = measures_over_seeds(_above_twin(found, twins, keys, "value"), keys, GEOMETRY, confidence)
    return summary.merge(found.groupby(keys, as_index=False)["chance"].mean(), on=keys)


def behaviour_summary(table: pd.DataFrame, twins: Twins, confidence: float) -> pd.DataFrame:
    """Table ``labelled_behaviour_summary``: shares of utility and harm that are left, and harm removed beyond scaling.

    ``beyond`` is S = h(scaled, same u) − h(variant) by margins, as on the bench, ``beyond_judged`` the same by the
    judge, ``above_twin`` S less the twin's of the same seed. Raises StudyError where nothing was measured.
    """
    keys, found = [*PLACE, "mode"], _measured(table).assign(task=TASK)
    scaled = found[found["mode"] == SCALING].rename(columns={"fraction": "alpha"})
    found = excess(found[found["mode"] != SCALING], scaled, "utility_margin", ["harm_margin", "harm"])
    found = found.rename(columns={"share_utility_margin": "utility_share", "share_harm_margin": "harm_share"})
    found = found.assign(beyond=-found["excess_harm_margin"], beyond_judged=-found["excess_harm"])
    return measures_over_seeds(_above_twin(found, twins, keys, "beyond"), keys, BEHAVIOUR, confidence)


def at_largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each subspace at its largest rank."""
    return table[table["fraction"] == table.groupby("subspace")["fraction"].transform("max")]


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        raise StudyError(
            "no labelled subspace was measured in these results: run notebooks/34_labelled.ipynb of each seed"
        )
    return table


def _above_twin(table: pd.DataFrame, twins: Twins, keys: list[str], column: str) -> pd.DataFrame:
    """Add ``above_twin``: a column less that of the twin at the same place and seed; NaN of what has no twin."""
    values = table.set_index(["seed", *keys])[column]
    places = table[["seed", *keys]].assign(subspace=table["subspace"].map(twins))
    return table.assign(
        above_twin=table[column].to_numpy() - values.reindex(pd.MultiIndex.from_frame(places)).to_numpy()
    )
