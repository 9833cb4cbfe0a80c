"""The folder that Jupyter Book builds the report from: pages, executed notebooks, tables, and an order for them.

Pages keep their places relative to one another, except that ``book/`` becomes the top level, so that the landing page
is ``index.html``. Chapters are the notebooks over all seeds: of the first study in ``notebooks/``, of any further one
in ``studies/<study>/``. Single runs are in ``runs/<study>/seed-<n>/``, which a study shown from its published tables
does not have; tables are in ``results/<study>/``.
"""

import copy
import functools
import posixpath
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat
import yaml

from helpers import paths
from helpers.errors import MissingInput, StudyError
from helpers.paths import RunPaths
from pipeline.report import published
from pipeline.report.checks import check
from pipeline.report.inert import clean_output
from pipeline.results.provenance import records_of
from pipeline.runs.selections import Selection, not_tested
from pipeline.runs.stages import COMMON, STAGES, over_seeds

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
TITLE = re.compile(r"^# (?P<title>.*)$", re.MULTILINE)
UP = re.compile(r"(?<![\w./])\.\./(?:book/|(?=(?:results|studies)/))")


@dataclass(frozen=True)
class Chapter:
    """An executed notebook and its place in the report, without suffix."""

    source: Path
    place: PurePosixPath
    heading: str  # what is added to its title: nothing for a chapter of the main study

    @property
    def title(self) -> str:
        """Its own title, for the contents."""
        cells = nbformat.read(self.source, as_version=4).cells
        return next(found["title"] for cell in cells if (found := TITLE.search(cell.source)))


@dataclass(frozen=True)
class Staged:
    """A study in the report: its notebooks over all seeds, those of its single runs, and what is said above each."""

    selection: Selection
    chapters: list[Chapter]
    runs: list[Chapter]
    banner: str = ""  # Markdown below the title of each notebook

    @functools.cached_property
    def places(self) -> dict[str, PurePosixPath]:
        """Place of each notebook: by its full place, and by its name for the first that has it."""
        places: dict[str, PurePosixPath] = {}
        for place in [chapter.place for chapter in [*self.chapters, *self.runs]]:
            for name in (place.name, place.name.split("-")[0]):
                places.setdefault(name, place)
                places.setdefault(str(place.parent / name), place)
        return places


