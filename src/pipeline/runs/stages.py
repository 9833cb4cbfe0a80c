"""The stages of a study: what each notebook reads and writes, the settings and modules it depends on, and its cost."""

import ast
import functools
import json
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import NOTEBOOKS, ROOT, RunPaths
from helpers.studies.own_models import OwnModels
from helpers.studies.settings import MODELS, OBJECTIVES, Study, digest

_ALL_MODELS = tuple(f"models/{name}" for name in MODELS)


@dataclass(frozen=True)
class Stage:
    """One notebook: inputs and outputs as ``models/<name>`` or ``tables/<name>``, and the sections of its settings."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    settings: tuple[str, ...]
    cost: float  # seconds on one core in the organism study: weighs the estimate of the time that is left
    files: tuple[str, ...] = ()  # files of the clone that it reads, beside settings and modules
    only: str = ""  # studies that have it: organism, pretrained, own-models or planted; empty: all that train models


PER_SEED = {
    "01_models": Stage(
        (),
        ("models/base", "models/aligned", "tables/training_log-base", "tables/training_log-aligned"),
        ("model", "planted", "language", "data", "training.optimiser", "training.base", "training.aligned"),
        55,
    ),
    "02_finetune": Stage(
        ("models/base", "models/aligned"),
        ("models/{objective}", "tables/training_log-{objective}"),
        ("planted", "language", "data", "training.optimiser", "training.{objective}"),
        16,
    ),
    "03_behaviour": Stage(_ALL_MODELS, ("tables/behaviour",), ("language", "data", "evaluation"), 13),
    "04_update_overlap": Stage(
        _ALL_MODELS,
        ("tables/update_overlap", "tables/energy", "tables/energy_by_module"),
        ("update_overlap", "projection"),
        16,
    ),
    "05_projection": Stage(
        _ALL_MODELS,
        ("tables/projection", "tables/scaling", "tables/projection_prompts"),
        ("language", "data", "evaluation", "projection"),
        90,
    ),
    "06_activation_overlap": Stage(
        _ALL_MODELS, ("tables/activation_overlap",), ("language", "data", "activation_overlap"), 13
    ),
    "08_graded": Stage(
        _ALL_MODELS,
        ("tables/graded",),
        (
            "model",
            "planted",
            "language",
            "training",
            "evaluation",
            "projection",
            "update_overlap",
            "activation_overlap",
        ),
        400,
        files=("claims.yml",),
        only="planted",
    ),
    "07_theory": Stage(
        tuple(f"models/{name}" for name in ("base", "aligned", "useful", "harmful", "safety")),
        ("tables/theory",),
        ("language", "training", "update_overlap", "projection"),
        20,
        only="organism",
    ),
}
CHAPTERS = {
    "10_C0_behaviour": Stage(("tables/behaviour",), ("tables/behaviour_summary",), ("confidence",), 9),
    "11_C1_parallel": Stage(
        ("tables/projection", "tables/scaling", "tables/energy"),
        ("tables/parallel_summary", "tables/parallel_excess", "tables/energy_summary"),
        ("confidence",),
        10,
    ),
    "12_C2_orthogonal": Stage(
        ("tables/projection", "tables/scaling"),
        ("tables/orthogonal_summary", "tables/scaling_summary", "tables/orthogonal_excess"),
        ("confidence",),
        10,
    ),
    "13_C3_updates": Stage(
        ("tables/update_overlap", "tables/energy_by_module"),
        ("tables/update_overlap_summary", "tables/energy_by_module_summary"),
        ("confidence",),
        10,
    ),
    "14_C4_activations": Stage(
        ("tables/activation_overlap",), ("tables/activation_overlap_summary",), ("confidence",), 9
    ),
    "15_verdict": Stage(
        tuple(f"tables/{t}" for t in ("behaviour", "projection", "scaling", "energy", "update_overlap"))
        + ("tables/activation_overlap",),
        (
            "tables/claim_statistics",
            "tables/criteria",
            "tables/distinct",
            "tables/claim_uncertainty",
            "tables/verdicts",
        ),
        ("confidence",),
        8,
        files=("claims.yml",),
    ),
    "17_sensitivity": Stage(
        tuple(f"tables/{t}" for t in ("behaviour", "projection", "scaling", "energy", "update_overlap"))
        + ("tables/activation_overlap", "tables/energy_by_module"),
        ("tables/sensitivity",),
        ("confidence", "projection", "update_overlap"),
        18,
        files=("claims.yml",),
    ),
    "18_theory_figures": Stage(("tables/theory",), ("tables/theory_summary",), ("confidence",), 10, only="organism"),
    "16_power": Stage(
        ("tables/graded",),
        ("tables/graded_summary", "tables/power"),
        ("confidence",),
        8,
        files=("claims.yml",),
        only="planted",
    ),
    "30_own_models": Stage(
        (),
        ("tables/energy", "tables/update_overlap", "tables/update_overlap_summary", "tables/behaviour"),
        ("base", "aligned", "tuned", "geometry", "evaluation", "language", "data", "confidence"),
        30,
        only="own-models",
    ),
}
_VALIDATION = ("tables/judge_validation", "tables/judge_confusion")
APART = {  # notebooks that read no results of the seeds: only those of one another, or of the benchmark
    "20_cost": Stage((), ("tables/cost_targets", "tables/cost_models", "tables/cost_scaling"), (), 7),
    "21_statistics": Stage(
        (),
        ("tables/coverage", "tables/decisions"),
        (),
        8,
        files=("benchmarks/published/coverage.csv", "benchmarks/published/decisions.csv"),
    ),
    "22_judge_validation": Stage((), _VALIDATION, ("evaluation.judge", "confidence"), 12, only="pretrained"),
    "19_judge": Stage(_VALIDATION, (), ("evaluation.judge", "confidence"), 7, only="pretrained"),
}
STAGES = PER_SEED | CHAPTERS | APART
COMMON = ("20_cost", "21_statistics")  # notebooks that are the same for every study


def of_study(stages: dict[str, Stage], study: Study | OwnModels) -> dict[str, Stage]:
    """Those of the stages that a study has; one of your own models has its one notebook only."""
    having = {study.kind}
    if isinstance(study, Study):
        having |= {"", "planted"} if study.planted else {""}
    return {name: stage for name, stage in stages.items() if stage.only in having}


def over_seeds(study: Study | OwnModels, published: bool = False) -> dict[str, Stage]:
    """The notebooks over all seeds; of published results, those that are made from other tables alone."""
    stages = of_study(CHAPTERS | APART, study)
    return {name: stage for name, stage in stages.items() if stage.reads or not published}


def maker(key: str) -> tuple[str, str | None]:
    """The notebook that writes ``models/<name>`` or ``tables/<name>``, and the objective it needs, if any."""
    for name, stage in STAGES.items():
        if key in stage.writes:
            return name, None
    objective = key.split("/")[1].removeprefix("training_log-")
    return "02_finetune", objective


def file_of(key: str) -> str:
    """The file below a results folder whose existence says that ``models/<name>`` or ``tables/<name>`` is made."""
    return f"{key}/model.safetensors" if key.startswith("models/") else f"{key}.csv"


@functools.cache
def modules_of(notebook: str) -> list[str]:
    """Files of the helper modules that a notebook imports, and those they import: what its results depend on."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    found: set[Path] = set()
    waiting = _imported("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting |= _imported(path.read_text(encoding="utf-8"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def _imported(code: str) -> set[Path]:
    """Files of the modules of ``helpers`` that a piece of code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = [ROOT / "src" / f"{name.replace('.', '/')}.py" for name in names]
    return {file for file in files if file.exists()}


def settings_of(notebook: str, study: Study, objective: str = "") -> str:
    """Digest of the settings that a notebook's results depend on, so that a change elsewhere does not rerun it."""
    values = study.model_dump(mode="json")
    sections = [section.format(objective=objective) for section in STAGES[notebook].settings]
    return digest([functools.reduce(lambda v, key: v[key], section.split("."), values) for section in sections])


def expected(study: Study | OwnModels, seeds: list[int], published: bool = False) -> dict[Path, float]:
    """All executed notebooks of a study and the relative cost of each; of a published one, its chapters only."""
    found: dict[Path, float] = {}
    for name, stage in of_study({} if published else PER_SEED, study).items():
        runs = [f"{name}-{objective}" for objective in OBJECTIVES] if name == "02_finetune" else [name]
        found |= {RunPaths(study.name, seed).notebook(run): stage.cost for seed in seeds for run in runs}
    chapters = over_seeds(study, published)
    return found | {RunPaths(study.name).notebook(name): stage.cost for name, stage in chapters.items()}
