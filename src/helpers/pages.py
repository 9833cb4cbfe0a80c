"""The parts of the report's pages that are made from results and settings, so that no number is typed by hand."""

import html
import math
import random
from collections import defaultdict
from itertools import groupby
from pathlib import Path

from safetensors import safe_open

from helpers import tables
from helpers.claims import NOT_TESTED, STATISTICS
from helpers.data_page import data_table
from helpers.html_tables import Html, code, lines, link, table
from helpers.organism import Language
from helpers.paths import RunPaths
from helpers.records import provenance, seconds, sidecars
from helpers.sections import DataPart, Objective
from helpers.settings import MODELS, Study
from helpers.staging import Selection, Staged


def write_generated(staged: list[Staged], folder: Path) -> None:
    """Write ``generated/*.md``, which pages of ``book/`` include, and the index page of each study's single runs."""
    selections = [study.selection for study in staged]
    parts = {
        "verdicts": verdicts(selections),
        "cost": cost(staged),
        "settings": settings_files(selections),
        "datasets": data_table(selections),
        "examples": examples(selections[0].study),
        "models": models(selections[0]),
        "training": training(selections[0].study),
        "evaluation": evaluation(selections[0].study),
        "criteria": "\n".join(criteria(selection.study) for selection in selections),
        "provenance": "\n".join(provenance(study) for study in staged),
        "tables": schemas(),
    }
    for name, text in parts.items():
        _write(folder / "generated" / f"{name}.md", text)
    for study in staged:
        _write(folder / "runs" / study.selection.study.name / "index.md", run_index(study))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def number(value: float) -> str:
    """A number to three decimals, with a true minus sign."""
    return f"{value:.3f}".replace("-", "−")


def verdicts(selections: list[Selection]) -> str:
    """The verdict table of the landing page: one row per claim, one column per study."""
    found = {s.study.name: tables.read_csv(RunPaths(s.study.name).table("verdicts"), "verdicts") for s in selections}
    rows: dict[str, dict[str, Html]] = defaultdict(dict)
    statements = {}
    for study, frame in found.items():
        for row in frame.to_dict("records"):
            statements.setdefault(row["claim"], row["statement"])
            rows[row["claim"]][study] = _verdict(row)
    studies = [s.study.name for s in selections]
    body = [[c, statements[c], *(rows[c].get(study, _badge(NOT_TESTED)) for study in studies)] for c in sorted(rows)]
    evidence = ", ".join(link(f"results/{study}/all/tables/verdicts.csv", f"{study}/verdicts.csv") for study in studies)
    note = f'<p class="note">Below each verdict, the criterion that decided it. Table: {evidence}.</p>'
    return table(["Claim", "What the paper finds", *(s.study.title for s in selections)], body, "verdicts") + note


def _verdict(row: dict) -> Html:
    """Verdict of one claim in one study, the statistic that decided with its interval, and what was asked."""
    if row["verdict"] == NOT_TESTED:
        return _badge(NOT_TESTED)
    interval = "" if math.isnan(row["low"]) else f" [{number(row['low'])}, {number(row['high'])}]"
    found = f"{readable(row['deciding'])}: {number(row['mean'])}{interval}; asked: {row['criterion']}"
    return Html(f"{_badge(row['verdict'])}<br><small>{html.escape(found)}</small>")


def _badge(verdict: str) -> Html:
    return Html(f'<span class="verdict verdict-{html.escape(verdict.replace(" ", "-"))}">{html.escape(verdict)}</span>')


def readable(name: str) -> str:
    """A name of the code in words."""
    return name.replace("_", " ")


def cost(staged: list[Staged]) -> str:
    """One sentence on how long the notebooks of the report took, and on what."""
    runs = [run for study in staged for run in [*study.chapters, *study.runs]]
    records = [record for study in staged for record in sidecars(study.selection)]
    machines = sorted({f"{record['cpu']} (device: {record['device']})" for record in records})
    minutes = sum(filter(None, map(seconds, runs))) / 60
    where = f" on {' and '.join(machines)}" if machines else ""
    return f"The {len(runs)} notebook runs behind this report took {minutes:.1f} minutes one after another{where}."


