"""The jobs of a study, each one run of a notebook, and which of them have to run.

That is decided by what results were made from, as their records say, never by time. A record beside every result holds
``made_from`` and the hashes of its inputs; one beside every executed notebook holds the same of the run. So a copied,
moved or older file of the right content is up to date.
"""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.errors import Damaged
from helpers.evaluation.judges.kept import own_rubrics
from helpers.files import write_text
from helpers.paths import (
    PUBLISHED,
    ROOT,
    RunPaths,
    bench_summaries,
    bench_tables,
    power_table,
    published_root,
    results_root,
)
from helpers.studies.doors import tenants
from helpers.studies.ledger import bench_rule, in_words, judge_rule
from helpers.studies.settings import UNRELATED, OwnModels, Study, as_published, digest, parse_seeds, prediction_of
from helpers.studies.values import JUDGES
from pipeline.results.provenance import read_record, recorded_of, shown_path, sidecar
from pipeline.results.tables import SCHEMAS
from pipeline.runs.code import code_of
from pipeline.runs.stages import (
    CHAPTERS,
    LATER,
    PER_SEED,
    STAGES,
    Settings,
    Stage,
    of_study,
    over_seeds,
    place_of,
    result,
)

OPTIONAL = f"models/{UNRELATED}"  # which not every study has
OF_UPDATES = {"helpers.methods.subspaces", "helpers.methods.edits"}  # methods that ask no prompts
DRAWN = "helpers.figures"  # the module that only draws


@dataclass(eq=False)
class Job:
    """One run of a notebook: for a seed (and an objective), or over the seeds that are ``asked`` for (``as_asked``).

    Of published results ``study`` has the settings they were made with, whoever makes the job.
    """

    notebook: str
    study: Settings
    seed: int | None = None
    objective: str = ""
    asked: str = ""
    folder: RunPaths = field(init=False)  # where its results go

    def __post_init__(self) -> None:
        self.study = as_published(self.study) if self.published else self.study
        self.folder = RunPaths(self.study.name, self.seed)

    @property
    def name(self) -> str:
        """Name of the executed notebook."""
        return f"{self.notebook}-{self.objective}" if self.objective else self.notebook

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.folder.notebook(self.name)

    @property
    def stage(self) -> Stage:
        """What its notebook reads and writes, and what else it depends on."""
        return STAGES[self.notebook]

    @property
    def seeds(self) -> list[int]:
        """The seeds that are asked for."""
        return parse_seeds(self.asked, self.study)

    @property
    def published(self) -> bool:
        """Whether the tables of the seeds are the published ones."""
        return self.asked == PUBLISHED

    @property
    def parameters(self) -> dict[str, object]:
        """The notebook's parameters."""
        seed = {} if self.seed is None else {"seed": self.seed}
        seeds = {"seeds": self.asked} if self.notebook in CHAPTERS else {}
        return {"study": self.study.name, **seed, **seeds, **({"objective": self.objective} if self.objective else {})}

    @property
    def writes(self) -> list[Path]:
        """The results that it writes."""
        return [result(self.folder, key.format(objective=self.objective)) for key in self.stage.writes]

    @property
    def reads(self) -> list[Path]:
        """The results that it reads, of its seed, or of all seeds; of published ones those that were written then."""
        if self.notebook in PER_SEED:
            folders = [self.folder]
        else:
            seeds = self.seeds if self.notebook in CHAPTERS else [None]
            folders = [RunPaths(self.study.name, seed, self.published) for seed in seeds]
        keys = [key for key in self.stage.reads if key != OPTIONAL or UNRELATED in self.study.objectives]
        found = [(key, place_of(self.study, folder, key)) for folder in folders for key in keys]
        return [path for key, path in found if not (self.published and key in LATER) or path.exists()]

    @property
    def rubrics(self) -> dict[str, str]:
        """The hashes of the user's own rubrics that its results depend on, by their judges. Raises StudyError."""
        asks = isinstance(self.study, Study) and any(one.startswith("evaluation") for one in self.stage.settings)
        return own_rubrics(self.study) if asks else {}

    @property
    def made_from(self) -> str:
        """Hash of all that its results depend on, but for its inputs, whose hashes are in every record.

        Settings, code that can change a number (of a chapter also what it draws with), the columns of the tables it
        writes, what it takes from the ledger, files of the clone, and of a chapter the seeds. A comment, a docstring, a
        sentence of the ledger that decides nothing, or another notebook's columns are none of these.
        """
        stage, study = self.stage, self.study
        tables = [key.split("/")[1].split("-")[0] for key in stage.writes if key.startswith("tables/")]
        undrawn = (DRAWN,) if self.notebook in PER_SEED or stage.computes else ()
        return digest(
            settings_of(self),
            code_of(self.notebook, undrawn, _chosen(study, stage)),
            {table: list(SCHEMAS[table]) for table in tables},
            _ledger(stage, study),
            [file.read_text(encoding="utf-8") for file in _files(self)] + list(self.rubrics.values()),
            self.asked if self.notebook in CHAPTERS else "",
            _own_files(study) if isinstance(study, OwnModels) else None,
        )


