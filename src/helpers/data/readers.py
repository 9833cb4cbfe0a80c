"""Reading public data sets: files in the layout of a package or of the hub become one kind of table.

Only CSV, JSON, JSON lines, parquet and YAML are read, and nothing is ever unpickled.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from helpers.data.registry import Layout
from helpers.errors import StudyError

INSTRUCTIONS = Path(__file__).with_name("instructions.yml")


def read(layout: Layout, files: list[Path]) -> pd.DataFrame:
    """All rows of the files (without one, of the project's own instructions), as the layout says.

    Columns: ``prompt``, ``answer`` and ``topic`` (empty where the data set has none) and ``excluded``, the reason why a
    row is not used, or nothing. Raises StudyError if a file cannot be read or lacks a column.
    """
    raw = pd.concat([_records(file) for file in files], ignore_index=True) if files else pd.DataFrame(_instructions())
    raw = raw.assign(**{name: value for name, value in layout.defaults.items() if name not in raw})
    if layout.replace:
        raw = raw.replace(layout.replace, regex=True)
    if not {*layout.prompt} & {*raw}:
        raise _wrong_columns(raw, " or ".join(layout.prompt))
    table = pd.DataFrame({name: _first(raw, getattr(layout, name)) for name in ("prompt", "answer", "topic")})
    table = table.map(_single).fillna("").astype(str).apply(lambda column: column.str.strip()).assign(excluded="")
    for reason, condition in layout.excluded.items():
        try:
            table = exclude(table, reason, raw.eval(condition, engine="python"))
        except NameError as error:  # pandas' word for a column that is not there
            raise _wrong_columns(raw, str(error).split("'")[1]) from None
    return table


def exclude(table: pd.DataFrame, reason: str, rows: pd.Series) -> pd.DataFrame:
    """The table with a reason against some rows, save those that are excluded already."""
    return table.assign(excluded=table["excluded"].mask(rows & (table["excluded"] == ""), reason))


def _instructions() -> list[dict[str, str]]:
    """All harmless instructions, in a fixed order."""
    return [
        {"prompt": template.format(topic), "topic": topic}
        for group in yaml.safe_load(INSTRUCTIONS.read_text(encoding="utf-8"))
        for topic in group["topics"]
        for template in group["templates"]
    ]


def _records(file: Path) -> pd.DataFrame:
    try:
        if file.name.endswith(".csv"):
            return pd.read_csv(file, keep_default_na=False, dtype=str)
        if file.name.endswith(".parquet"):
            return pd.read_parquet(file)
        if file.name.endswith(".prompt"):
            return pd.DataFrame(yaml.safe_load(file.read_text(encoding="utf-8"))["seeds"])
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            opener = gzip.open if file.name.endswith(".gz") else open
            with opener(file, "rt", encoding="utf-8") as stream:
                return pd.DataFrame([json.loads(line) for line in stream if line.strip()])
        return pd.DataFrame(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{file} cannot be read ({reason}): delete it and fetch it again") from None


def _first(raw: pd.DataFrame, names: list[str]) -> pd.Series:
    """The first column that is there, or an empty one."""
    return next((raw[name] for name in names if name in raw), pd.Series("", index=raw.index))


def _wrong_columns(raw: pd.DataFrame, needed: str) -> StudyError:
    return StudyError(f"the data have columns {sorted(raw)}, but {needed} is needed: check the origin")


def _single(value: Any) -> Any:
    """The first of several categories, or of those that hold."""
    if isinstance(value, dict):
        value = [name for name, holds in value.items() if holds]
    return next(iter(value), "") if isinstance(value, list) else value
