"""The folder that Jupyter Book builds the report from: pages, executed notebooks, tables, and an order for them.

Pages keep their places relative to one another, except that ``book/`` becomes the top level, so that the landing page
is ``index.html``. Chapters are the notebooks over all seeds: of the first study in ``notebooks/``, of any further one
in ``studies/<study>/``. Single runs are in ``runs/<study>/seed-<n>/``, which a study shown from its published tables
does not have; tables are in ``results/<study>/``.
"""

import posixpath
import re
import shutil
from itertools import pairwise
from pathlib import Path, PurePosixPath

import nbformat
import yaml
from nbformat.v4 import new_markdown_cell

from helpers import paths
from helpers.errors import MissingInput, StudyError
from helpers.files import remove
from helpers.paths import RunPaths
from pipeline.report.chapters import Chapter, Staged
from pipeline.report.inert import clean_output
from pipeline.report.launch import launching
from pipeline.report.layout import code_folded, reading_time, results_first
from pipeline.report.records import banner
from pipeline.report.what_next import TITLE, what_next
from pipeline.results.provenance import read_record, records_of
from pipeline.runs.jobs import Job
from pipeline.runs.selections import Selection, not_tested, select
from pipeline.runs.stages import COMMON, STAGES

APPENDED = ("22_judge_validation",)  # notebooks over all seeds that are measurements, for the appendix
EXTRA = "extra"  # folder of files that the report serves as they are, see html_extra_path in _config.yml
LABEL = re.compile(  # of a section, of a formula between dollars, of a directive
    r"^\((?P<section>[\w:-]+)\)=[ \t]*\n|(?<=\$\$)[ \t]*\((?P<formula>[\w:-]+)\)[ \t]*$"
    r"|^:(?:label|name): (?P<directive>\S+)\n",
    re.MULTILINE,
)
NOTEBOOK_LINK = re.compile(
    r"\[(?P<text>[^\]]*)\]\((?:\.\./notebooks/|\./)?(?P<name>\d\d_[\w-]+)\.ipynb(?P<anchor>#[^)\s]*)?\)"
)
FILE_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<path>\.\./(?:results|studies)/[^)\s]*)\)")
RESULTS = "Results"  # caption of the main study's part in _toc.yml
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
UP = re.compile(r"(?<![\w./])\.\./(?:book/|(?=(?:results|studies)/))")


def stage(selections: list[Selection], folder: Path) -> list[Staged]:
    """Fill ``folder``, emptied first, with everything that Jupyter Book needs; the first selection is the main study.

    Raises MissingInput for a result that is not there and StudyError for a notebook that failed, or a table that was
    made from other seeds than those that are shown.
    """
    for selection in selections:
        check_seeds(selection)
    remove(folder)
    shutil.copytree(paths.ROOT / "book", folder, ignore=shutil.ignore_patterns(".*"))
    staged = [_notebooks(selection, selection is selections[0], len(selections) > 1) for selection in selections]
    labels: set[str] = set()
    for study in staged:
        read_on = [chapter for chapter in study.chapters if chapter.place.name not in APPENDED]
        after = dict(pairwise(read_on))
        for chapter in [*study.chapters, *study.runs]:
            said = banner(study.selection, chapter.place.name)
            end = what_next(chapter, study, after.get(chapter)) if chapter in read_on else ""
            _stage_notebook(chapter, study, said, end, folder, labels)
    _copy_files(selections, folder / EXTRA)
    places = {name: place for study in reversed(staged) for name, place in study.places.items()}
    for page in folder.glob("*.md"):
        moved = relocate(page.read_text(encoding="utf-8"), PurePosixPath(page.name), places)
        page.write_text(moved, encoding="utf-8")
    (folder / "_toc.yml").write_text(yaml.safe_dump(_contents(staged), sort_keys=False), encoding="utf-8")
    (folder / "_config.yml").write_text(launching(_lifted(paths.ROOT / "_config.yml")), encoding="utf-8")
    return staged


