"""Public data sets as tables with the same columns wherever they come from, and an account of what was left out.

Whether a prompt of a data set is held out is decided by a hash of its words, so alike for every seed: no prompt of an
evaluation is ever trained on. A study that does not train on a data set at all evaluates on the whole of it. The seed
decides which rows are drawn, and in what order.
"""

import hashlib
import random
from itertools import islice

import pandas as pd

from helpers.data import COLUMNS, plain, word_problems
from helpers.data.files import Found, exclude, find, read
from helpers.data.registry import DATASETS, Dataset
from helpers.errors import StudyError
from helpers.studies.sections import Origin
from helpers.studies.settings import Study

NEAR = 0.8  # share of the words of two prompts that both have, from which they count as one
_packaged: dict[tuple[str, float], pd.DataFrame] = {}  # what was read of packages, by data set and share held out


def rows(name: str, split: str, n: int, seed: int, origin: Origin | None = None) -> pd.DataFrame:
    """``n`` rows with the columns ``helpers.data.COLUMNS`` of one split: ``train``, ``held-out``, or ``all``.

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
    found = find(dataset, origin)
    if dataset.drawn:
        problems = word_problems.problems(found.files, random.Random(f"{seed}-{name}-{split}"), dataset.templates)
        table = pd.DataFrame(islice((row for row in problems if _split(dataset, row["prompt"]) == split), n))
    else:
        table = _clean(dataset, found).query("excluded == '' and split == @split")
        if len(table) < n:
            raise StudyError(
                f"data set {name!r} has {len(table)} rows for {split!r}, but {n} are asked for: "
                "ask for fewer in the study's settings"
            )
        order = list(range(len(table)))
        if not dataset.in_order:  # the same for all data sets of a length, so that matched ones stay matched
            random.Random(f"{seed}-rows").shuffle(order)
        table = table.iloc[order[:n]]
    return table.assign(prefix="", source=name)[COLUMNS].reset_index(drop=True)


def describe(name: str, origin: Origin | None = None, whole: bool = False) -> dict:
    """What a data set holds: origin, licence, counts (None where rows are drawn without limit), hash and use.

    ``excluded`` counts the rows left out by reason; ``rows`` are those that are left. ``whole``: all are held out.
    """
    dataset = _dataset(name, whole)
    found = find(dataset, origin)
    sha256 = found.sha256()
    if dataset.drawn:
        excluded = word_problems.left_out(found.files, dataset.templates)
        counts = {"rows": None, "excluded": excluded, "train": None, "held_out": None}
    else:
        table = _clean(dataset, found)
        left = table[table["excluded"] == ""]
        held_out = int((left["split"] == "held-out").sum())
        excluded = table.loc[table["excluded"] != "", "excluded"].value_counts().sort_index().to_dict()
        counts = {"rows": len(left), "excluded": excluded, "train": len(left) - held_out, "held_out": held_out}
        sha256 = sha256 or hashlib.sha256("\n".join(table["prompt"]).encode()).hexdigest()
    facts = {"dataset": name, "origin": found.where, "licence": dataset.licence, **counts}
    return facts | {"sha256": sha256, "use": dataset.use}


def origin_of(study: Study, name: str) -> Origin | None:
    """The origin that a study sets for a data set; nothing means the pinned package, or that none is needed."""
    return study.data.get(_dataset(name).key)


def evaluation_split(study: Study, name: str) -> str:
    """``held-out`` if the study trains on the data set, or on another made from the same files, else ``all``."""
    dataset = _dataset(name)
    trained = [_dataset(source) for where, source in study.sources() if where.startswith("training")]
    shared = [
        one for one in trained if (one.key is not None and one.key == dataset.key) or (one.drawn and dataset.drawn)
    ]
    return "held-out" if dataset in trained or shared else "all"


def datasets_table(study: Study) -> pd.DataFrame:
    """One row for each data set that a study of pretrained models uses: the table ``datasets``."""
    found = []
    for name in sorted({source for _, source in study.sources()}):
        facts = describe(name, origin_of(study, name), evaluation_split(study, name) == "all")
        excluded = "; ".join(f"{reason}: {count}" for reason, count in facts["excluded"].items())
        found.append(facts | {"excluded": excluded})
    return pd.DataFrame(found)


def _dataset(name: str, whole: bool = False) -> Dataset:
    if name not in DATASETS:
        raise StudyError(f"data set {name!r} is not known: choose one of {', '.join(DATASETS)}")
    return DATASETS[name].model_copy(update={"held_out": 1}) if whole else DATASETS[name]


def _clean(dataset: Dataset, found: Found) -> pd.DataFrame:
    """``_read_clean``; of a package, whose files are pinned, once a process."""
    if found.layout is not dataset.packaged:
        return _read_clean(dataset, found)
    key = (dataset.name, dataset.held_out)
    if key not in _packaged:
        _packaged[key] = _read_clean(dataset, found)
    return _packaged[key]


def _read_clean(dataset: Dataset, found: Found) -> pd.DataFrame:
    """All rows: prompt, answer, topic, split, and why a row is excluded, if it is.

    Empty rows, repeated rows and, among held-out ones, repeated prompts are excluded, and what is nearly another set's.
    """
    table = read(found)
    table["words"] = table["prompt"].map(plain)
    table["split"] = [_split(dataset, prompt) for prompt in table["prompt"]]
    table = exclude(table, "empty", (table["prompt"] == "") | (dataset.answered & (table["answer"] == "")))
    if not dataset.in_order:
        table = exclude(table, "repeated", _repeated(table, ["prompt", "answer"]))
        table = exclude(table, "repeated prompt", _repeated(table, ["words"]) & (table["split"] == "held-out"))
    if other := found.layout.unlike:
        known = _clean(DATASETS[other], find(DATASETS[other], None))["prompt"]
        table = exclude(table, f"nearly a prompt of {other}", near(table["prompt"], known))
    return table


def _repeated(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Which rows repeat an earlier one, not counting those that are excluded already."""
    left = table[table["excluded"] == ""]
    return left.duplicated(columns).reindex(table.index, fill_value=False)


def near(prompts: pd.Series, others: pd.Series) -> pd.Series:
    """Which prompts share most of their words with one of some others, whatever case, order, space and signs."""
    known = [set(plain(other).split()) for other in others]
    words = [set(plain(prompt).split()) for prompt in prompts]
    found = [any(len(own & other) >= NEAR * len(own | other) for other in known) for own in words]
    return pd.Series(found, prompts.index)


def _split(dataset: Dataset, prompt: str) -> str:
    bucket = int.from_bytes(hashlib.sha256(plain(prompt).encode()).digest()[:4], "big")
    return "held-out" if bucket / 2**32 < dataset.held_out else "train"
