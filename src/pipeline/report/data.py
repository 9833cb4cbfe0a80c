"""The generated part of the data page: which public data sets there are, and what each study took from them."""

import math

from helpers.data.registry import DATASETS, Dataset
from helpers.wheels import PACKAGES
from pipeline.report.html import Html, code, lines, table
from pipeline.results import tables
from pipeline.runs.selections import Selection

HASH_DIGITS = 16  # of a hash on the page; the table of results has all of it


def data_table(selections: list[Selection]) -> str:
    """All data sets that a study can name, then, for each study that used some, what it used and where from."""
    rows = [
        [name, dataset.rows_are, dataset.use, f"{dataset.held_out:.0%}", dataset.licence, _source(dataset)]
        for name, dataset in DATASETS.items()
    ]
    parts = [table(["data set", "rows are", "used for", "held out", "licence", "comes from"], rows)]
    for selection in selections:
        if (path := selection.runs[0].table("datasets")).exists():
            found = tables.read_csv(path, "datasets").fillna({"excluded": ""})
            parts.append(f"### As used by the study: {selection.study.title}\n\n{_used(found.to_dict('records'))}")
    return "\n".join(parts)


def _source(dataset: Dataset) -> Html:
    """Where a data set comes from unless a study says otherwise, and the key by which it can."""
    if dataset.package is not None:
        default = f"package {dataset.package} {PACKAGES[dataset.package].version}"
    else:
        default = "made here" if dataset.key is None else "hub or folder only"
    return lines([default, *([code(f"data.{dataset.key}")] if dataset.key else [])])


def _used(found: list[dict]) -> str:
    rows = [
        [
            row["dataset"],
            row["origin"],
            *(_count(row[name]) for name in ("rows", "train", "held_out")),
            lines(row["excluded"].split("; ")),
            code(row["sha256"][:HASH_DIGITS]),
        ]
        for row in found
    ]
    return table(["data set", "origin", "rows", "training", "held out", "excluded", "SHA-256"], rows)


def _count(value: float) -> str:
    return "no limit" if math.isnan(value) else f"{int(value):,}"
