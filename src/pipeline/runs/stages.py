"""The stages of a study, from ``stages.yml``: what each notebook reads and writes, and what else it depends on."""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers.paths import PUBLISHED, ROOT, RunPaths, bench_tables, power_table
from helpers.studies.doors import tenants
from helpers.studies.sections import JUDGES
from helpers.studies.settings import MODELS, OBJECTIVES, OwnModels, Study, digest
from pipeline.results.tables import SCHEMAS
from pipeline.runs.code import code_of

Settings = Study | OwnModels
FILE = Path(__file__).with_suffix(".yml")
COMMON = ("20_cost", "21_statistics")  # notebooks that are the same for every study
DRAWN = "helpers.figures"  # the module that only draws


@dataclass(frozen=True)
class Stage:
    """One notebook; ``reads`` and ``writes`` are ``models/<name>`` or ``tables/<name>``, the rest as in the file."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seconds: float = 5.0
    files: tuple[str, ...] = ()
    claims: str = ""
    computes: bool = False
    only: str = ""


def _stages(group: str) -> dict[str, Stage]:
    found = {}
    for name, values in _read()[group].items():
        lists = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        stage = Stage(**lists)
        every = tuple(f"models/{model}" for model in MODELS)
        found[name] = Stage(**{**vars(stage), "reads": every if stage.reads == ("models/*",) else stage.reads})
    return found


@functools.cache
def _read() -> dict:
    return yaml.load(FILE.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


PER_SEED, CHAPTERS, APART = (_stages(group) for group in ("seed", "chapters", "apart"))
STAGES = PER_SEED | CHAPTERS | APART


def of_study(stages: dict[str, Stage], study: Settings) -> dict[str, Stage]:
    """Those of the stages that a study has; one of your own models has its one notebook only."""
    having = {study.kind}
    if isinstance(study, Study):
        having |= {"", "planted"} if study.planted else {""}
    return {name: stage for name, stage in stages.items() if stage.only in having}


def over_seeds(study: Settings, published: bool = False) -> dict[str, Stage]:
    """The notebooks over all seeds; of published results, those that are made from other tables alone."""
    stages = of_study(CHAPTERS | APART, study)
    return {name: stage for name, stage in stages.items() if stage.reads or not published}


def maker(key: str) -> tuple[str, str | None]:
    """The notebook that writes ``models/<name>`` or ``tables/<name>``, and the objective it needs, if any."""
    for name, stage in STAGES.items():
        if key in stage.writes:
            return name, None
    return "02_finetune", key.split("/")[1].removeprefix("training_log-")


def file_of(key: str) -> str:
    """The file below a results folder whose existence says that ``models/<name>`` or ``tables/<name>`` is made."""
    return f"{key}/model.safetensors" if key.startswith("models/") else f"{key}.csv"


def settings_of(notebook: str, study: Settings, objective: str = "") -> str:
    """Digest of the settings that a notebook's results depend on, so that a change elsewhere does not rerun it."""
    values = study.model_dump(mode="json")
    sections = [section.format(objective=objective) for section in STAGES[notebook].settings]
    return digest([functools.reduce(lambda v, key: v[key], section.split("."), values) for section in sections])


def made_from(notebook: str, study: Settings, objective: str = "", seeds: str = "") -> str:
    """Hash of all that a notebook's results depend on, but for its inputs, whose hashes are in every record.

    Settings, code that can change a number (of a chapter also what it draws with), the columns of the tables it writes,
    what it takes from the ledger, files of the clone, and for a chapter the ``seeds`` (or ``published``). A comment, a
    docstring, a sentence of the ledger that decides nothing, or another notebook's columns are none of these.
    """
    stage = STAGES[notebook]
    tables = [key.split("/")[1].split("-")[0] for key in stage.writes if key.startswith("tables/")]
    return digest(
        settings_of(notebook, study, objective),
        code_of(notebook, (DRAWN,) if notebook in PER_SEED or stage.computes else (), _chosen(study)),
        {table: list(SCHEMAS[table]) for table in tables},
        _ledger(stage, study),
        [file.read_text(encoding="utf-8") for file in files_of(notebook, study)],
        seeds,
        _own_files(study) if isinstance(study, OwnModels) else None,
    )


