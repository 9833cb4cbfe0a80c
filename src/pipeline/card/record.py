"""A card on disk: its settings, its tables and what it was made from, in ``results/<card>/all``."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from helpers.errors import MissingInput
from helpers.files import sha256, write_text
from helpers.paths import RunPaths, results_root
from helpers.studies.settings import OwnModels, digest
from helpers.studies.wording import shown_value, validate
from helpers.studies.yaml_files import read_yaml
from helpers.weights.checkpoints import Checkpoint
from pipeline.results import provenance, tables

SETTINGS, NOTES = "settings.yml", "notes.json"
NAME = re.compile(r"card-[a-z0-9.-]{1,80}")


@dataclass(frozen=True)
class Card:
    """A report card, by whose settings its models are found again."""

    study: OwnModels

    @property
    def folder(self) -> RunPaths:
        """The folder of its tables and its page."""
        return RunPaths(self.study.name)

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder.root / "card.html"

    def save(self) -> None:
        """Write the settings that it was made with. Raises Unwritable."""
        text = yaml.safe_dump(self.study.model_dump(mode="json", exclude_none=True), sort_keys=False)
        write_text(self.folder.root / SETTINGS, text)

    def write(self, name: str, frame: pd.DataFrame, inputs: list[Path], seconds: float) -> None:
        """Write a table with its provenance."""
        path = self.folder.table(name)
        tables.write_csv(path, name, frame.reindex(columns=list(tables.SCHEMAS[name])))
        facts = {"study": self.study.name, "seed": None, "notebook": "31_card", "settings": digest(self.study)}
        provenance.record(path, facts | {"seconds": round(seconds, 2)}, inputs)

    def note(self, facts: dict) -> None:
        """Keep what no table holds: why edits could not be measured, by edit, and the seconds that were expected."""
        write_text(self.folder.root / NOTES, json.dumps(facts, indent=1, ensure_ascii=False))

    @property
    def notes(self) -> dict:
        """What was kept so."""
        return json.loads((self.folder.root / NOTES).read_text(encoding="utf-8"))

    def read(self, name: str) -> pd.DataFrame:
        """One of its tables. Raises MissingInput where the card was stopped before it was written."""
        path = self.folder.table(name)
        if not path.is_file():
            raise MissingInput(f"the card {self.study.name} is not finished: the same `make card` goes on with it")
        return tables.read_csv(path, name)

    def record(self, name: str = "card_behaviour") -> dict:
        """The provenance of one of its tables."""
        return provenance.read_record(provenance.sidecar(self.folder.table(name)))


def open_card(name: str) -> Card:
    """The card of that name below the results. Raises MissingInput, with those that there are."""
    path = results_root() / str(name) / "all" / SETTINGS
    if not NAME.fullmatch(str(name)) or not path.is_file():
        there = ", ".join(sorted(found.parents[1].name for found in results_root().glob(f"card-*/all/{SETTINGS}")))
        made = f"there are {there}" if there else "make one with `make card BASE=… ALIGNED=… TUNED=…`"
        raise MissingInput(f"there is no card {shown_value(name)} in {results_root()}: {made}")
    return Card(validate(OwnModels, read_yaml(path, "make the card again"), str(path)))


def weights_of(checkpoint: Checkpoint) -> str:
    """Hash of a model's weights and of the settings that say how they are read, whatever else lies in its folder."""
    return digest([sha256(file) for file in checkpoint.files()], checkpoint.config, checkpoint.adapter)
