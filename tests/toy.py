"""A toy study for the tests of the runner: the stages of a real one, with notebooks that need a second and no torch.

A clone of the project whose notebooks write models and tables made from a hash of what they read, so that a result
that was made from something else, or from half of it, shows.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from helpers.paths import ROOT
from pipeline.runs.stages import CHAPTERS, PER_SEED, STAGES

COPIED = ("src", "studies", "claims.yml", "Snakefile", "profiles", "benchmarks", "pyproject.toml")
SHORT = ("01_models", "02_finetune", "04_update_overlap", "13_C3_updates")  # of a study: models, a table, a chapter
PARAMETERS = {"seed": "seed: int = 0", "seeds": 'seeds: str = ""', "objective": 'objective: str = "useful"'}
CODE = """
import hashlib, json, os, time
import numpy, pandas
from safetensors.numpy import save_file
from pipeline.results.provenance import shown_path
from pipeline.results.tables import SCHEMAS
from pipeline.runs.notebook import begin
from pipeline.runs.stages import STAGES

time.sleep(float(os.environ.get("TOY_SLEEP") or 0))
run = begin({name!r}, {given})
stage, objective = STAGES[{name!r}], run.objective
seeds = run.seeds if {over_seeds} else [run.seed]
read = [run.require(key, seed) for seed in seeds for key in stage.reads]
files = sorted(file for path in read for file in ([path] if path.is_file() else path.glob("*")))
number = int(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:6], 16) + (run.seed or 0)
for key in (key.format(objective=objective) for key in stage.writes):
    kind, name = key.split("/")
    if kind == "models":
        run.folder.model(name).mkdir(parents=True, exist_ok=True)
        weights = {{"w": numpy.full((2, 2), number, "float32")}}
        save_file(weights, run.folder.model(name) / "model.safetensors")
        run.record(run.folder.model(name))
    else:
        table, _, part = name.partition("-")
        run.write(table, pandas.DataFrame([[float(number)] * len(SCHEMAS[table])], columns=list(SCHEMAS[table])), part)
"""
RUN = """
import sys
from pipeline.build import only_run, run
from pipeline.runs.profiles import load
from pipeline.runs.selections import select
from helpers.studies.settings import load_study
from helpers.errors import StudyError
name, seeds, cores, profile = sys.argv[1:]
try:
    with only_run(name):
        run([select(load_study(name), seeds)], int(cores), load(profile))
except StudyError as error:
    sys.exit(f"error: {error}")
"""  # what ``make book`` does, but for the report


@dataclass(frozen=True)
class Toy:
    """A clone with the toy's notebooks, and results of its own."""

    clone: Path

    @property
    def results(self) -> Path:
        """Where results go."""
        return self.clone / "results"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which Python finds the clone's own packages."""
        return {**os.environ, "PYTHONPATH": str(self.clone / "src"), "OMP_NUM_THREADS": "1"}

    def command(self, seeds: str = "", profile: str = "local", cores: int = 2) -> list[str]:
        """The command that runs what is not up to date, without a report."""
        return [sys.executable, "-c", RUN, "smoke", seeds, str(cores), profile]

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess:
        """Run a command in the clone."""
        environment = self.environment | variables
        return subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True, timeout=900)

    def study(self, seeds: str = "", profile: str = "local", **variables: str) -> subprocess.CompletedProcess:
        """Run what is not up to date."""
        return self.run(*self.command(seeds, profile), **variables)

    def copied_to(self, folder: Path) -> "Toy":
        """The same clone with its results elsewhere."""
        shutil.copytree(self.clone, folder)
        return Toy(folder)

    def tables(self) -> dict[Path, bytes]:
        """Contents of all tables by their place."""
        return {path.relative_to(self.results): path.read_bytes() for path in sorted(self.results.rglob("*.csv"))}


def copy(folder: Path, names: Iterable[str]) -> None:
    """Copy files and folders of the project to their places in another one."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, folder / name)


def make(folder: Path, only: Iterable[str] = STAGES) -> Toy:
    """The clone, without results; its studies have those of their notebooks that are in ``only``."""
    copy(folder, COPIED)
    keep(folder, only)
    (folder / "notebooks").mkdir()
    for name in only:
        nbformat.write(notebook(name), folder / "notebooks" / f"{name}.ipynb")
    return Toy(folder)


def keep(clone: Path, only: Iterable[str]) -> None:
    """Leave a clone's studies those of their notebooks that are in ``only``."""
    file = clone / "src" / "pipeline" / "runs" / "stages.yml"
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))
    kept = {group: {name: stage for name, stage in stages.items() if name in only} for group, stages in groups.items()}
    file.write_text(yaml.safe_dump(kept), encoding="utf-8")


def notebook(name: str) -> nbformat.NotebookNode:
    """The toy's notebook of a stage."""
    names = {"seed"} if name in PER_SEED else {"seeds"} if name in CHAPTERS else set()
    names |= {"objective"} if name == "02_finetune" else set()
    lines = ['study: str = "smoke"', *(PARAMETERS[one] for one in sorted(names))]
    given = ", ".join(f"{one}={one}" for one in ["study", *sorted(names)])
    code = CODE.format(name=name, given=given, over_seeds=name in CHAPTERS)
    cells = [nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})]
    book = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return book
