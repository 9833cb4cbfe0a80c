"""The committed notebooks: clean, typed parameters, no functions, a page of prose each."""

import ast
import subprocess
import sys

import nbformat
import papermill
import pytest

from helpers.paths import NOTEBOOKS
from pipeline.runs.stages import CHAPTERS, PER_SEED, STAGES

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
BY_RULE = ("22_judge_validation", "31_card")  # over no seeds, with a figure that says what is drawn in it


@pytest.fixture(params=NAMES)
def notebook(request):
    """A committed notebook."""
    return nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def committed(name: str) -> str:
    """Text of a notebook as git has it: its file may hold outputs of whoever looked at it; the file outside a clone."""
    command = ["git", "show", f":./{name}.ipynb"]
    done = subprocess.run(command, cwd=NOTEBOOKS, capture_output=True, text=True, encoding="utf-8")
    return (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8") if done.returncode else done.stdout


def code(notebook):
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_workflow_runs_every_notebook():
    assert set(NAMES) == set(STAGES)


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_and_no_counts(name):
    """Nor anything that JupyterLab would write otherwise, so that opening and saving a notebook changes nothing."""
    text = committed(name)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
    assert text == nbformat.writes(notebook) + "\n"


def test_one_cell_of_parameters_and_no_functions(notebook):
    tagged = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.AnnAssign), "parameters are typed"
    assert all("#" in line for line in tagged[0].source.splitlines()), "parameters are explained"
    trees = [node for cell in code(notebook) for node in ast.walk(ast.parse(cell.source))]
    assert not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda) for node in trees
    )


@pytest.mark.parametrize("name", NAMES)
def test_parameters_include_study_and_seed(name):
    known = papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb"))
    expected = {"study", "seed"} if name in PER_SEED else {"study", "seeds"} if name in CHAPTERS else {"study"}
    assert expected <= set(known)
    assert all(parameter["help"] and parameter["inferred_type_name"] != "None" for parameter in known.values())


def test_reads_like_a_page(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for heading in ("## Overview", "## Parameters", "## Result", "## What it means", "## Limits"):
        assert heading in prose
    assert prose.startswith("# ") and len(prose.split()) > 200


@pytest.mark.parametrize("name", sorted(CHAPTERS))
def test_figures_of_a_chapter_link_to_tables_that_it_writes(name):
    cells = code(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
    calls = [node for cell in cells for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    shows = [call for call in calls if getattr(call.func, "id", "") == "show"]
    linked = {argument.value for call in shows for argument in call.args[4:] if isinstance(argument, ast.Constant)}
    assert {f"tables/{table}" for table in linked} <= set(CHAPTERS[name].writes)


@pytest.mark.parametrize("name", sorted({*NAMES} - {*PER_SEED, *BY_RULE}))
def test_figures_over_seeds_say_what_is_found_in_them(name):
    cells = code(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
    calls = [node for cell in cells for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    shows = [call for call in calls if getattr(call.func, "id", "") == "show"]
    assert all("takeaway" in {keyword.arg for keyword in call.keywords} for call in shows)


def test_no_caption_says_over_one_seeds(notebook):
    lines = [line for cell in code(notebook) for line in cell.source.splitlines() if "{len(run.seeds)} seeds" in line]
    assert [line for line in lines if "one seed" not in line] == []


def test_the_chapters_load_neither_torch_nor_transformers():
    """What reads tables and draws does not wait for the libraries that make models."""
    chapters = [name for name in NAMES if "10" <= name[:2] < "22"]
    cells = [cell for name in chapters for cell in code(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))]
    nodes = [node for cell in cells for node in ast.parse(cell.source).body]
    lines = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    heavy = "print({'torch', 'transformers', 'scipy.stats', 'seaborn', 'sklearn'} & set(sys.modules))"
    script = "\n".join(["import sys", *lines, heavy])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(chapters) == 12 and done.stdout.strip() == "set()"
