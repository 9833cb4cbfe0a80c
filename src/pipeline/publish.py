"""Publish a study's tables: ``python -m pipeline.publish smollm2-135m`` copies them to ``published/``, to be committed.

What is copied is the tables of every seed and the provenance of tables and models: no weights, no texts, no notebooks.
The chapters of the report are made again from them wherever the study itself has not been run.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

from helpers import paths
from helpers.errors import MissingInput, StudyError
from helpers.files import replace_folder, sha256, write_text
from helpers.paths import SETTINGS, RunPaths
from helpers.studies.settings import OwnModels, Study, load_study, parse_seeds
from pipeline.results import tables
from pipeline.results.provenance import read_record, sidecar, write_record
from pipeline.runs.command_line import Parser
from pipeline.runs.stages import APART, CHAPTERS, COMMON, LATER, PER_SEED, of_study, result

SIGNIFICANT_DIGITS = 6  # of a published number: enough for every figure, and a third of the size
LABEL = re.compile(r"\S{1,80}( \S{1,20}){0,3}")  # what a cell of text may hold: a name of at most four words
OVER_SEEDS = {
    "tables/graded_summary",
    "tables/power",
    "tables/claim_uncertainty",
    "tables/bench_summary",
}  # made of seeds, published as well
LARGE = {"tables/projection_prompts"}  # stay where they were made: a megabyte a seed, for intervals over prompts
ABOUT_DATA = "datasets"  # table of sentences about data sets, written in this project; it holds none of their texts
TEXT_COLUMNS = {"prompt", "prefix", "answer", "completion", "response", "reply", "text", "question", "reference"}
LONGEST_FACT = 300  # letters of a text in a provenance file
TODAY = datetime.now(UTC).date().isoformat()


def publish(study: Study, seeds: list[int]) -> Path:
    """Copy the tables of a finished study and their provenance to ``published/<study>``, replacing what is there.

    Raises MissingInput if a table is not there, and StudyError if one could carry the text of a prompt or an answer.
    """
    final = paths.published_root() / study.name
    partial = final.with_name(f".{study.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _refuse_of_some(study, [seed for seed in seeds if RunPaths(study.name, seed).root.exists()])
    for run in [RunPaths(study.name, seed) for seed in seeds] + [RunPaths(study.name)]:
        target = partial / run.root.name
        for source in _tables(study, run):
            _refuse_others(source, study, seeds)
            _copy_table(source, target / "tables" / source.name)
        for source in run.root.glob("models/*.json"):
            write_record(_record(source) | {"published": {"date": TODAY}}, target / "models" / source.name)
    settings = yaml.safe_load((paths.STUDIES / f"{study.name}.yml").read_text(encoding="utf-8"))
    write_text(partial / SETTINGS, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    replace_folder(partial, final)
    return final


def _tables(study: Study, run: RunPaths) -> Iterator[Path]:
    """The tables to publish: all that a seed has; of those over all seeds the ones that are not made from seeds, what
    other studies read (the power of the graded control), and intervals that cannot be made without single prompts.

    Those that are the same for every study are left out: they come with the project. A measurement that is younger than
    the results may be lacking, and is said to be.
    """
    of_seed, lacking = run.seed is not None, []
    stages = of_study(PER_SEED if of_seed else CHAPTERS | APART, study)
    written = [
        key
        for name, stage in stages.items()
        for key in stage.writes
        if name not in COMMON and (name not in CHAPTERS or key in OVER_SEEDS)
    ]
    for key in {key.format(objective=objective) for key in written for objective in study.objectives} - LARGE:
        if key.startswith("tables/"):
            path = result(run, key)
            if key in LATER and not path.exists():
                lacking.append(path.name)
                continue
            if not (path.exists() and sidecar(path).exists()):
                raise MissingInput(f"{path} is missing: make it with `make book STUDY={study.name}`")
            yield path
    if run.seed is not None and (described := run.table(ABOUT_DATA)).exists():
        yield described
    for name in sorted(lacking):
        print(f"{run.root.name} has no {name}, which is published as not measured", file=sys.stderr)


def _refuse_of_some(study: Study, seeds: list[int]) -> None:
    """Raise StudyError if some seeds have a measurement that others lack: chapters read it of all or of none."""
    for name, stage in of_study(PER_SEED, study).items():
        for key in LATER.intersection(stage.writes):
            without = [seed for seed in seeds if not result(RunPaths(study.name, seed), key).exists()]
            if 0 < len(without) < len(seeds):
                asked = ",".join(map(str, without))
                raise StudyError(
                    f"{key} is there for some seeds only: run {name} for seeds {asked} too, or publish the others alone"
                )


def _refuse_others(path: Path, study: Study, seeds: list[int]) -> None:
    """Raise StudyError if a table over all seeds was made from others than those that are published."""
    made = read_record(sidecar(path)).get("parameters", {}).get("seeds")
    if made is not None and sorted(parse_seeds(made, study)) != sorted(seeds):
        asked = ",".join(map(str, seeds))
        raise StudyError(f"{path} was made from other seeds: run `make book STUDY={study.name} SEEDS={asked}` first")


def _copy_table(source: Path, target: Path) -> None:
    """Copy a table with its numbers rounded, and its provenance with the hash of the rounded table."""
    name = source.stem.split("-")[0]
    table = tables.read_csv(source, name)
    _refuse_text(source, table)
    tables.write_csv(target, name, table, SIGNIFICANT_DIGITS)
    entry = _record(sidecar(source))
    entry["published"] = {"date": TODAY, "significant_digits": SIGNIFICANT_DIGITS, "output": entry["output"]}
    entry["output"] = dict.fromkeys(entry["output"], sha256(target))
    write_record(entry, sidecar(target))


def _refuse_text(path: Path, table: pd.DataFrame) -> None:
    """Raise StudyError if a table holds more than names and numbers."""
    for column in table.columns if path.stem != ABOUT_DATA else ():
        texts = {value for value in table[column].unique() if isinstance(value, str)}
        if column in TEXT_COLUMNS or not all(map(LABEL.fullmatch, texts)):
            said = f"{path.name} has texts in its column {column!r}, which may not be published"
            raise StudyError(f"{said}: keep prompts and answers out of the tables")


def _record(path: Path) -> dict:
    """A provenance file; raises StudyError if it holds anything as long as a prompt or an answer."""
    entry = read_record(path)
    if _longest(entry) > LONGEST_FACT:
        raise StudyError(f"{path} holds a long text, which may not be published: keep texts out of the provenance")
    return entry


def _longest(value: object) -> int:
    """Letters of the longest text in lists and mappings."""
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_longest, inner), default=0)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("study")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; default: the study's")
    given = parser.parse_args(arguments)
    try:
        study = load_study(given.study)
        if isinstance(study, OwnModels):
            raise StudyError(f"study {study.name} is of your own models, which are not published")
        folder = publish(study, parse_seeds(given.seeds, study))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"published: {folder} ({len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
