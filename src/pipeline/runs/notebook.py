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

from helpers.claims.power import on_grid
from helpers.errors import Damaged, MissingInput, SettingsError
from helpers.files import write_tensors
from helpers.lifeline import WORKFLOW
from helpers.paths import CONTROL, PUBLISHED, ROOT, RunPaths, bench_summaries, power_table, published_seeds
from helpers.studies import ledger
from helpers.studies.sections import Section
from helpers.studies.settings import OBJECTIVES, UNRELATED, Study, as_published, digest, load_study
from helpers.studies.values import Fraction, Seed
from helpers.studies.wording import shown_value, validate
from pipeline.results import provenance, tables
from pipeline.runs.command_line import compute_as_a_batch
from pipeline.runs.injected import refuse_unknown
from pipeline.runs.jobs import Job, as_asked, jobs_of
from pipeline.runs.pieces import Pieces
from pipeline.runs.stages import CHAPTERS, LATER, STAGES, file_of, of_study, place_of, result

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_PARAMETERS = {
    "study": Annotated[str, Field(min_length=1)],
    "seed": Seed,
    "seeds": str | int | list[int],
    "eta": Fraction,
    "objective": Literal[*OBJECTIVES, UNRELATED],
}


@dataclass(eq=False)
class Run(Job):
    """A job that is being done: the parameters it was ``given``, and what it has read so far."""

    given: Mapping[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)  # a clock that is set back must not shorten a run
    inputs: list[Path] = field(default_factory=list)

    @property
    def interval(self) -> str:
        """What the intervals of its figures are, for captions."""
        if len(self.seeds) == 1:
            return "one seed, which has no interval"
        return f"mean over {len(self.seeds)} seeds with {self.study.confidence:.0%} t interval"

    @property
    def records_of_seeds(self) -> list[dict]:
        """The provenance of every result of the seeds that it reads."""
        return provenance.recorded(RunPaths(self.study.name, seed, self.published) for seed in self.seeds)

    def choose(self, parameter: str, allowed: list[float]) -> None:
        """Raise SettingsError unless a parameter is one of the values that the study measured."""
        value = self.given[parameter]
        if value not in allowed:
            raise SettingsError(
                f"parameters of notebook {self.notebook}: {parameter} is {shown_value(value)}; it must be one of "
                + ", ".join(map(str, allowed))
            )

    def beside(self, name: str) -> RunPaths:
        """Folder of models that a run makes for itself alone, and takes up where it was stopped."""
        return RunPaths(self.study.name, apart=f"seed-{self.seed}/scratch/{name}")

    def require(self, key: str, seed: int | None = None) -> Path:
        """Path of an input such as ``models/aligned`` or ``tables/energy``, remembered for the provenance.

        Raises MissingInput with the notebook and the commands that make it, and Damaged if it is not as it was written.
        """
        folder = self.folder if seed is None else RunPaths(self.study.name, seed, self.published)
        folders = [folder] if folder.seed is not None else [folder, replace(folder, published=True)]
        for place in folders:  # a measurement apart from the seeds is published with them
            path = place_of(self.study, place, key)
            if file_of(path).exists():
                if not place.published:
                    provenance.check_unchanged(path)
                self.inputs.append(path)
                return path
        of_published = self.notebook in CHAPTERS and not self.published and published_seeds(self.study.name)
        hint = ", or read the published tables with `-p seeds published`" if of_published else ""
        raise MissingInput(_how_to_make(self.study, folder, key) + hint)

    def read(self, table: str) -> pd.DataFrame:
        """A table of this run's seed."""
        return tables.read_csv(self.require(f"tables/{table}"), table)

    def read_all_seeds(self, table: str) -> pd.DataFrame:
        """A per-seed table of all seeds, one below the other.

        It is empty, and a sentence says so, where published results are older than the measurement.
        """
        if self._older_than(table):
            print(f"These results have no {table!r}, which was not measured when they were published.", flush=True)
            return pd.DataFrame(columns=list(tables.SCHEMAS[table]))
        found = [tables.read_csv(self.require(f"tables/{table}", seed), table) for seed in self.seeds]
        return pd.concat(found, ignore_index=True)

    def _older_than(self, table: str) -> bool:
        """Whether published results were made before a table was written at all; one that some seeds have is there."""
        folders = (RunPaths(self.study.name, seed, self.published) for seed in self.seeds)
        return self.published and f"tables/{table}" in LATER and not any(one.table(table).exists() for one in folders)

    def tables_by_seed(self, names: Iterable[str]) -> dict[int, dict[str, pd.DataFrame]]:
        """Several per-seed tables of every seed, by seed and name."""
        found = {name: self.read_all_seeds(name) for name in names}
        return {seed: {name: t[t["seed"] == seed] for name, t in found.items()} for seed in self.seeds}

    def prompts_of_seeds(self) -> dict[int, pd.DataFrame]:
        """The table ``projection_prompts`` of every seed; nothing unless all have it (published results do not)."""
        name = "projection_prompts"
        if not all(RunPaths(self.study.name, seed, self.published).table(name).exists() for seed in self.seeds):
            return {}
        return {seed: found[name] for seed, found in self.tables_by_seed([name]).items()}

    def read_published(self, table: str) -> pd.DataFrame:
        """A table over all seeds that was published with the seeds; empty where it was not, or the seeds are others."""
        path = RunPaths(self.study.name, published=True).table(table)
        if not (self.published and path.exists()):
            return pd.DataFrame(columns=list(tables.SCHEMAS[table]))
        self.inputs.append(path)
        return tables.read_csv(path, table)

    def published_of(self, study: str) -> "Run":
        """The published results of another study, to be read as one's own; what is read is remembered here."""
        return Run(self.notebook, load_study(study), asked=PUBLISHED, inputs=self.inputs)

    def bench_studies(self, summary: pd.DataFrame) -> pd.DataFrame:
        """The table ``bench_summary`` of this bench, and below it those of the other benches that there are."""
        parts = [summary.assign(bench=self.study.name)]
        for name, path in bench_summaries().items():
            if name != self.study.name:
                self.inputs.append(path)
                parts.append(tables.read_csv(path, "bench_summary").assign(bench=name))
        return pd.concat(parts, ignore_index=True)

    def bench(self, folder: Path, **names: str) -> tuple[list[pd.DataFrame], dict[str, Any]]:
        """Tables measured apart from any study, written as tables of this run, and the record of the first of them.

        ``names``: the table's name here by its file's name in ``folder``.
        """
        files = [folder / f"{file}.csv" for file in names]
        self.inputs += files
        found = [self.write(name, pd.read_csv(file)) for name, file in zip(names.values(), files, strict=True)]
        return found, provenance.read_record(provenance.sidecar(files[0]))

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

    def pieces(self, checkpoints: dict) -> Pieces:
        """Where this run keeps the pieces of a long table made from ``checkpoints`` until the whole is written."""
        return Pieces(self, checkpoints)

    def record(self, path: Path) -> None:
        """Write the provenance of a result of this run beside it."""
        precision, prompts = (sys.modules.get(f"helpers.models.{name}") for name in ("precision", "prompts"))
        facts = {
            "study": self.study.name,
            "seed": self.seed,
            "notebook": self.notebook,
            "parameters": dict(self.given),
            "settings": digest(self.study),
            "made_from": self.made_from,
            **({"rubrics": self.rubrics} if self.rubrics else {}),
            **({"ledger": ledger.hashes(self.study.claims)} if isinstance(self.study, Study) else {}),
            **(precision.chosen() if precision else {}),  # who never imported it has not asked for ``auto``
            **(prompts.dated() if prompts else {}),
            "seconds": round(time.monotonic() - self.started, 2),
        }
        provenance.record(path, facts, self.inputs)