def stage(selections: list[Selection], folder: Path) -> list["Staged"]:
    """Fill ``folder``, emptied first, with everything that Jupyter Book needs; the first selection is the main study.

    Raises MissingInput for a result that is not there and StudyError for a notebook that failed, or a table that was
    made from other seeds than those that are shown.
    """
    for selection in selections:
        check(selection)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(paths.ROOT / "book", folder, ignore=shutil.ignore_patterns(".*"))
    contents = yaml.safe_load(_lifted(paths.ROOT / "_toc.yml"))
    _fit(contents, selections[0])
    staged = [
        Staged(s, _chapters(s, contents, main=s is selections[0]), _runs(s), published.banner(s)) for s in selections
    ]
    labels: set[str] = set()
    for study in staged:
        for chapter in [*study.chapters, *study.runs]:
            _stage_notebook(chapter, study, folder, labels)
        _copy_files(study.selection, folder / EXTRA)
    shutil.copyfile(paths.CLAIMS, folder / EXTRA / paths.CLAIMS.name)
    for study in not_tested(selections):
        _copy_settings(study.name, folder / EXTRA)
    for page in folder.glob("*.md"):
        moved = relocate(page.read_text(encoding="utf-8"), PurePosixPath(page.name), staged[0].places)
        page.write_text(moved, encoding="utf-8")
    _add_parts(contents, staged)
    (folder / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
    (folder / "_config.yml").write_text(_lifted(paths.ROOT / "_config.yml"), encoding="utf-8")
    return staged


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


def _fit(contents: dict, main: Selection) -> None:
    """Leave those notebooks in the contents that the main study has, and add to its results the others that it has."""
    has = [f"notebooks/{name}" for name in over_seeds(main.study, main.published)]
    for part in contents["parts"]:
        part["chapters"] = [e for e in part["chapters"] if e["file"] in has or not e["file"].startswith("notebooks/")]
    listed = {entry["file"] for part in contents["parts"] for entry in part["chapters"]}
    results = next(part for part in contents["parts"] if part["caption"] == RESULTS)
    later = [f"notebooks/{name}" for name in APPENDED]
    results["chapters"] += [{"file": file} for file in has if file not in [*listed, *later]]


def _chapters(selection: Selection, contents: dict, main: bool) -> list[Chapter]:
    """The notebooks over all seeds, of a further study without the common ones; those of the contents come first."""
    study = selection.study
    files = [PurePosixPath(entry["file"]).name for part in contents["parts"] for entry in part["chapters"]]
    has = [name for name in over_seeds(study, selection.published) if main or name not in COMMON]
    names = sorted(has, key=lambda name: files.index(name) if name in files else len(files))
    place, heading = ("notebooks", "") if main else (f"studies/{study.name}", study.title)
    folder = RunPaths(study.name)
    return [Chapter(_found(folder.notebook(n), selection), PurePosixPath(place, n), heading) for n in names]


def _runs(selection: Selection) -> list[Chapter]:
    """The notebooks run for each seed, in the order of the study."""
    name, runs = selection.study.name, []
    for seed in selection.seeds:
        folder = RunPaths(name, seed).root / "notebooks"
        place = PurePosixPath("runs", name, f"seed-{seed}")
        notebooks = [job.output for job in selection.jobs]
        for source in [path for path in notebooks if path.parent == folder]:
            runs.append(Chapter(_found(source, selection), place / source.stem, f"{name}, seed {seed}"))
    return runs


def _found(path: Path, selection: Selection) -> Path:
    if not path.exists():
        raise MissingInput(f"{path} is missing: make it with `{selection.command}`")
    return path


def _add_parts(contents: dict, staged: list[Staged]) -> None:
    """A part for each further study after the main one's results, and at the end the appendix of single runs."""
    place = next(i for i, part in enumerate(contents["parts"]) if part["caption"] == RESULTS)
    if staged[1:]:
        contents["parts"][place]["caption"] = f"{RESULTS}: {staged[0].selection.study.title}"
    for study in reversed(staged[1:]):
        chapters = [_entry(c, c.title) for c in study.chapters if c.place.name not in APPENDED]
        part = {"caption": f"{RESULTS}: {study.selection.study.title}", "chapters": chapters}
        contents["parts"].insert(place + 1, part)
    if appendix := [entry for study in staged for entry in _appendix(study)]:
        contents["parts"].append({"caption": "Appendix", "chapters": appendix})


def _appendix(study: Staged) -> list[dict]:
    """Contents of the appendix for a study: its measurements, and the index of its single runs where it has any."""
    measured = [{"file": str(chapter.place)} for chapter in study.chapters if chapter.place.name in APPENDED]
    runs = [_entry(run, f"{run.place.parent.name.replace('-', ' ')}: {run.place.name}") for run in study.runs]
    return measured + ([{"file": f"runs/{study.selection.study.name}/index", "sections": runs}] if runs else [])


def _entry(chapter: Chapter, title: str) -> dict[str, str]:
    return {"file": str(chapter.place), "title": title}


def _stage_notebook(chapter: Chapter, study: Staged, folder: Path, labels: set[str]) -> None:
    """Copy an executed notebook: links made right, outputs inert, labels dropped that an earlier copy has."""
    notebook = nbformat.read(chapter.source, as_version=4)
    _refuse_failed(notebook, chapter.source, study.selection)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    for cell in notebook.cells:
        cell.metadata = {"tags": _tags(cell)}
        if cell.cell_type == "markdown":
            cell.source = relocate(_without(labels, cell.source), chapter.place, study.places)
        for output in cell.get("outputs", []):
            _show(output, chapter.place, study.places)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    labels |= {label[label.lastgroup] for label in LABEL.finditer("\n".join(texts))}
    _extend_title(notebook, chapter.heading, study.banner)
    target = folder / f"{chapter.place}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    """Tags of a cell; the code behind a figure or a table is folded away, one click from it."""
    shows = any(output.output_type in ("display_data", "execute_result") for output in cell.get("outputs", []))
    return sorted({*cell.metadata.get("tags", []), *(["hide-input"] if shows else [])})


def _refuse_failed(notebook: nbformat.NotebookNode, source: Path, selection: Selection) -> None:
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    if errors or notebook.metadata.get("papermill", {}).get("exception"):
        why = f" ({errors[0].ename}: {errors[0].evalue})" if errors else ""
        raise StudyError(f"{source} failed when it ran{why}: put that right and run `{selection.command}` again")


def _show(output: nbformat.NotebookNode, place: PurePosixPath, places: dict[str, PurePosixPath]) -> None:
    """Make an output inert, and its links right for the place of its page."""
    cleaned = clean_output(copy.deepcopy(dict(output)))
    for kind in set(cleaned.get("data", {})) & {"text/html", "text/markdown"}:
        cleaned["data"][kind] = relocate(cleaned["data"][kind], place, places)
    output.clear()
    output.update(nbformat.from_dict(cleaned))


def _extend_title(notebook: nbformat.NotebookNode, heading: str, banner: str) -> None:
    """Add to the notebook's title which run it shows, and below it what is to be said of the study."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (title := TITLE.search(cell.source)):
            before, after = cell.source[: title.start()], cell.source[title.end() :]
            named = f"{title[0].rstrip()} ({heading})" if heading else title[0]
            cell.source = f"{before}{named}\n\n{banner}{after}" if banner else f"{before}{named}{after}"
            return


def _without(labels: set[str], text: str) -> str:
    """Text without those labels: the same notebook runs many times, and a label may exist only once."""
    return LABEL.sub(lambda label: "" if label[label.lastgroup] in labels else label[0], text)


def _copy_files(selection: Selection, extra: Path) -> None:
    """Copy a study's tables, the provenance of all its results, and its settings to where the report serves them."""
    name = selection.study.name
    for run in [*selection.over_seeds, *selection.runs]:
        for file in [*run.root.glob("tables/*.csv"), *records_of(run)]:
            target = extra / "results" / name / file.relative_to(run.root.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    _copy_settings(name, extra)


def _copy_settings(name: str, extra: Path) -> None:
    (extra / "studies").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(paths.STUDIES / f"{name}.yml", extra / "studies" / f"{name}.yml")
