"""The notebooks of a study, from ``stages.yml``: what each reads and writes, and what else it depends on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from helpers.paths import RunPaths, published_seeds
from helpers.studies.settings import OwnModels, Study

Settings = Study | OwnModels
COMMON = ("20_cost", "21_statistics")  # notebooks that are the same for every study
LAST = {  # of each kind of study apart, its chapter and the table that shows that it has run
    "conditions": ("23_conditions", "conditions_verdicts"),
    "bench": ("25_methods", "bench_summary"),
    "released": ("29_released", "as_released_verdicts"),
}
LATER = {  # which results lack that were published before there were such
    f"tables/{name}"
    for name in (
        "matched_activations", "probe", "second_judges", "bench_training", "time_course",
        "labelled_geometry", "labelled_behaviour",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One notebook; ``reads`` and ``writes`` are ``models/<name>`` or ``tables/<name>``, the rest as in the file."""

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    settings: Sequence[str] = ()
    seconds: float = 5.0
    files: Sequence[str] = ()
    claims: str = ""
    computes: bool = False
    only: str = ""


_TEXT = Path(__file__).with_suffix(".yml").read_text(encoding="utf-8")
_GROUPS = yaml.load(_TEXT, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
PER_SEED, CHAPTERS, APART = (
    {name: Stage(**values) for name, values in _GROUPS[group].items()} for group in ("seed", "chapters", "apart")
)
STAGES = PER_SEED | CHAPTERS | APART


def of_study(stages: dict[str, Stage], study: Settings) -> dict[str, Stage]:
    """Those of the stages that a study has; your own models and studies ``apart`` have their own notebooks only."""
    having = {study.kind}
    if isinstance(study, Study) and study.apart:
        having = {study.apart}
        having |= {"time-course"} if study.bench and study.bench.time_course else set()
    elif isinstance(study, Study):
        having = {"", "" if study.control else study.kind} | ({"planted"} if study.planted else set())
    return {name: stage for name, stage in stages.items() if stage.only in having}


def over_seeds(study: Settings, published: bool = False) -> dict[str, Stage]:
    """The notebooks over all seeds; of published results, those that are made from other tables alone, if there are."""
    stages = of_study(CHAPTERS | APART, study)
    return {name: stage for name, stage in stages.items() if not published or _published(stage, study)}


def _published(stage: Stage, study: Settings) -> bool:
    """Whether a notebook reads tables, and not only such as results may lack and the study's published ones do."""
    folders = [RunPaths(study.name, seed, published=True) for seed in published_seeds(study.name)]
    later = [result(folder, key) for folder in folders for key in stage.reads]
    return bool({*stage.reads} - LATER) or any(path.exists() for path in later)


def result(folder: RunPaths, key: str) -> Path:
    """The table, or the folder of the model, that a key stands for."""
    kind, name = key.split("/")
    return folder.model(name) if kind == "models" else folder.table(name)


def place_of(study: Settings, folder: RunPaths, key: str) -> Path:
    """Where an input of a study's notebook is: in its folder, or in that of the study whose models it measures."""
    own = {made for stage in of_study(STAGES, study).values() for made in stage.writes}
    other = isinstance(study, Study) and key not in own
    return result(replace(folder, study=study.models_of) if other else folder, key)


def file_of(path: Path) -> Path:
    """The file whose existence says that a result is made: of a model its weights."""
    return path if path.suffix in (".csv", ".ipynb") else path / "model.safetensors"
