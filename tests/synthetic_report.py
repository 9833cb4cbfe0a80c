"""Results written in a second, of a study that never ran: enough to stage and build a report of every page."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import figures
from helpers.claims.verdicts import FOUND, intervals, stated_table, strict_table, verdict_table
from helpers.paths import SETTINGS, STUDIES, RunPaths, published_root
from helpers.studies.settings import Study
from pipeline.runs.notebook import begin
from pipeline.runs.selections import Selection

NOTHING = pd.DataFrame(columns=["claim", "statistic", "seed", "value"])  # the statistics of a study without results
PAYLOADS = [  # what a model might write, to be shown as text and nothing else
    "<script>window.attacked = 'script'</script>",
    "<img src=x onerror=\"window.attacked = 'image'\">",
    "[click](javascript:window.attacked='link') ![x](http://attacker.example/x.png) $$\\href{javascript:x}{y}$$",
    "</pre></div></body><iframe src='http://attacker.example'></iframe>",
]
CHAPTER = """# {name}

(label-{name})=
## Overview

The energy of {{eq}}`eq-{name}`, as [the method](../book/method.md) defines it, is in
[the table](../results/{study}/all/tables/verdicts.csv); see also [the verdict](15_verdict.ipynb) and
[a single run](../notebooks/05_projection.ipynb).

$$
E = mc^2
$$ (eq-{name})
"""


def write_results(study: Study, seeds: list[int], published: bool = False) -> None:
    """Write every executed notebook and the verdict table of a study below ``results_root()``.

    Of a published study the chapters only, and a table of each seed below ``published_root()``.
    """
    statistics = [
        {"study": study.name, "claim": claim, "statistic": name, "seed": seed, "value": 0.5 + seed / 100}
        for claim, entry in study.claims.items()
        for name in entry.statistics
        for seed in seeds
    ]
    for seed in seeds if published else ():
        publish_behaviour(study, seed)
    run = begin("15_verdict", study=study.name, seeds="published" if published else seeds)
    run.folder = RunPaths(study.name)  # as in a workflow
    for name, table in judged(study, pd.DataFrame(statistics), run.records_of_seeds).items():
        run.write(name, table)
    shown = figure(study, seeds)
    for job in Selection(study, seeds, published).jobs:
        write_notebook(job.output, study.name, shown)


def judged(study: Study, statistics: pd.DataFrame, records: Iterable[dict] = ()) -> dict[str, pd.DataFrame]:
    """The tables of verdicts that notebook 15 makes of some statistics (claim, statistic, seed, value)."""
    found = intervals(study, statistics, pd.DataFrame(columns=["claim", "statistic", *FOUND]))
    stated, strict = stated_table(study, found), strict_table(study, found)
    verdicts = verdict_table(study, statistics, found, stated, strict, records)
    return {"stated": stated, "strict": strict, "verdicts": verdicts}


def publish_behaviour(study: Study, seed: int) -> None:
    """Write one published table of a seed, with its provenance, and the settings beside it."""
    run = begin("03_behaviour", study=study.name, seed=seed)
    run.folder = RunPaths(study.name, seed, published=True)
    row = {"model": "base", "measure": "harm", "value": 1.0, "stderr": 0.0, "prompts": 4}
    run.write("behaviour", pd.DataFrame([row]))
    shutil.copyfile(STUDIES / f"{study.name}.yml", published_root() / study.name / SETTINGS)


def figure(study: Study, seeds: list[int]) -> str:
    """A figure as the notebooks show it."""
    drawn, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], label="identity")
    run = begin("15_verdict", study=study.name, seeds=seeds)
    run.folder = RunPaths(study.name)
    return figures.show(drawn, "fig-line", "A line; shown is y over x.", run, "verdicts").data


def write_notebook(path: Path, study: str, figure: str, **metadata: object) -> None:
    """Write an executed notebook with text, a formula, a figure, a table and hostile output."""
    hostile = pd.DataFrame({"answer": PAYLOADS})
    outputs = [
        new_output("stream", name="stdout", text="\n".join(PAYLOADS)),
        new_output("display_data", {"text/html": figure, "text/plain": "<figure>"}),
        new_output("display_data", {"text/html": hostile.to_html(), "text/plain": str(hostile)}),
        new_output("display_data", {"text/html": hostile.to_html(escape=False), "text/plain": str(hostile)}),
        new_output("display_data", {"text/markdown": "\n\n".join(PAYLOADS), "text/plain": "x"}),
        new_output("display_data", {"application/javascript": "window.attacked = 'javascript'"}),
        new_output("display_data", {"text/latex": PAYLOADS[2]}),
    ]
    text = CHAPTER.format(name=path.stem, study=study)
    code = new_code_cell("answers", outputs=outputs, execution_count=1)
    facts = {"papermill": {"duration": 1.5, "exception": None, **metadata}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell(text), code], metadata=facts), path)