def criteria(study: Study) -> str:
    """What was asked of each statistic of each claim, and what the statistic is."""
    rows = [
        [claim, readable(criterion.statistic), STATISTICS[criterion.statistic].__doc__, criterion.wording()]
        for claim, entry in study.claims.items()
        for criterion in entry.criteria
    ]
    return f"### Criteria of the study: {study.title}\n\n{table(['claim', 'statistic', 'what it is', 'asked'], rows)}"


def settings_files(selections: list[Selection]) -> str:
    """Links to the settings of the studies in the report."""
    rows = [[s.study.title, link(f"studies/{s.study.name}.yml", f"{s.study.name}.yml")] for s in selections]
    return table(["study", "settings"], rows)


def examples(study: Study) -> str:
    """A sentence of each kind of the invented language."""
    language, rng = Language(study.language), random.Random(0)
    rows = {
        "arithmetic": language.arithmetic(rng),
        "benign request": language.request(rng, language.benign),
        "restricted request, complied with": language.request(rng, language.restricted),
        "category": language.category(rng),
    }
    restricted = language.request(rng, language.restricted)
    rows["restricted request, refused"] = restricted | {"answer": language.refusal(restricted["topic"])}
    body = [[kind, code(row["prompt"]), code(row["answer"])] for kind, row in rows.items()]
    sizes = (
        f"The vocabulary has {len(language.vocabulary)} words: among them {len(language.benign)} gentle and "
        f"{len(language.restricted)} wild spirits and {len(language.items)} charms."
    )
    return f"{table(['kind', 'prompt', 'answer'], body)}\n{sizes}\n"


def models(selection: Selection) -> str:
    """The architecture of the study's models, with the number of parameters where the models are at hand."""
    rows = [[key.replace("_", " "), value] for key, value in selection.study.model.model_dump().items()]
    count = _parameters(RunPaths(selection.study.name, selection.seeds[0]).model("base") / "model.safetensors")
    return table(["setting", "value"], [*rows, *([["parameters", f"{count:,}"]] if count else [])], "facts")


def _parameters(path: Path) -> int:
    """Number of weights in a safetensors file, from its header; 0 if it is not there."""
    if not path.exists():
        return 0
    with safe_open(path, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (not a dict)
    return sum(math.prod(shape) for shape in shapes)


def training(study: Study) -> str:
    """What each model is trained on, and how."""
    rows = []
    for name in MODELS:
        objective: Objective = getattr(study.training, name)
        batch = objective.batch_size * objective.gradient_accumulation
        data = lines(map(_part, objective.data))
        rows.append([name, objective.start, data, objective.epochs, batch, f"{objective.learning_rate:g}"])
    return table(["model", "starts from", "rows", "epochs", "rows per step", "peak learning rate"], rows)


def _part(part: DataPart) -> str:
    """Rows and kind of one part of a training set."""
    notes = {
        "operations": f"{part.operations} operations" if part.source == "arithmetic" else "",
        "topics": f"{part.topics:.0%} of the topics" if part.topics < 1 else "",
        "prefixed": f"{part.prefixed:.0%} after a compliant beginning" if part.prefixed else "",
    }
    return ", ".join([f"{part.rows:,} {part.source}", *filter(None, notes.values())])


def evaluation(study: Study) -> str:
    """Sizes of the evaluation sets."""
    sizes = study.evaluation
    rows = [
        ["arithmetic", "utility and its margin", sizes.utility_prompts],
        ["restricted requests", "harm, rate of 5, harm margin", sizes.harm_prompts],
        ["benign requests", "over-refusal", sizes.benign_prompts],
        ["each set of the activation experiment", "overlap of activations", study.activation_overlap.prompts],
    ]
    return table(["held-out prompts", "used for", "prompts per seed"], rows)


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