def begin(name: str, **parameters: Any) -> Run:
    """Start a notebook, given all of its parameters: check their names, types and ranges and quiet the libraries.

    Raises SettingsError with one sentence if the study, the seed or another parameter cannot be used, or if papermill
    was given one that the notebook does not have.
    """
    quiet()
    compute_as_a_batch()
    refuse_unknown(f"notebook {name}", list(parameters))
    fields = {key: (_PARAMETERS[key], ...) for key in parameters}
    checked = create_model("Parameters", __base__=Section, **fields)
    values = validate(checked, parameters, f"parameters of notebook {name}").model_dump()
    study = load_study(values["study"])
    if name not in of_study(STAGES, study):
        raise SettingsError(f"study {study.name} has no notebook {name}: it has {', '.join(of_study(STAGES, study))}")
    if (objective := values.get("objective")) and objective not in study.objectives:
        choice = ", ".join(study.objectives)
        raise SettingsError(f"study {study.name} has no fine-tuning {objective!r} in its settings: it has {choice}")
    asked = as_asked(values["seeds"], study) if name in CHAPTERS else ""
    study = as_published(study) if asked == PUBLISHED else study
    run = Run(name, study, values.get("seed"), values.get("objective", ""), asked, values)
    if asked and WORKFLOW not in os.environ:
        _keep_apart(run)
    return run