def check_seeds(selection: Selection) -> None:
    """Raise StudyError if a table over all seeds was made from others than are shown, as by a chapter run by hand.

    A notebook that reads no seeds records none, and its tables pass.
    """
    for path in sorted(RunPaths(selection.study.name).root.glob("tables/*.json")):
        parameters = read_record(path).get("parameters", {})
        made, shown = (
            f"{'published ' if one.published else ''}seeds {', '.join(map(str, sorted(one.seeds)))}"
            for one in (select(selection.study, parameters.get("seeds", selection.asked)), selection)
        )
        if made != shown:
            raise StudyError(
                f"{path.with_suffix('.csv')} was made from {made}, and this report shows {shown}: delete it and run "
                f"`{selection.command}`"
            )


def _notebooks(selection: Selection, main: bool, several: bool) -> Staged:
    """The executed notebooks of a study; those over all seeds by their numbers, of a further study its own ones.

    Where the report has several studies, the title of a chapter names its own.
    """
    study, chapters, runs = selection.study, [], []
    place, heading = "notebooks" if main else f"studies/{study.name}", study.title if several else ""
    for job in selection.jobs:
        if job.seed is not None:
            of_seed = f"seed-{job.seed}"
            found = _executed(job, selection, f"runs/{study.name}/{of_seed}", f"{study.name}, seed {job.seed}")
            runs.append(found)
        elif main or job.notebook not in COMMON:
            chapters.append(_executed(job, selection, place, "" if job.notebook in COMMON else heading))
    return Staged(selection, sorted(chapters, key=lambda chapter: chapter.place), runs)


def _executed(job: Job, selection: Selection, place: str, heading: str) -> Chapter:
    if not job.output.exists():
        raise MissingInput(f"{job.output} is missing: make it with `{selection.command}`")
    return Chapter(job.output, PurePosixPath(place, job.name), heading)


def relocate(text: str, place: PurePosixPath, places: dict[str, PurePosixPath]) -> str:
    """Text of a page with its relative links made right for its place in the report.

    Links to result and settings files become HTML, since they are served as files and are no pages.
    """
    top = "../" * (len(place.parts) - 1)
    text = FILE_LINK.sub(r'<a href="\g<path>">\g<text></a>', text)
    text = NOTEBOOK_LINK.sub(lambda link: _notebook_link(link, place, places), text)
    return UP.sub(top, text)


def _notebook_link(link: re.Match, place: PurePosixPath, places: dict[str, PurePosixPath]) -> str:
    """Link to a notebook's page: in the same folder where there is one, else wherever the study has it first.

    Of a link to a notebook that the study does not show its text is left.
    """
    target = places.get(str(place.parent / link["name"])) or places.get(link["name"])
    if target is None:
        return link["text"] if link["name"] in STAGES else link[0]
    return f"[{link['text']}]({posixpath.relpath(f'{target}.ipynb', place.parent)}{link['anchor'] or ''})"


def _lifted(path: Path) -> str:
    """Text of a settings file of the book, with what is in ``book/`` at the top level."""
    return re.sub(r"(?<![\w/-])book/", "", path.read_text(encoding="utf-8"))


def _contents(staged: list[Staged]) -> dict:
    """The contents: ``_toc.yml`` with the notebooks that the main study has, further studies' parts and an appendix."""
    contents, parts = yaml.safe_load(_lifted(paths.ROOT / "_toc.yml")), []
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    main, *further = [[c for c in study.chapters if c.place.name not in APPENDED] for study in staged]
    has = [str(chapter.place) for chapter in main]
    for part in contents["parts"]:
        chapters = [e for e in part["chapters"] if e["file"] in has or not e["file"].startswith("notebooks/")]
        parts.append({"caption": part["caption"], "chapters": chapters})
        if part["caption"] == RESULTS:
            chapters += [{"file": file} for file in has if file not in listed]
            titles = [f"{RESULTS}: {study.selection.study.title}" for study in staged]
            parts[-1]["caption"] = titles[0] if further else RESULTS
            for title, own in zip(titles[1:], further, strict=True):
                parts.append({"caption": title, "chapters": [c.entry() for c in own]})
    if appendix := [entry for study in staged for entry in _appendix(study)]:
        parts.append({"caption": "Appendix", "chapters": appendix})
    return contents | {"parts": parts}


