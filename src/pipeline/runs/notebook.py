"""What every notebook of the study does: check its parameters, find its inputs, write its results with provenance."""

import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from pydantic import Field, create_model

from helpers.errors import Damaged, MissingInput, SettingsError
from helpers.files import write_tensors
from helpers.lifeline import WORKFLOW
from helpers.paths import PUBLISHED, RunPaths, power_table
from helpers.studies import ledger
from helpers.studies.sections import Fraction, Section, Seed
from helpers.studies.settings import OBJECTIVES, OwnModels, Study, digest, load_study, parse_seeds
from helpers.studies.wording import shown_value, validate
from pipeline.results import provenance, tables
from pipeline.runs.stages import CHAPTERS, STAGES, file_of, made_from, maker, of_study

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_PARAMETERS = {
    "study": Annotated[str, Field(min_length=1)],
    "seed": Seed,
    "seeds": str | int | list[int],
    "eta": Fraction,
    "objective": Literal[OBJECTIVES],
}


@dataclass
class Run:
    """One execution of a notebook: its settings, its folders, and what it has read so far."""

    name: str
    study: Study
    seed: int | None
    parameters: Mapping[str, Any]
    folder: RunPaths
    started: float = field(default_factory=time.monotonic)  # a clock that is set back must not shorten a run
    inputs: list[Path] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """The seeds a notebook over all seeds reads: its parameter, or else the study's."""
        return parse_seeds(self.parameters.get("seeds", ""), self.study)

    @property
    def interval(self) -> str:
        """What the intervals of its figures are, for captions."""
        return f"mean over {len(self.seeds)} seeds with {self.study.confidence:.0%} t interval"

    @property
    def _asked(self) -> str:
        """The seeds of a chapter as a workflow asks for them."""
        if self.name not in CHAPTERS:
            return ""
        return PUBLISHED if self.published else ",".join(map(str, self.seeds))

    @property
    def published(self) -> bool:
        """Whether the tables of the seeds are the published ones."""
        return self.parameters.get("seeds") == PUBLISHED

    @property
    def records_of_seeds(self) -> list[dict]:
        """The provenance of every result of those seeds."""
        return provenance.recorded(RunPaths(self.study.name, seed, self.published) for seed in self.seeds)

    def choose(self, parameter: str, allowed: list[float]) -> None:
        """Raise SettingsError unless a parameter is one of the values that the study measured."""
        value = self.parameters[parameter]
        if value not in allowed:
            choice = ", ".join(map(str, allowed))
            raise SettingsError(
                f"parameters of notebook {self.name}: {parameter} is {shown_value(value)}; it must be one of {choice}"
            )

    def require(self, key: str, seed: int | None = None) -> Path:
        """Path of an input such as ``models/aligned`` or ``tables/energy``, remembered for the provenance.

        Raises MissingInput with the notebook and the commands that make it, and Damaged if it is not as it was written.
        """
        folder = self.folder if seed is None else RunPaths(self.study.name, seed, self.published)
        file = folder.root / file_of(key)
        if folder.seed is None and not file.exists():  # a measurement apart from the seeds, published with them
            published = replace(folder, published=True)
            folder = published if (published.root / file_of(key)).exists() else folder
            file = folder.root / file_of(key)
        if not file.exists():
            raise MissingInput(_how_to_make(self.study.name, folder.seed, key, file))
        path = file.parent if key.startswith("models/") else file
        if not folder.published:
            provenance.check_unchanged(path)
        self.inputs.append(path)
        return path

    def read(self, table: str) -> pd.DataFrame:
        """A table of this run's seed."""
        return tables.read_csv(self.require(f"tables/{table}"), table)

    def read_all_seeds(self, table: str) -> pd.DataFrame:
        """A per-seed table of all seeds, one below the other."""
        found = [tables.read_csv(self.require(f"tables/{table}", seed), table) for seed in self.seeds]
        return pd.concat(found, ignore_index=True)

    def tables_by_seed(self, names: Iterable[str]) -> dict[int, dict[str, pd.DataFrame]]:
        """Several per-seed tables of every seed, by seed and name."""
        found = {name: self.read_all_seeds(name) for name in names}
        return {seed: {name: t[t["seed"] == seed] for name, t in found.items()} for seed in self.seeds}

    def bench(self, folder: Path, **names: str) -> tuple[list[pd.DataFrame], dict[str, Any]]:
        """Tables measured apart from any study, written as tables of this run, and the record of the first of them.

        ``names``: the table's name here by its file's name in ``folder``.
        """
        files = [folder / f"{file}.csv" for file in names]
        self.inputs += files
        found = [self.write(name, pd.read_csv(file)) for name, file in zip(names.values(), files, strict=True)]
        return found, provenance.read_record(provenance.sidecar(files[0]))

    def prompts_of_seeds(self) -> dict[int, pd.DataFrame]:
        """The table ``projection_prompts`` of every seed; nothing unless all have it (published results do not)."""
        files = [RunPaths(self.study.name, seed, self.published).table("projection_prompts") for seed in self.seeds]
        if not all(file.exists() for file in files):
            return {}
        table = self.read_all_seeds("projection_prompts")
        return {seed: table[table["seed"] == seed] for seed in self.seeds}

    def write(self, table: str, frame: pd.DataFrame, part: str = "") -> pd.DataFrame:
        """Write a table (or a part of it, ``<table>-<part>``) with its provenance; returns it with its ``seed`` column.

        Columns are put in the order of the table's schema, which must name them all.
        """
        if "seed" in tables.SCHEMAS[table] and self.seed is not None:
            frame = frame.assign(seed=self.seed)
        order = {column: place for place, column in enumerate(tables.SCHEMAS[table])}
        frame = frame[sorted(frame.columns, key=lambda column: order.get(column, len(order)))]
        path = self.folder.table(f"{table}-{part}" if part else table)
        tables.write_csv(path, table, frame)
        self.record(path)
        return frame

    def write_model(self, name: str, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast") -> Path:
        """Save a model with its tokenizer as ``models/<name>`` of this run; returns its folder."""
        from helpers.models.load import save_model  # a figure need not wait for it

        save_model(model, tokenizer, self.folder.model(name))
        self.record(self.folder.model(name))
        return self.folder.model(name)

    def write_arrays(self, name: str, arrays: "Mapping[str, Tensor]") -> None:
        """Write arrays that are too large for a table as ``arrays/<name>.safetensors`` with their provenance."""
        write_tensors(self.folder.array(name), arrays)
        self.record(self.folder.array(name))

    def pieces(self, checkpoints: dict) -> Any:
        """Where this run keeps the pieces of a long table made from ``checkpoints`` until the whole is written."""
        from pipeline.runs.pieces import Pieces  # here, so that notebooks without models need not wait for torch

        return Pieces(self.name, self.study, self.seed, checkpoints)

    def record(self, path: Path) -> None:
        """Write the provenance of a result of this run beside it."""
        precision = sys.modules.get("helpers.models.precision")  # who never imported it has not asked for ``auto``
        facts = {
            "study": self.study.name,
            "seed": self.seed,
            "notebook": self.name,
            "parameters": dict(self.parameters),
            "settings": digest(self.study),
            "made_from": made_from(self.name, self.study, self.parameters.get("objective", ""), self._asked),
            **({"ledger": ledger.hashes(self.study.claims)} if isinstance(self.study, Study) else {}),
            **(precision.chosen() if precision else {}),
            "seconds": round(time.monotonic() - self.started, 2),
        }
        provenance.record(path, facts, self.inputs)


def begin(name: str, **parameters: Any) -> Run:
    """Start a notebook: check every parameter's type and range and quiet the libraries.

    Raises SettingsError with one sentence if the study, the seed or another parameter cannot be used.
    """
    _quiet()
    fields = {key: (_PARAMETERS[key], ...) for key in parameters}
    checked = create_model("Parameters", __base__=Section, **fields)
    values = validate(checked, parameters, f"parameters of notebook {name}").model_dump()
    study = load_study(values["study"])
    if name not in of_study(STAGES, study):
        raise SettingsError(f"study {study.name} has no notebook {name}: it has {', '.join(of_study(STAGES, study))}")
    seed = values.get("seed")
    return Run(name, study, seed, values, _folder(name, study, seed, values.get("seeds", "")))


def _folder(name: str, study: Study | OwnModels, seed: int | None, seeds: str | int | list[int]) -> RunPaths:
    """Where results go: those of a chapter run by hand with other seeds than the report's are kept apart."""
    folder = RunPaths(study.name, seed)
    if name not in CHAPTERS or WORKFLOW in os.environ:
        return folder
    asked, shown = _asked(seeds, study), _asked(seeds_of_report(folder), study)
    if asked == shown:
        return folder
    apart = RunPaths(study.name, apart=f"by-hand-{asked.replace(',', '-')}")
    print(f"seeds {asked} are not those of the report, {shown}: tables go to {apart.root / 'tables'}", flush=True)
    return apart


def _asked(seeds: str | int | list[int], study: Study | OwnModels) -> str:
    return PUBLISHED if seeds == PUBLISHED else ",".join(map(str, parse_seeds(seeds, study)))


def seeds_of_report(folder: RunPaths) -> str:
    """The seeds that the tables over all seeds in a folder were made from, as asked for; empty without one."""
    for path in provenance.records_of(folder):
        with suppress(Damaged):
            if (seeds := provenance.read_record(path).get("parameters", {}).get("seeds")) is not None:
                return seeds
    return ""


def _how_to_make(study: str, seed: int | None, key: str, file: Path) -> str:
    notebook, objective = maker(key)
    options = f"-p study {study}" + (f" -p seed {seed}" if seed is not None else "")
    options += f" -p objective {objective}" if objective else ""
    return (
        f"{file} is missing: run notebooks/{notebook}.ipynb first, as in "
        f"`papermill notebooks/{notebook}.ipynb out.ipynb {options}`, or make everything with `make book STUDY={study}`"
    )


def _quiet() -> None:
    """Keep library chatter out of the executed notebooks; errors stay."""
    if transformers := sys.modules.get("transformers"):  # importing it takes seconds that a figure need not wait
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def measured_power() -> pd.DataFrame:
    """Per claim and number of seeds what is found distinct with that power: table ``power`` of the graded control.

    It is empty until that control has run. Raises StudyError for a table that another version made.
    """
    path = power_table()
    return tables.read_csv(path, "power") if path else pd.DataFrame(columns=list(tables.SCHEMAS["power"]))
