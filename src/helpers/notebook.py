"""What every notebook of the study does: check its parameters, find its inputs, write its results with provenance."""

import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field, create_model
from safetensors.torch import save_file

from helpers import provenance, tables
from helpers.errors import MissingInput
from helpers.files import replace_folder
from helpers.paths import NOTEBOOKS, RunPaths
from helpers.settings import OBJECTIVES, Section, Seed, Study, digest, load_study
from helpers.validation import validate

MAKERS = {  # result -> notebook that makes it; a key ending in / stands for everything below it
    "models/base": "01_models",
    "models/aligned": "01_models",
    **{f"models/{name}": "02_finetune" for name in OBJECTIVES},
    "tables/behaviour": "03_behaviour",
    "tables/update_overlap": "04_update_overlap",
    "tables/energy": "04_update_overlap",
    "tables/energy_by_module": "04_update_overlap",
    "tables/projection": "05_projection",
    "tables/scaling": "05_projection",
    "tables/activation_overlap": "06_activation_overlap",
}
_PARAMETERS = {
    "study": Annotated[str, Field(min_length=1)],
    "seed": Seed,
    "seeds": list[Seed],
    "objective": Annotated[str, Field(pattern=f"^({'|'.join(OBJECTIVES)})$")],
}


@dataclass
class Run:
    """One execution of a notebook: its settings, its folders, and what it has read so far."""

    name: str
    study: Study
    seed: int | None
    parameters: Mapping[str, Any]
    folder: RunPaths
    started: float = field(default_factory=time.time)
    inputs: list[Path] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """The seeds a notebook over all seeds reads: its parameter, or else the study's."""
        return list(self.parameters.get("seeds") or self.study.seeds)

    def require(self, key: str, seed: int | None = None) -> Path:
        """Path of an input such as ``models/aligned`` or ``tables/energy``, remembered for the provenance.

        Raises MissingInput with the notebook and the commands that make it.
        """
        folder = self.folder if seed is None else RunPaths(self.study.name, seed)
        kind, name = key.split("/")
        path = folder.model(name) if kind == "models" else folder.table(name)
        if not path.exists():
            raise MissingInput(_how_to_make(self.study.name, folder.seed, key, path))
        self.inputs.append(path)
        return path

    def read(self, table: str) -> pd.DataFrame:
        """A table of this run's seed."""
        return tables.read_csv(self.require(f"tables/{table}"), table)

    def read_all_seeds(self, table: str) -> pd.DataFrame:
        """A per-seed table of all seeds, one below the other."""
        found = [tables.read_csv(self.require(f"tables/{table}", seed), table) for seed in self.seeds]
        return pd.concat(found, ignore_index=True)

    def write(self, table: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Write a table with its provenance; a ``seed`` column is added to a per-seed table. Returns it."""
        if self.seed is not None:
            frame = frame.assign(seed=self.seed)
        frame = frame.reindex(columns=[*(c for c in tables.SCHEMAS[table] if c in frame), *(c for c in frame if c not in tables.SCHEMAS[table])])
        path = self.folder.table(table)
        tables.write_csv(path, table, frame)
        self.record(path)
        return frame

    def write_arrays(self, name: str, arrays: dict[str, torch.Tensor]) -> None:
        """Write arrays as safetensors with their provenance."""
        path = self.folder.array(name)
        partial = path.parent.with_name(f".{name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, partial / path.name)
        replace_folder(partial / path.name, path)
        partial.rmdir()
        self.record(path)

    def record(self, path: Path) -> None:
        """Write the provenance of a result of this run beside it."""
        facts = {
            "study": self.study.name,
            "seed": self.seed,
            "notebook": self.name,
            "parameters": dict(self.parameters),
            "settings": digest(self.study),
            "seconds": round(time.time() - self.started, 2),
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
    seed = values.get("seed")
    return Run(name, study, seed, values, RunPaths(study.name, seed))


def _how_to_make(study: str, seed: int | None, key: str, path: Path) -> str:
    maker = MAKERS[key]
    objective = f" -p objective {key.split('/')[1]}" if maker == "02_finetune" else ""
    where = f"-p study {study}" + ("" if seed is None else f" -p seed {seed}")
    return (
        f"{path} is missing: run notebooks/{maker}.ipynb first, as in `papermill notebooks/{maker}.ipynb out.ipynb "
        f"{where}{objective}`, or make everything with `make book STUDY={study}`"
    )


def _quiet() -> None:
    """Keep library chatter out of the executed notebooks; errors stay."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def notebook_names() -> list[str]:
    """Names of the committed notebooks, in the order of the study."""
    return sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