def _appendix(study: Staged) -> list[dict]:
    """Contents of the appendix for a study: its measurements, and the index of its single runs where it has any."""
    measured = [chapter.entry() for chapter in study.chapters if chapter.place.name in APPENDED]
    runs = [run.entry(f"{run.place.parent.name.replace('-', ' ')}: {run.place.name}") for run in study.runs]
    return measured + ([{"file": f"runs/{study.selection.study.name}/index", "sections": runs}] if runs else [])


def _stage_notebook(chapter: Chapter, study: Staged, said: str, end: str, folder: Path, labels: set[str]) -> None:
    """Copy an executed notebook: links made right, outputs inert, labels dropped that an earlier copy has.

    Its title says which run it shows, and below it stands what is ``said`` of the study; ``end`` stands last.
    """
    notebook = nbformat.read(chapter.source, as_version=4)
    _refuse_failed(notebook, chapter.source, study.selection)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in notebook.cells:
        cell.metadata = {"tags": sorted(cell.metadata.get("tags", []))}
        if cell.cell_type == "code":
            cell.outputs = [_shown(output, chapter.place, study.places) for output in cell.outputs]
    for cell in texts:
        cell.source = relocate(_labelled_once(cell.source, labels), chapter.place, study.places)
    if first := next((cell for cell in texts if TITLE.search(cell.source)), None):
        before, title, after = TITLE.split(first.source, maxsplit=1)
        named = f"{title} ({chapter.heading})" if chapter.heading else title
        top = "\n\n".join(filter(None, [f"{before}# {named}", f"*{reading_time(notebook.cells)}*", said]))
        first.source = top + after
    code_folded(notebook.cells)
    if chapter not in study.runs:
        results_first(notebook.cells)
    if end:
        notebook.cells.append(new_markdown_cell(end, id="what-next"))
    target = folder / f"{chapter.place}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def _refuse_failed(notebook: nbformat.NotebookNode, source: Path, selection: Selection) -> None:
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    if errors or notebook.metadata.get("papermill", {}).get("exception"):
        why = f" ({errors[0].ename}: {errors[0].evalue})" if errors else ""
        raise StudyError(f"{source} failed when it ran{why}: put that right and run `{selection.command}` again")


def _shown(output: dict, place: PurePosixPath, places: dict[str, PurePosixPath]) -> nbformat.NotebookNode:
    """An output made inert, with its links right for the place of its page."""
    cleaned = clean_output(output)
    for kind in set(cleaned.get("data", {})) & {"text/html", "text/markdown"}:
        cleaned["data"][kind] = relocate(cleaned["data"][kind], place, places)
    return nbformat.from_dict(cleaned)


def _labelled_once(text: str, labels: set[str]) -> str:
    """Text without the labels that are there already: the same notebook runs many times, and a label exists once."""
    new = {label[label.lastgroup] for label in LABEL.finditer(text)} - labels
    labels |= new
    return LABEL.sub(lambda label: label[0] if label[label.lastgroup] in new else "", text)


def _copy_files(selections: list[Selection], extra: Path) -> None:
    """Copy what the report serves as files: tables, the provenance of all results, settings, and the ledger."""
    for selection in selections:
        for run in [*selection.over_seeds, *selection.runs]:
            for file in [*run.root.glob("tables/*.csv"), *records_of(run)]:
                _copy(file, extra / "results" / selection.study.name / file.relative_to(run.root.parent))
    for study in [*(selection.study for selection in selections), *not_tested(selections)]:
        _copy(paths.STUDIES / f"{study.name}.yml", extra / "studies" / f"{study.name}.yml")
    _copy(paths.CLAIMS, extra / paths.CLAIMS.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