def _keep_apart(run: Run) -> None:
    """Have the results of a chapter that is run by hand with other seeds than the report's go to a folder apart."""
    shown = as_asked(seeds_of_report(run.folder), run.study)
    if run.asked != shown:
        run.folder = RunPaths(run.study.name, apart=f"by-hand-{run.asked.replace(',', '-')}")
        place = run.folder.root / "tables"
        print(f"seeds {run.asked} are not those of the report, {shown}: tables go to {place}", flush=True)


def seeds_of_report(folder: RunPaths) -> str:
    """The seeds that the tables over all seeds in a folder were made from, as asked for; empty without one."""
    for path in provenance.records_of(folder):
        with suppress(Damaged):
            if (seeds := provenance.read_record(path).get("parameters", {}).get("seeds")) is not None:
                return seeds
    return ""


def _how_to_make(study: Study, folder: RunPaths, key: str) -> str:
    """The sentence on a result that is missing in a folder."""
    if place_of(study, folder, key) != result(folder, key):
        study, folder = load_study(study.models_of), replace(folder, study=study.models_of)
    jobs = jobs_of(study, "" if folder.seed is None else [folder.seed])
    maker = next(job for job in jobs if result(job.folder, key) in job.writes)
    options = " ".join(f"-p {name} {value}" for name, value in maker.parameters.items())
    notebook = f"notebooks/{maker.notebook}.ipynb"
    return (
        f"{file_of(result(folder, key))} is missing: run {notebook} first, as in `papermill {notebook} out.ipynb "
        f"{options}`, or make everything with `make book STUDY={study.name}`"
    )


def quiet() -> None:
    """Keep library chatter out of executed notebooks and terminals; errors stay."""
    if transformers := sys.modules.get("transformers"):  # importing it takes seconds that a figure need not wait
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def measured_power(study: Study) -> pd.DataFrame:
    """Per claim and number of seeds what is found distinct with that power: table ``power`` of the graded control.

    Only claims that the study measures on the control's grid; empty until that control has run. Raises StudyError for a
    table that another version made.
    """
    if not (path := power_table()):
        return pd.DataFrame(columns=list(tables.SCHEMAS["power"]))
    return on_grid(study, load_study(CONTROL), tables.read_csv(path, "power"))


def earlier_verdicts() -> pd.DataFrame:
    """The verdicts of studies by the ledger of before 2026-11-25: table ``earlier_verdicts``, which is committed."""
    return tables.read_csv(ROOT / "benchmarks" / "published" / "earlier_verdicts.csv", "earlier_verdicts")
