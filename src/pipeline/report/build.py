"""The report: ``python -m pipeline.report.build organism`` builds ``_build/html`` from the results of some studies.

Pages and executed notebooks are staged in ``_build/stage`` and built there by Jupyter Book, warnings being errors; a
page that is as before is not read again. The report in place is replaced by a finished one only, and left alone when
nothing that it is made from has changed.
"""

import errno
import filecmp
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from helpers import paths
from helpers.errors import StudyError, Unwritable
from helpers.files import remove, replace_folder, sha256, write_text
from helpers.studies.settings import digest, load_study
from pipeline.report.launch import retarget
from pipeline.results.provenance import machine
from pipeline.runs.command_line import Parser
from pipeline.runs.selections import Selection, select, with_results

BUILDERS = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinx-mathjax-offline", "jinja2", "nh3")
# the theme's preloading of fonts is an error in a page opened as a file; its script of all icons, 1.5 MB, does what its
# style sheet does with a font
NEEDLESS = re.compile(r'<link rel="preload" as="font"[^>]*>\n?|<script[^>]*/fontawesome/[^>]*></script>\n?')
FORMULAS, MATH = re.compile(r"<script[^>]*/mathjax/[^>]*></script>\n?"), re.compile(r'class="[^"]*\bmath\b')
SPARE = 2**20  # bytes: a disk with less is taken for full
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
MARK = ".made-from"  # file in the report: what it was made from, by names, sizes and times, and by content
WHOLE = "made-with"  # file in Sphinx's cache after a build without a warning: the versions that made it
PAGES = ("pyproject.toml", "_toc.yml", "_config.yml", "claims.yml", "studies/*.yml", "book/**/*")
CODE = ("src/**/*.py", "src/**/*.yml", "src/**/*.md", "src/**/*.json", "src/**/*.css")
SHOWN = ("notebooks/*.ipynb", "tables/*", "models/*.json", "arrays/*.json")  # of a run's folder


def build(selections: list[Selection], folder: Path) -> Path:
    """Build the report in ``folder/html`` and return its first page; ``folder/report.log`` has what Jupyter Book says.

    Raises StudyError if a result is missing, a notebook failed, or Jupyter Book finds anything to warn of, Unwritable
    if the folder cannot be written.
    """
    try:
        return _build(selections, folder / "stage", folder / "html")
    except shutil.Error as error:  # of several files: the first of them
        _, place, reason = error.args[0][0]
        raise Unwritable(place, OSError(0, reason)) from None
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise Unwritable(error.filename or folder, error) from None


def _build(selections: list[Selection], staged: Path, final: Path) -> Path:
    mark, versions = final / MARK, " ".join(f"{name}={version(name)}" for name in BUILDERS)
    known = mark.read_text(encoding="utf-8").splitlines() if mark.exists() else []
    sources = fingerprint(selections, versions)
    if known[:1] == [sources]:
        return final / "index.html"
    _stage(selections, staged, versions)
    content = digest([sha256(staged), sha256(Path(__file__)), versions])
    if known[1:] != [content]:
        pages = sum(path.suffix in (".md", ".ipynb") for path in staged.rglob("*"))
        print(f"building the report from {pages} pages, about {10 + pages // 5} s", flush=True)
        cache = staged.with_name("cache")
        replace_folder(_run_jupyter_book(staged, cache, final.with_name("report.log")), final)
        write_text(cache / WHOLE, versions)
    write_text(mark, f"{sources}\n{content}\n")
    return final / "index.html"


def fingerprint(selections: list[Selection], versions: str) -> str:
    """Hash of the names, sizes and times of all files that a report is made from, of its studies and of the machine.

    The content of these files is not read: a second is enough for it.
    """
    runs = [run.root for selection in selections for run in [*selection.over_seeds, *selection.runs]]
    others = [paths.published_root() / selection.study.name / "settings.yml" for selection in selections]
    others += [run / "models" / "base" / "model.safetensors" for run in runs] + [paths.power_table()]
    files = {path for pattern in PAGES + CODE for path in paths.ROOT.glob(pattern)}
    files |= {path for run in runs for pattern in SHOWN for path in run.glob(pattern)} | {*filter(None, others)}
    found = sorted((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    shown = [(selection.study.name, selection.asked, selection.seeds) for selection in selections]
    return digest([found, shown, versions, machine()])


def _stage(selections: list[Selection], staged: Path, versions: str) -> None:
    """Stage the report; a file that is as it was before keeps its time, by which Sphinx knows what to read again."""
    from pipeline.report.pages import write_generated  # here: a report that is up to date need not wait for them
    from pipeline.report.staging import stage

    before = staged.with_name(".stage.before")
    remove(before)
    if staged.exists():
        os.replace(staged, before)
    write_generated(stage(selections, staged), staged)
    for path in filter(Path.is_file, staged.rglob("*")):
        old = before / path.relative_to(staged)
        if old.is_file() and filecmp.cmp(old, path, shallow=False):
            os.utime(path, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    remove(before)
    whole = staged.with_name("cache") / WHOLE
    if not whole.exists() or whole.read_text(encoding="utf-8") != versions:
        remove(whole.parent)  # of another version, or of a build that warned: its warnings would not come again


def _run_jupyter_book(staged: Path, cache: Path, log: Path) -> Path:
    """Build the staged book; its messages go to ``log``. Raises StudyError if it fails or warns."""
    (cache / WHOLE).unlink(missing_ok=True)
    remove(cache / "_build" / "html")  # every page is written, for each shows the contents of the whole
    alive = f"from helpers.lifeline import end_with; end_with({os.getpid()})"
    program = f"import sys; {alive}; from jupyter_book.cli.main import main; sys.exit(main())"
    options = ["build", str(staged), "--path-output", str(cache), "-W", "-n", "--keep-going"]
    environment = os.environ | {"NO_COLOR": "1"}
    with open(log, "w", encoding="utf-8") as file:
        command = [sys.executable, "-c", program, *options]
        result = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if result.returncode:
        if shutil.disk_usage(staged).free < SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(staged))
        raise StudyError(
            f"the report could not be built, and the one in place is left as it is: see the warnings in {log}"
        )
    for page in (cache / "_build" / "html").rglob("*.html"):
        page.write_text(retarget(lightened(page.read_text(encoding="utf-8"))), encoding="utf-8")
    return cache / "_build" / "html"


def lightened(page: str) -> str:
    """A page without what it does not need: scripts for icons, and those for formulas where it has none."""
    page = NEEDLESS.sub("", page)
    return page if MATH.search(page) else FORMULAS.sub("", page)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("studies", nargs="+", metavar="study", help="a study in studies/; the first is the main one")
    parser.add_argument("--seeds", nargs="+", default=[], help="such as 0 1 2, or published; default: those that ran")
    parser.add_argument("--folder", type=Path, default=paths.ROOT / "_build", help="where to build; default: _build")
    given = parser.parse_args(arguments)
    try:
        studies = [load_study(name) for name in given.studies]
        seeds = " ".join(given.seeds)
        selections = [(None if seeds else with_results(study)) or select(study, seeds) for study in studies]
        first = build(selections, given.folder)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"report: {first}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
