"""Published values that could only be read second-hand, beside a study's own: for show, and for no criterion."""

from pathlib import Path

import pandas as pd
import yaml

_READ = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
SAID: str = _READ["said"]  # what a reader has to know of them
MEASURES = ("utility", "harm")
OURS = "subspace == 'alignment' and task == 'contaminated'"


def beside_ours(study: str, summary: pd.DataFrame, scaling: pd.DataFrame) -> pd.DataFrame:
    """Columns measure, control, fraction, ours, second-hand; no rows for a study of which no values are known.

    ``summary``: the table ``parallel_summary``; ``scaling``: the table of that name, whose α = 1 is the whole update.
    """
    published = _READ["studies"].get(study, {"fraction": []})
    whole = scaling[(scaling["task"] == "contaminated") & (scaling["alpha"] == 1)]
    ours = summary.query(OURS).set_index(["measure", "control", "fraction"])["mean"]
    ends = {measure: whole[measure].mean() for measure in MEASURES}
    rows = [
        (measure, control, at, ends[measure] if at == 1 else ours.get((measure, control, at), float("nan")), value)
        for measure in MEASURES
        for control, values in published.get(measure, {}).items()
        for at, value in zip(published["fraction"], values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["measure", "control", "fraction", "ours", "second-hand"])