def as_asked(seeds: str | int | list[int], study: Settings) -> str:
    """Seeds as jobs are asked for them: numbers such as ``0,1``, or the word ``published``. Raises SettingsError."""
    return PUBLISHED if seeds == PUBLISHED else ",".join(map(str, parse_seeds(seeds, study)))


def jobs_of(study: Settings, seeds: str | int | list[int]) -> list[Job]:
    """All jobs of a study, each after those that it reads from; of published results there are only chapters."""
    asked, found = as_asked(seeds, study), []
    published = asked == PUBLISHED
    for seed in [] if published else parse_seeds(asked, study):
        for name in of_study(PER_SEED, study):
            objectives = study.objectives if name == "02_finetune" else ("",)
            found += [Job(name, study, seed, objective) for objective in objectives]
    return found + [Job(name, study, asked=asked) for name in over_seeds(study, published)]


def pending(jobs: list[Job]) -> list[Job]:
    """The jobs whose results are not there, or were made from something else than is there now, in the same order.

    Whoever reads from a pending job is pending. Results whose records cannot be read are made again. Raises StudyError
    for settings or a ledger that cannot be read.
    """
    hashes = _hashes({name for job in jobs for name in _read_from(job)})
    found, renewed = [], set()
    for job in jobs:
        if not renewed.isdisjoint(job.reads) or not _is_current(job, hashes):
            found.append(job)
            renewed |= set(job.writes)
    return found


def note(job: Job, seconds: float) -> None:
    """Record beside an executed notebook what it was made from. Raises Unwritable."""
    inputs = _inputs(job, _hashes(_read_from(job)))
    record = {"made_from": job.made_from, "inputs": inputs, "seconds": round(seconds, 2)}
    write_text(_beside(job), json.dumps(record, indent=1, sort_keys=True) + "\n")


def seconds_of(job: Job, since: float) -> float | None:
    """Seconds of a job's run if it ended after a time (s of the system's clock), else None."""
    try:
        return json.loads(_beside(job).read_text())["seconds"] if _beside(job).stat().st_mtime >= since else None
    except (OSError, ValueError, KeyError):
        return None


def settings_of(job: Job) -> str:
    """Digest of the settings that a job's results depend on, so that a change elsewhere does not rerun it."""
    values = job.study.model_dump(mode="json")
    sections = [section.format(objective=job.objective) for section in job.stage.settings]
    methods = set(_chosen(job.study, job.stage).get("helpers.methods.door", []))
    if "projection" in sections and not methods <= OF_UPDATES:
        sections.append("activation_overlap.style")  # in which such methods ask their calibration prompts
    return digest([functools.reduce(lambda v, key: v[key], section.split("."), values) for section in sections])


