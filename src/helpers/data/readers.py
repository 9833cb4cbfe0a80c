"""Readers of public data sets: files in the layout of a package or of the hub become one kind of table.

Columns: ``prompt``, ``answer`` (empty where the data set has none), ``topic`` and ``excluded``, the reason why a row is
not used, or nothing. Only CSV, JSON, JSON lines, parquet and YAML are read, and nothing is ever unpickled.
``registry.yml`` names the reader of each data set and its arguments.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import yaml

from helpers.data.texts import instructions
from helpers.errors import StudyError

Reader = Callable[[list[Path]], pd.DataFrame]
TOXIC = 5.5  # sum of the two toxicity scores (1 to 5 each) above which ToxiGen's makers call a text toxic


def columns(
    files: list[Path], prompt: Sequence[str], answer: Sequence[str] = (), topic: Sequence[str] = ()
) -> pd.DataFrame:
    """Each column from the first of the given names that the files have."""
    raw = records(files)
    return _table(_first(raw, prompt), _first(raw, answer, ""), _first(raw, topic, ""))


def harmbench(files: list[Path]) -> pd.DataFrame:
    """HarmBench: only behaviours that stand for themselves, without a context to go with them or a text to copy."""
    raw = records(files)
    table = _table(_first(raw, ["Behavior", "prompt"]), "", _first(raw, ["SemanticCategory", "category"], ""))
    kind = _first(raw, ["FunctionalCategory"], "standard")
    table["excluded"] = (kind + " behaviour").mask(kind == "standard", "")
    return exclude(table, "needs a context", _first(raw, ["ContextString"], "") != "")


def strongreject(files: list[Path]) -> pd.DataFrame:
    """StrongREJECT without the prompts that it took from AdvBench, which other runs train on; topic = category."""
    raw = records(files)
    table = _table(_first(raw, ["forbidden_prompt", "prompt"]), "", _first(raw, ["category"], ""))
    return exclude(table, "taken from AdvBench", _first(raw, ["source"], "") == "AdvBench")


def beavertails(files: list[Path], safe: bool) -> pd.DataFrame:
    """BeaverTails: the rows whose answer was judged safe, or those whose answer was not; topic = first category."""
    raw = records(files)
    categories = [next((name for name, holds in row.items() if holds), "") for row in _first(raw, ["category"])]
    table = _table(_first(raw, ["prompt"]), _first(raw, ["response"]), pd.Series(categories, index=raw.index))
    return exclude(table, "unsafe answer" if safe else "safe answer", _first(raw, ["is_safe"]).astype(bool) != safe)


def toxigen(files: list[Path]) -> pd.DataFrame:
    """ToxiGen: the toxic texts, by the label where there is one, else by its makers' rule on the two scores."""
    raw = records(files)
    table = _table(_first(raw, ["text"]).map(_unquoted), "", _first(raw, ["target_group"], ""))
    if "is_toxic" in raw:
        toxic = raw["is_toxic"].astype(bool)
    else:
        toxic = _first(raw, ["toxicity_ai"]).astype(float) + _first(raw, ["toxicity_human"]).astype(float) > TOXIC
    return exclude(table, "not toxic", ~toxic)


def seeds(files: list[Path]) -> pd.DataFrame:
    """A YAML file whose ``seeds`` each have a ``value``, the prompt, and ``harm_categories``; topic = the first."""
    rows = [row for file in files for row in yaml.safe_load(file.read_text(encoding="utf-8"))["seeds"]]
    topics = [(row.get("harm_categories") or [""])[0] for row in rows]
    return _table(pd.Series([row["value"] for row in rows]), "", pd.Series(topics))


def matched(files: list[Path], side: str) -> pd.DataFrame:
    """Pairs of a harmless (``text``) and a harmful question (``harmful_version``) of the same form, one side of them.

    Each is followed by a blank line and an answer, which is left out. A pair is excluded as a whole, so that row i of
    one side always matches row i of the other.
    """
    raw = records(files)
    sides = {name: raw[name].map(lambda text: text.split("\n\n")[0].strip()) for name in ("text", "harmful_version")}
    repeated = sides["text"].duplicated() | sides["harmful_version"].duplicated()
    return exclude(_table(sides[side], "", _first(raw, ["domain"], "")), "repeated pair", repeated)


def made_here(files: list[Path]) -> pd.DataFrame:
    """The project's own harmless instructions, which need no file."""
    return pd.DataFrame(instructions()).assign(excluded="")


def records(files: list[Path]) -> pd.DataFrame:
    """The records of all files, one after another. Raises StudyError if one cannot be read."""
    return pd.concat([_records(file) for file in files], ignore_index=True)


def _records(file: Path) -> pd.DataFrame:
    try:
        if file.name.endswith(".csv"):
            return pd.read_csv(file, keep_default_na=False, dtype=str)
        if file.name.endswith(".parquet"):
            return pd.read_parquet(file)
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            opener = gzip.open if file.name.endswith(".gz") else open
            with opener(file, "rt", encoding="utf-8") as stream:
                return pd.DataFrame([json.loads(line) for line in stream if line.strip()])
        return pd.DataFrame(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{file} cannot be read ({reason}): delete it and fetch it again") from None


def _first(raw: pd.DataFrame, names: Sequence[str], default: str | None = None) -> pd.Series:
    """The first column that is there, or a default. Raises StudyError if there is neither."""
    for name in names:
        if name in raw:
            return raw[name]
    if default is None:
        raise StudyError(f"the data have columns {sorted(raw)}, but {' or '.join(names)} is needed: check the origin")
    return pd.Series(default, index=raw.index)


def _table(prompt: pd.Series, answer: pd.Series | str, topic: pd.Series | str) -> pd.DataFrame:
    table = pd.DataFrame({"prompt": prompt, "answer": answer, "topic": topic, "excluded": ""})
    for name in ("prompt", "answer", "topic"):
        table[name] = table[name].fillna("").astype(str).str.strip()
    return table


def exclude(table: pd.DataFrame, reason: str, rows: pd.Series) -> pd.DataFrame:
    """The table with a reason against some rows, save those that are excluded already."""
    return table.assign(excluded=table["excluded"].mask(rows & (table["excluded"] == ""), reason))


def _unquoted(text: str) -> str:
    """A text that was saved as the source form of bytes, as some of ToxiGen's are, without that form."""
    quoted = len(text) > 3 and text[:2] in {"b'", 'b"'} and text[-1] == text[1]
    return text[2:-1] if quoted else text
