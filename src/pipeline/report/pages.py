"""The parts of the report's pages that are made from results and settings, so that no number is typed by hand."""

import math
import random
from itertools import groupby
from pathlib import Path

import pandas as pd
import yaml

from helpers.data.registry import DATASETS
from helpers.files import write_text
from helpers.models.language import Language
from helpers.paths import ROOT, RunPaths
from helpers.studies.settings import OwnModels, Study, load_study
from helpers.studies.values import JUDGES
from helpers.wheels import PACKAGES
from pipeline.report.answer import answer, conditions
from pipeline.report.chapters import Staged
from pipeline.report.claim_cards import claim_cards
from pipeline.report.crate import write_crate
from pipeline.report.explorer import explorer
from pipeline.report.forest import forest
from pipeline.report.machine_readable import write_machine_readable
from pipeline.report.records import devices, origin, provenance, seconds, spent
from pipeline.report.rooms import code_map
from pipeline.report.staging import EXTRA
from pipeline.report.templates import render
from pipeline.report.verdicts import control_table, number_tables, verdict_table
from pipeline.results import project
from pipeline.results.provenance import recorded, revision
from pipeline.results.tables import SCHEMAS, read_csv
from pipeline.runs.selections import DEFAULT, Selection, not_tested
from pipeline.runs.stages import LAST

BENCHMARKS = ROOT / "benchmarks"


def write_generated(staged: list[Staged], folder: Path) -> None:
    """Write ``generated/*.md``, which pages of ``book/`` include, the explorer's data, and indexes of single runs."""
    selections = [study.selection for study in staged]
    studies = [selection.study for selection in selections if isinstance(selection.study, Study)]
    parts = (
        study_parts(selections)
        | first_page(staged)
        | {
            "cost": cost(staged),
            "settings": render("settings.md", selections=selections),
            "datasets": data_table(selections),
            "criteria": render("criteria.md", studies=studies),
            "provenance": "\n".join(provenance(study) for study in staged),
            "rooms": code_map(),
            "tables": render("tables.md", schemas=SCHEMAS),
            "cite": citation(),
        }
    )
    pages = {f"generated/{name}.md": text for name, text in parts.items()} | explorer(staged)
    for study in filter(lambda study: study.runs, staged):
        seeds = {seed: list(runs) for seed, runs in groupby(study.runs, key=lambda run: run.place.parent.name)}
        name = study.selection.study.name
        pages[f"runs/{name}/index.md"] = render("runs.md", study=study.selection.study, seeds=seeds)
    for place, text in pages.items():
        write_text(folder / place, text.rstrip() + "\n")
    write_machine_readable(staged, folder / EXTRA)
    write_crate(folder / EXTRA)


def first_page(staged: list[Staged]) -> dict[str, str]:
    """The parts of the landing page that are made from verdicts, by name."""
    given = [study for study in staged if isinstance(study.selection.study, OwnModels)]
    apart = [study for study in staged if study not in given and study.selection.study.apart]
    turned = [study for study in apart if study.selection.study.conditions]
    judged = [study for study in staged if study not in [*given, *apart]]
    missing = not_tested([study.selection for study in judged]) if judged else []
    return {
        "answer": answer(judged, missing),
        "forest": forest(judged),
        "claim_cards": claim_cards(judged, turned),
        "verdicts": verdict_table(judged),
        "conditions": conditions(turned),
        "controls": control_table(judged),
        "numbers": number_tables(judged),
        "studies": render("studies.md", judged=judged, apart=apart, last=LAST, given=given, origin=origin),
    }


def citation() -> str:
    """The entry for this reproduction, with version, revision and address of the code."""
    code = revision()
    dirty = " with uncommitted changes" if code["git_dirty"] else ""
    facts = {"version": project.version(), "repository": project.repository()}
    return render("cite.md", revision=code["git_revision"] + dirty, **facts)


def cost(staged: list[Staged]) -> str:
    """How long the notebooks of the report took, and on what; of published studies, how long their seeds took."""
    runs = [run for study in staged for run in [*study.chapters, *study.runs]]
    selections = [study.selection for study in staged]
    records = recorded(run for selection in selections for run in [*selection.over_seeds, *selection.runs])
    return render(
        "cost.md",
        runs=len(runs),
        minutes=sum(filter(None, map(seconds, runs))) / 60,
        machines=devices(record for record in records if "published" not in record),
        elsewhere=[(one.study.title, sum(map(sum, spent(one).values())) / 60) for one in selections if one.published],
    )


def study_parts(selections: list[Selection]) -> dict[str, str]:
    """The parts of the data page that show the embedded study, and the one that shows all others, by name."""
    studies = [selection.study for selection in selections]
    study = next((study for study in studies if study.kind == "organism"), None) or load_study(DEFAULT)
    facts = {"study": study, "names": study.models, "parameters": _parameters(study), "judges": JUDGES}
    facts["studies"] = [other for other in studies if other.kind != "organism"]
    names = ("models", "training", "evaluation", "pretrained")
    made = {"examples": examples(study), "tried": tried()}
    return {name: render("study.md", part=name, **facts) for name in names} | made


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


def _parameters(study: Study) -> int:
    """Number of weights of the first seed's base model; 0 if it is not there."""
    folder = RunPaths(study.name, study.seeds[0]).model("base")
    if not (folder / "model.safetensors").exists():
        return 0
    from helpers.weights.checkpoints import Checkpoint  # here: a report of published results alone needs no torch

    weights = Checkpoint(folder)
    return sum(math.prod(weights.shape(name)) for name in weights.names)


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


def data_table(selections: list[Selection]) -> str:
    """All data sets that a study can name, then, for each study that used some, what it used and where from."""
    used = []
    for selection in selections:
        if (path := selection.runs[0].table("datasets")).exists():
            found = read_csv(path, "datasets").fillna({"excluded": ""})
            used.append((selection.study.title, found.to_dict("records")))
    return render("datasets.md", datasets=DATASETS, packages=PACKAGES, used=used)
