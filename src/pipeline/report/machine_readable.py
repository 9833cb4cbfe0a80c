"""The verdicts for machines: ``verdicts.json`` beside the pages, in the form that ``verdicts.schema.json`` describes.

Every number is the one of the tables ``verdicts``, ``stated`` and ``strict`` of a study; what they lack is null.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.files import sha256, write_text
from helpers.paths import CLAIMS, STUDIES, RunPaths
from helpers.studies.ledger import label_of, meaning_of
from helpers.studies.settings import Study
from pipeline.report.chapters import Staged
from pipeline.report.verdicts import in_order, verdicts_of
from pipeline.results import project
from pipeline.results.provenance import read_record, recorded, revision, sidecar

NAME = "verdicts.json"
SCHEMA = Path(__file__).with_name("verdicts.schema.json")
FOUND = ("mean", "low", "high", "seeds", "over")  # of a statistic
STRICT = ("margin", *FOUND, "share_of_seeds", "share_low", "share_high", "share_seeds")
TABLES = ("verdicts", "stated", "strict")  # that verdicts are in


def write_machine_readable(staged: list[Staged], folder: Path) -> None:
    """Write the verdicts of the studies that have some, and the schema."""
    studies = [one for one in staged if isinstance(one.selection.study, Study)]
    judged = [one for one in studies if not one.selection.study.apart]
    text = json.dumps(machine_readable(judged), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / NAME, text + "\n")
    shutil.copyfile(SCHEMA, folder / SCHEMA.name)


def machine_readable(studies: list[Staged]) -> dict[str, Any]:
    """The whole file: code and ledger, then every study."""
    code = revision()
    return {
        "schema": SCHEMA.name,
        "version": project.version(),
        "repository": project.repository() or None,
        "revision": code["git_revision"],
        "uncommitted_changes": code["git_dirty"],
        "ledger": sha256(CLAIMS),
        "studies": [_study(staged) for staged in in_order(studies)],
    }


def _study(staged: Staged) -> dict[str, Any]:
    selection, study = staged.selection, staged.selection.study
    records, rows = recorded(selection.runs), verdicts_of(staged)
    tables = {name: _read(study, name) for name in ("stated", "strict")}
    claims = [_claim(study, name, rows.get(name), tables) for name in study.claims]
    return {
        "name": study.name,
        "title": study.title,
        "control": study.control,
        "published": selection.published,
        "seeds": selection.seeds,
        "confidence": study.confidence,
        "claims": claims,
        "provenance": {
            "versions": sorted({record["version"] for record in records if "version" in record}),
            "revisions": sorted({record["git_revision"] for record in records}),
            "settings": sha256(STUDIES / f"{study.name}.yml"),
            "seeds": {name: found for record in records for name, found in record["output"].items()},
            "tables": {name: found for table in TABLES for name, found in _hashes(study, table).items()},
        },
    }


def _read(study: Study, name: str) -> pd.DataFrame:
    path = RunPaths(study.name).table(name)
    return pd.read_csv(path, float_precision="round_trip") if path.exists() else pd.DataFrame(columns=["claim"])


def _hashes(study: Study, name: str) -> dict[str, str]:
    """Hash of a table over all seeds as its record says, by its name in records; nothing where there is none."""
    record = sidecar(RunPaths(study.name).table(name))
    return read_record(record)["output"] if record.exists() else {}


def _claim(study: Study, name: str, row: dict | None, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """One claim: both verdicts with the statistics that decide them, then every statistic behind them."""
    entry, found = study.claims[name], row or {}
    strict = {"verdict": found.get("strict"), "statistic": found.get("strict_by")}
    stated = {"verdict": found.get("stated"), "statistic": found.get("stated_by"), "asked": found.get("criterion")}
    stated |= {key: found.get(f"stated_{key}") for key in FOUND}
    return {
        "name": name,
        "statement": entry.statement,
        "caveat": study.caveats.get(name),
        "stated": _plain(stated) if row else None,
        "strict": _plain(strict | {key: found.get(key) for key in STRICT}) if row and entry.strict else None,
        "ledger": {"hash": entry.hash, "since_results": _plain(found).get("ledger_then")},
        "statistics": [
            {"level": level, "label": label_of(statistic["statistic"]), "meaning": meaning_of(statistic["statistic"])}
            | statistic
            for level, table in tables.items()
            for statistic in map(_statistic, table[table["claim"] == name].to_dict("records"))
        ],
    }


def _statistic(row: dict) -> dict[str, Any]:
    """A row of the tables ``stated`` and ``strict``, with the same names for both."""
    asked = row["criterion"] if "criterion" in row else f"> {row['margin']:g}"
    facts = {"statistic": row["statistic"], "asked": asked, "margin": row.get("margin")}
    return _plain(facts | {key: row[key] for key in FOUND} | {"outcome": row.get("outcome", row.get("decision"))})


def _plain(values: dict) -> dict[str, Any]:
    """Values as JSON has them: null for what is not there, whole numbers for numbers of seeds."""
    there = {key: None if value is None or value != value else value for key, value in values.items()}
    return {
        key: int(value) if value is not None and key.endswith("seeds") and key != "share_of_seeds" else value
        for key, value in there.items()
    }
