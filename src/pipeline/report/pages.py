"""The parts of the report's pages that are made from results and settings, so that no number is typed by hand."""

from itertools import groupby
from pathlib import Path

from helpers.claims.statistics import STATISTICS
from helpers.studies.settings import OwnModels, Study, load_study
from pipeline.report import studies as study_pages
from pipeline.report.claims import verdict_table
from pipeline.report.controls import control_table
from pipeline.report.published import device, origin, spent
from pipeline.report.records import provenance, seconds, sidecars
from pipeline.report.rooms import code_map
from pipeline.report.staging import Staged
from pipeline.report.templates import render
from pipeline.results.tables import SCHEMAS
from pipeline.runs.selections import DEFAULT, not_tested


def write_generated(staged: list[Staged], folder: Path) -> None:
    """Write ``generated/*.md``, which pages of ``book/`` include, and the index page of each study's single runs."""
    selections = [study.selection for study in staged]
    studies = [selection.study for selection in selections if isinstance(selection.study, Study)]
    embedded = next((study for study in studies if study.embedded), None) or load_study(DEFAULT)
    parts = study_pages.parts(embedded, selections) | {
        "verdicts": verdicts(staged),
        "cost": cost(staged),
        "settings": render("settings.md", selections=selections),
        "datasets": study_pages.data_table(selections),
        "criteria": render("criteria.md", studies=studies, statistics=STATISTICS),
        "provenance": "\n".join(provenance(study) for study in staged),
        "rooms": code_map(),
        "tables": render("tables.md", schemas=SCHEMAS),
    }
    for name, text in parts.items():
        _write(folder / "generated" / f"{name}.md", text)
    for study in filter(lambda study: study.runs, staged):
        _write(folder / "runs" / study.selection.study.name / "index.md", run_index(study))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def verdicts(staged: list[Staged]) -> str:
    """The landing page's verdicts: the table, the controls, then what each study is, and which are missing."""
    given = [study for study in staged if isinstance(study.selection.study, OwnModels)]
    judged = [study for study in staged if study not in given]
    missing = not_tested([study.selection for study in judged]) if judged else []
    about = render("studies.md", judged=judged, given=given, missing=missing, origin=origin)
    return "\n".join([verdict_table(judged), control_table(judged), about])


def cost(staged: list[Staged]) -> str:
    """How long the notebooks of the report took, and on what; of published studies, how long their seeds took."""
    runs = [run for study in staged for run in [*study.chapters, *study.runs]]
    records = [record for study in staged for record in sidecars(study.selection) if "published" not in record]
    published = [study.selection for study in staged if study.selection.published]
    return render(
        "cost.md",
        runs=len(runs),
        minutes=sum(filter(None, map(seconds, runs))) / 60,
        machines=sorted(set(map(device, records))),
        elsewhere=[(one.study.title, sum(map(sum, spent(one).values())) / 60) for one in published],
    )


def run_index(study: Staged) -> str:
    """The index page of a study's single runs: a row per seed."""
    seeds = {seed: list(runs) for seed, runs in groupby(study.runs, key=lambda run: run.place.parent.name)}
    return render("runs.md", study=study.selection.study, seeds=seeds)