def files_of(notebook: str, study: Settings) -> list[Path]:
    """Files beside the study's results that a notebook reads: of the clone, of the benchmark, of the graded control."""
    found = [ROOT / file for file in STAGES[notebook].files]
    if notebook == "20_cost":
        found += sorted(bench_tables().glob("*.csv"))
    power = power_table() if isinstance(study, Study) else None
    if notebook == "15_verdict" and power and power.parents[2].name != study.name:
        found.append(power)
    return found


def _chosen(study: Settings) -> dict[str, list[str]]:
    """The modules of the judge, the subspaces and the edits that a study names, by the modules that find them."""
    if isinstance(study, OwnModels):
        return {}
    kinds = {"subspace": study.projection.subspaces, "edit": study.projection.edits}
    methods = [tenants("methods", kind)[name].module for kind, names in kinds.items() for name in names]
    return {
        "helpers.evaluation.judges": [f"helpers.evaluation.judges.{JUDGES[study.evaluation.judge.kind].module}"],
        "helpers.methods.door": [f"helpers.methods.{module}" for module in methods],
    }


def _own_files(study: OwnModels) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of the weights in folders of the user's, which may be trained again."""
    folders = [ROOT / Path(origin.path).expanduser() for origin in study.origins.values() if origin.path]
    files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _ledger(stage: Stage, study: Settings) -> object:
    if stage.claims == "statistics":
        return {name: claim.distinct.statistic for name, claim in study.claims.items() if claim.distinct}
    return {name: claim.model_dump(mode="json") for name, claim in study.claims.items()} if stage.claims else None


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a notebook: for a seed (and an objective), or over ``seeds``, numbers or the word ``published``."""

    notebook: str
    study: Settings
    seed: int | None = None
    objective: str = ""
    seeds: str = ""

    @property
    def name(self) -> str:
        """Name of the executed notebook."""
        return f"{self.notebook}-{self.objective}" if self.objective else self.notebook

    @property
    def stage(self) -> Stage:
        """Its stage."""
        return STAGES[self.notebook]

    @property
    def folder(self) -> RunPaths:
        """Where its results go."""
        return RunPaths(self.study.name, self.seed)

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.folder.notebook(self.name)

    @property
    def parameters(self) -> dict[str, object]:
        """The notebook's parameters."""
        of_seed = {} if self.seed is None else {"seed": self.seed}
        chapter = {"seeds": self.seeds} if self.notebook in CHAPTERS else {}
        return {
            "study": self.study.name,
            **of_seed,
            **chapter,
            **({"objective": self.objective} if self.objective else {}),
        }

    @property
    def writes(self) -> list[Path]:
        """The results that it writes."""
        keys = [key.format(objective=self.objective) for key in self.stage.writes]
        return [result(self.folder, key) for key in keys]

    def reads(self, seeds: list[int], published: bool) -> list[Path]:
        """The results that it reads, of its seed, or of all ``seeds``."""
        if self.notebook in PER_SEED:
            folders = [self.folder]
        elif self.notebook in CHAPTERS:
            folders = [RunPaths(self.study.name, seed, published) for seed in seeds]
        else:
            folders = [RunPaths(self.study.name, None, published)]
        return [result(folder, key) for folder in folders for key in self.stage.reads]

    @property
    def made_from(self) -> str:
        """See ``made_from``."""
        seeds = self.seeds if self.notebook in CHAPTERS else ""
        return made_from(self.notebook, self.study, self.objective, seeds)


def result(folder: RunPaths, key: str) -> Path:
    """The table, or the folder of the model, that a key stands for."""
    return folder.model(key.split("/")[1]) if key.startswith("models/") else folder.table(key.split("/")[1])


def jobs_of(study: Settings, seeds: list[int], asked: str) -> list[Job]:
    """All runs of notebooks of a study, each after those that it reads from.

    ``asked``: the seeds as they are asked for. Of published results (the word ``published``) there are only chapters.
    """
    published = asked == PUBLISHED
    found = []
    for seed in [] if published else seeds:
        for name in of_study(PER_SEED, study):
            objectives = OBJECTIVES if name == "02_finetune" else ("",)
            found += [Job(name, study, seed, objective) for objective in objectives]
    return found + [Job(name, study, seeds=asked) for name in over_seeds(study, published)]


def expected(study: Settings, seeds: list[int], published: bool = False) -> dict[Path, float]:
    """All executed notebooks of a study with their seconds; of a published one, its chapters only."""
    asked = PUBLISHED if published else ",".join(map(str, seeds))
    return {job.output: job.stage.seconds for job in jobs_of(study, seeds, asked)}
