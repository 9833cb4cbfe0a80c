"""Running one notebook: whatever stops it is one sentence."""

import subprocess
import sys

import nbformat
import pytest

from helpers.errors import StudyError
from pipeline.runs.execute import execute


def notebook_of(tmp_path, *cells: str):
    """A notebook with a cell of parameters and the given cells."""
    first = nbformat.v4.new_code_cell('study: str = "smoke"  # name', metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "book.ipynb")
    return tmp_path / "book.ipynb"


def test_a_process_that_is_killed_is_one_sentence(tmp_path):
    """As the system does when memory runs out."""
    book = notebook_of(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StudyError, match=r"^the process of book.ipynb ended .* memory ran out, so run fewer"):
        execute(book, tmp_path / "all" / "notebooks" / "out.ipynb", {})
    assert not (tmp_path / "all" / "notebooks" / "out.ipynb").exists()


def test_a_cell_that_fails_is_one_sentence_and_kept_for_reading(tmp_path):
    """The executed notebook with the error is beside where the result would be."""
    book = notebook_of(tmp_path, "1 / 0")
    with pytest.raises(StudyError, match="stopped: ZeroDivisionError"):
        execute(book, tmp_path / "all" / "notebooks" / "out.ipynb", {})
    assert (tmp_path / "all" / "notebooks" / "out.failed.ipynb").exists()


@pytest.mark.parametrize("module", ["pipeline.build", "pipeline.runs.execute", "pipeline.publish"])
def test_what_only_looks_after_notebooks_does_not_wait_for_torch(module):
    """A second ``make book``, and every command that is mistyped, would take seconds longer."""
    slow = {"torch", "transformers", "rfc3987_syntax.syntax_helpers"}
    code = f"import sys, {module}; print(*{slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
