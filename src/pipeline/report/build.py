"""The report: ``python -m pipeline.report.build organism`` builds ``_build/html`` from the results of one or more studies.

Pages and executed notebooks are staged in ``_build/stage`` and built there by Jupyter Book, warnings being errors. The
report in place is replaced by a finished one only, and left alone when nothing it shows has changed.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from helpers import paths
from helpers.errors import StudyError, Unwritable
from helpers.files import replace_folder, sha256
from helpers.studies.settings import load_study
from pipeline.report.pages import write_generated
from pipeline.report.staging import stage
from pipeline.runs.command_line import Parser
from pipeline.runs.selections import Selection, select, with_results

BUILDERS = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinx-mathjax-offline")
FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>\n?')
SPARE = 2**20  # bytes: a disk with less is taken for full
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
MARK = ".made-from"  # file in the report: the hash of all that it was made from


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
    write_generated(stage(selections, staged), staged)
    made_from = " ".join([sha256(staged), sha256(Path(__file__)), *(f"{name}={version(name)}" for name in BUILDERS)])
    mark = final / MARK
    if not (mark.exists() and mark.read_text(encoding="utf-8") == made_from):
        pages = sum(path.suffix in (".md", ".ipynb") for path in staged.rglob("*"))
        print(f"building the report from {pages} pages, about {10 + pages // 4} s", flush=True)
        _run_jupyter_book(staged, final.with_name("report.log"))
        built = staged / "_build" / "html"
        _drop_font_preloads(built)
        (built / MARK).write_text(made_from, encoding="utf-8")
        replace_folder(built, final)
        shutil.rmtree(staged / "_build")
    return final / "index.html"


def _run_jupyter_book(staged: Path, log: Path) -> None:
    """Build the staged book; its messages go to ``log``. Raises StudyError if it fails or warns."""
    alive = f"from helpers.lifeline import end_with; end_with({os.getpid()})"
    program = f"import sys; {alive}; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "build", str(staged), "-W", "-n", "--keep-going"]
    environment = os.environ | {"NO_COLOR": "1"}
    with open(log, "w", encoding="utf-8") as file:
        result = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if result.returncode:
        if shutil.disk_usage(staged).free < SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(staged))
        raise StudyError(
            f"the report could not be built, and the one in place is left as it is: see the warnings in {log}"
        )


def _drop_font_preloads(html: Path) -> None:
    """Take out the theme's preloading of fonts, an error in a page opened as a file; a script draws its icons."""
    for page in html.rglob("*.html"):
        page.write_text(FONT_PRELOAD.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


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
