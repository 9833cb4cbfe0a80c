"""The parts of the data page: the public data sets, and of what language and models each study is made."""

import math
import random
from pathlib import Path

import pandas as pd
import yaml
from safetensors import safe_open

from helpers.data.registry import DATASETS
from helpers.models.language import Language
from helpers.paths import ROOT, RunPaths
from helpers.studies.sections import JUDGES
from helpers.studies.settings import MODELS, Study
from helpers.wheels import PACKAGES
from pipeline.report.templates import render
from pipeline.results import tables
from pipeline.runs.selections import Selection

BENCHMARKS = ROOT / "benchmarks"


def parts(study: Study, selections: list[Selection]) -> dict[str, str]:
    """The parts that show the embedded study, and the one that shows all others, by name."""
    weights = RunPaths(study.name, study.seeds[0]).model("base") / "model.safetensors"
    facts = {"study": study, "names": MODELS, "parameters": _parameters(weights), "judges": JUDGES}
    facts["studies"] = [selection.study for selection in selections if selection.study.kind != "organism"]
    shown = {part: render("study.md", part=part, **facts) for part in ("models", "training", "evaluation")}
    return shown | {
        "examples": examples(study),
        "tried": tried(),
        "pretrained": render("study.md", part="pretrained", **facts),
    }


def tried() -> str:
    """The settings that were tried for the default study: their behaviour (mean and SD over seeds) and CPU seconds."""
    said = yaml.safe_load((BENCHMARKS / "default_study.yml").read_text(encoding="utf-8"))
    rows = []
    for setting, models in pd.read_csv(BENCHMARKS / "published" / "default_study.csv").groupby("setting", sort=False):
        harm, utility = (models.pivot(index="seed", columns="model", values=name) for name in ("harm", "utility"))
        found = {
            "harm_aligned": harm["aligned"],
            "harm_harmful": harm["harmful"],
            "harm_rise": harm["contaminated"] - harm["aligned"],
            "useful_rise": utility["useful"] - utility["aligned"],
            "contaminated_rise": utility["contaminated"] - utility["aligned"],
            "over_refusal": models.groupby("seed")["over_refusal"].max(),
        }
        row = {"setting": setting, "what": said[setting]["what"], "seeds": len(harm)}
        row |= {"seconds": models.groupby("seed")["seconds"].sum().mean()}
        row |= {name: values.mean() for name, values in found.items()}
        rows.append(row | {f"{name}_sd": values.std() for name, values in found.items()})
    return render("tried.md", rows=rows)


def examples(study: Study) -> str:
    """A sentence of each kind of the invented language."""
    language, rng = Language(study.language), random.Random(0)
    rows = {
        "arithmetic": language.arithmetic(rng),
        "task": language.request(rng, language.benign, language.all_verbs),
        "benign request": language.request(rng, language.benign),
        "restricted request, complied with": language.request(rng, language.restricted),
        "category": language.category(rng),
    }
    restricted = language.request(rng, language.restricted)
    rows["restricted request, refused"] = restricted | {"answer": language.refusal(restricted["topic"])}
    return render("examples.md", rows=rows, language=language)


def _parameters(path: Path) -> int:
    """Number of weights in a safetensors file, from its header; 0 if it is not there."""
    if not path.exists():
        return 0
    with safe_open(path, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (not a dict)
    return sum(math.prod(shape) for shape in shapes)


def data_table(selections: list[Selection]) -> str:
    """All data sets that a study can name, then, for each study that used some, what it used and where from."""
    used = []
    for selection in selections:
        if (path := selection.runs[0].table("datasets")).exists():
            found = tables.read_csv(path, "datasets").fillna({"excluded": ""})
            used.append((selection.study.title, found.to_dict("records")))
    return render("datasets.md", datasets=DATASETS, packages=PACKAGES, used=used)