def _files(job: Job) -> list[Path]:
    """Files beside the seeds' results that a job reads: of the clone, benchmarks, other studies' tables, published."""
    found = [ROOT / file for file in job.stage.files]
    if job.notebook == "20_cost":
        found += sorted({*bench_tables().glob("*.csv"), bench_tables("notebooks") / "notebooks.csv"})
    if job.notebook == "25_methods":
        found += [path for study, path in bench_summaries().items() if study != job.study.name]
    if job.notebook == "29_released":
        for study in job.study.released.tables_of:
            found += sorted((published_root() / study).glob("seed-*/tables/*.csv"))
    if job.notebook == "15_verdict":
        power = power_table()
        found += [power] if power and power.parents[2].name != job.study.name else []
        known = RunPaths(job.study.name, published=True).table("claim_uncertainty")
        found += [known] if job.published and known.exists() else []
    return found


def _chosen(study: Settings, stage: Stage) -> dict[str, list[str]]:
    """The modules of the judge, the subspaces and the edits that a study names, by the modules that find them.

    Of a bench those of its methods, or for a notebook that depends on its labelled subspaces, of these.
    """
    if isinstance(study, OwnModels):
        return {}
    kinds = {"subspace": study.projection.subspaces, "edit": study.projection.edits}
    if study.bench:
        own = study.bench
        kinds = {"subspace": own.subspaces, "edit": own.edits, "training": own.during_training}
        kinds = {kind: own.with_nulls(names) for kind, names in kinds.items()}
        kinds = {"subspace": own.compared} if "bench.labelled" in stage.settings else kinds
    known = {kind: tenants("methods", kind) for kind in kinds}
    methods = [known[kind][name].module for kind, names in kinds.items() for name in names]
    judges = [study.evaluation.judge, *study.evaluation.second_judges]
    return {
        "helpers.evaluation.judges": [f"helpers.evaluation.judges.{JUDGES[one.kind].module}" for one in judges],
        "helpers.methods.door": [f"helpers.methods.{module}" for module in methods],
    }


def _ledger(stage: Stage, study: Study) -> object:
    if stage.claims == "statistics":
        return {name: [guard.statistic for guard in claim.strict] for name, claim in study.claims.items()}
    if stage.claims in ("bench", "kept"):
        rule = bench_rule().model_dump(mode="json")
        return rule if stage.claims == "bench" else rule["kept"]
    if stage.claims == "judge":
        return judge_rule().model_dump(mode="json")
    if stage.claims:
        said = prediction_of(study) if isinstance(study, Study) else None
        parts = (study.claims, in_words(), {"prediction": said} if said else {})
        return [{name: one.model_dump(mode="json") for name, one in every.items()} for every in parts]
    return None


def _own_files(study: OwnModels) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of the weights in folders of the user's, which may be trained again."""
    folders = [ROOT / Path(origin.path).expanduser() for origin in study.origins.values() if origin.path]
    files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _read_from(job: Job) -> set[str]:
    """The studies whose results a job reads."""
    return {job.study.name, job.study.models_of} if isinstance(job.study, Study) else {job.study.name}


def _beside(job: Job) -> Path:
    return job.output.with_suffix(".json")


def _inputs(job: Job, hashes: dict[str, str]) -> dict[str, str]:
    return {name: hashes.get(name, "") for name in map(shown_path, job.reads)}


def _is_current(job: Job, hashes: dict[str, str]) -> bool:
    """Whether notebook and results of a job are there and were made from what is there now."""
    if not all(path.exists() for path in [job.output, *job.writes]):
        return False
    try:
        run = json.loads(_beside(job).read_text(encoding="utf-8"))
        results = [read_record(sidecar(path)) for path in job.writes]
    except (OSError, ValueError, Damaged):
        return False
    return (
        {record.get("made_from") for record in [run, *results]} == {job.made_from}
        and run.get("inputs") == _inputs(job, hashes)
        and all(hashes.get(name, found) == found for record in results for name, found in record["inputs"].items())
    )


def _hashes(studies: Iterable[str]) -> dict[str, str]:
    """The hash of every result of some studies, own and published, by the name it has in records (``shown_path``)."""
    return {
        prefix + name: found
        for root, prefix in ((results_root(), ""), (published_root(), f"{PUBLISHED}/"))
        for study in studies
        for record in recorded_of(root / study)
        for name, found in record["output"].items()
    }
