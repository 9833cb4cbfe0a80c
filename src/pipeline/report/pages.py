"""The parts of the report's pages that are made from results and settings, so that no number is typed by hand."""

from collections import defaultdict
from itertools import groupby
from pathlib import Path

from helpers.claims.statistics import STATISTICS
from helpers.claims.verdicts import NOT_TESTED
from helpers.studies.own_models import OwnModels
from helpers.studies.settings import Study, load_study
from pipeline.report import studies as study_pages
from pipeline.report.claims import badge, verdict_table
from pipeline.report.controls import control_table
from pipeline.report.data import data_table
from pipeline.report.html import Html, code, link, table
from pipeline.report.published import device, origin, spent
from pipeline.report.records import provenance, seconds, sidecars
from pipeline.report.staging import Staged
from pipeline.results import tables
from pipeline.runs.selections import DEFAULT, Selection, not_tested

ORGANISM = "A tiny model, trained here from scratch on an invented language with a harmless restricted topic."


def write_generated(staged: list[Staged], folder: Path) -> None:
    """Write ``generated/*.md``, which pages of ``book/`` include, and the index page of each study's single runs."""
    selections = [study.selection for study in staged]
    judged = [study for study in staged if isinstance(study.selection.study, Study)]
    studies = [study.selection.study for study in judged]
    embedded = next((study for study in studies if study.embedded), None) or load_study(DEFAULT)
    parts = {
        "verdicts": verdicts(judged) + given(staged),
        "cost": cost(staged),
        "settings": settings_files(selections),
        "datasets": data_table(selections),
        "examples": study_pages.examples(embedded),
        "models": study_pages.architecture(embedded),
        "training": study_pages.training(embedded),
        "evaluation": study_pages.evaluation(embedded),
        "pretrained": study_pages.pretrained(selections),
        "criteria": criteria(studies),
        "provenance": "\n".join(provenance(study) for study in staged),
        "tables": schemas(),
    }
    for name, text in parts.items():
        _write(folder / "generated" / f"{name}.md", text)
    for study in filter(lambda study: study.runs, staged):
        _write(folder / "runs" / study.selection.study.name / "index.md", run_index(study))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def verdicts(studies: list[Staged]) -> str:
    """The landing page's verdicts: the table, the controls, then what each study is, and which are missing."""
    missing = _not_tested([study.selection for study in studies]) if studies else ""
    return "\n".join([verdict_table(studies), control_table(studies), *map(_about, studies), missing])


def _about(staged: Staged) -> str:
    """A line on one study of the verdict table: seeds, whence its results, its models, where to read on."""
    study, seeds = staged.selection.study, len(staged.selection.seeds)
    said = [f"{seeds} seed{'s' if seeds > 1 else ''}."]
    if staged.selection.published:
        said.append(f"Published results: the seeds were run {origin(staged.selection)}, and not for this report.")
    said += [study.note or ORGANISM] if study.note or study.embedded else []
    chapter = link(f"{staged.places['15_verdict']}.html", "every statistic")
    evidence = link(f"results/{study.name}/all/tables/verdicts.csv", "verdicts.csv")
    return f"**{study.title}**: {' '.join(said)} See {chapter}, or {evidence}.\n"


def given(studies: list[Staged]) -> str:
    """A line on each study of models that were given, which is in no verdict table."""
    shown = [study for study in studies if isinstance(study.selection.study, OwnModels)]
    links = [(study.selection.study.title, link(f"{study.chapters[0].place}.html", "its chapter")) for study in shown]
    judged = "Models that were given: none of the paper's claims is judged on them."
    return "".join(f"\n**{title}**: {judged} See {chapter}.\n" for title, chapter in links)


def _not_tested(selections: list[Selection]) -> str:
    """A line on the studies of pretrained models that nobody has run here, with their settings."""
    missing = not_tested(selections)
    if not missing:
        return ""
    links = ", ".join(link(f"studies/{study.name}.yml", study.title) for study in missing)
    remedy = "`make plan STUDY=…` says what a run needs, `make book STUDY=…` runs it."
    return f"{badge(NOT_TESTED)} {links}: only the settings of these studies are here. {remedy}\n"


def readable(name: str) -> str:
    """A name of the code in words."""
    return name.replace("_", " ")


def cost(staged: list[Staged]) -> str:
    """How long the notebooks of the report took, and on what; of published studies, how long their seeds took."""
    runs = [run for study in staged for run in [*study.chapters, *study.runs]]
    records = [record for study in staged for record in sidecars(study.selection) if "published" not in record]
    machines = sorted(set(map(device, records)))
    minutes = sum(filter(None, map(seconds, runs))) / 60
    where = f" on {' and '.join(machines)}" if machines else ""
    said = [f"The {len(runs)} notebook runs behind this report took {minutes:.1f} minutes one after another{where}."]
    for selection in (study.selection for study in staged if study.selection.published):
        elsewhere = sum(map(sum, spent(selection).values())) / 60
        said.append(f"The published seeds of {selection.study.title} took {elsewhere:.0f} minutes where they were run.")
    return " ".join(said)


def criteria(studies: list[Study]) -> str:
    """What is asked of each statistic of each claim and what the statistic is, once for all studies of a kind."""
    asked: dict[str, list[str]] = defaultdict(list)
    for study in studies:
        asked[_asked(study)].append(study.title)
    parts = [f"### Criteria of {', '.join(titles)}\n\n{rows}" for rows, titles in asked.items()]
    return "\n".join([*parts, *([_changes(studies[0])] if studies else [])])


def _asked(study: Study) -> str:
    rows = []
    for claim, entry in study.claims.items():
        asked = [(criterion.statistic, criterion.wording()) for criterion in entry.criteria]
        asked += [(entry.distinct.statistic, f"distinct if > {entry.distinct.margin:g}")] if entry.distinct else []
        asked += [(name, "reported beside") for name in entry.beside]
        rows += [[claim, readable(name), STATISTICS[name].__doc__.splitlines()[0], bounds] for name, bounds in asked]
    return table(["claim", "statistic", "what it is", "asked"], rows)


def _changes(study: Study) -> str:
    """What was changed in the ledger after it was first written."""
    rows = [[str(c.date), claim, c.what, c.reason] for claim, entry in study.claims.items() for c in entry.changes]
    return f"### Changes of the ledger\n\n{table(['date', 'claim', 'change', 'reason'], rows)}"


def settings_files(selections: list[Selection]) -> str:
    """Links to the settings of the studies in the report."""
    rows = [[s.study.title, link(f"studies/{s.study.name}.yml", f"{s.study.name}.yml")] for s in selections]
    return table(["study", "settings"], rows)


def schemas() -> str:
    """The columns of every table."""
    parts = []
    for name, columns in tables.SCHEMAS.items():
        rows = [[code(column), meaning] for column, meaning in columns.items()]
        parts.append(f"## `{name}`\n\n{table(['column', 'meaning'], rows)}")
    return "\n".join(parts)


def run_index(study: Staged) -> str:
    """The index page of a study's single runs: a row per seed."""
    name, title = study.selection.study.name, study.selection.study.title
    rows = []
    for seed, runs in groupby(study.runs, key=lambda run: run.place.parent.name):
        links = [link(f"{seed}/{run.place.name}.html", run.place.name) for run in runs]
        rows.append([seed.replace("-", "\u00a0"), Html(" · ".join(links))])
    intro = "Every notebook as it ran for each seed, with its output; the result chapters summarise them.\n"
    return f"# Single runs: {title}\n\n{intro}\n{table(['run', 'notebooks'], rows)}\nStudy `{name}`.\n"
