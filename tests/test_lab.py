"""Notebooks by hand, as a user has them: in the JupyterLab of ``make lab``, and under plain papermill."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

import toy
from helpers.paths import NOTEBOOKS, ROOT
from pipeline.runs import injected

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("as", "if", "in", "is"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(NAMES.filter(str.isidentifier), VALUES, max_size=4), st.lists(st.text(max_size=20), max_size=3))
def test_the_names_that_papermill_gives_are_found(parameters, others):
    """As papermill itself writes them, between any other cells."""
    try:
        cell = PythonTranslator.codify(parameters)
        compile(cell, "cell", "exec")
    except SyntaxError:  # of a name that Python keeps to itself
        return
    others = [f"#{text}" for text in others]
    assert injected.given([*others, cell, *others]) == list(parameters)
    assert injected.given(others) == []


def test_the_cell_that_ran_last_counts():
    """In JupyterLab a wrong name can be corrected and the cell run again; one that is no Python stopped by itself."""
    cells = [f"{injected.BEGINNING}{text}" for text in ("sede = 1\n", "seeds = '1'\n")]
    assert injected.given(cells) == ["seeds"]
    assert injected.given([f"{injected.BEGINNING}sede = = 1"]) == []


@pytest.mark.parametrize(("name", "hint"), [("sede", " (did you mean 'seeds'?)"), ("colour", "")])
def test_the_sentence_names_what_is_meant(name, hint):
    said = str(injected.unknown("notebook 16_power", name, ["study", "seeds"]))
    assert said == f"notebook 16_power has no parameter {name!r}{hint}: its parameters are study, seeds"


@pytest.mark.parametrize(("asked", "expected"), [("", "1"), ("3", "3")])
def test_by_hand_as_many_threads_compute_as_in_a_batch(tmp_path, asked, expected):
    """Else a plain papermill would leave other last digits in the results, and all that reads them would run again."""
    code = "import torch; from pipeline.runs.notebook import begin; begin('03_behaviour', study='smoke', seed=0)"
    known = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    known |= {"SUBSPACES_RESULTS": str(tmp_path), "SUBSPACES_THREADS": asked, "PYTHONPATH": str(ROOT / "src")}
    code += "; import os; print(torch.get_num_threads(), os.environ['OPENBLAS_NUM_THREADS'])"
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True)
    assert done.stdout.split() == [expected, expected], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("notebook", "name"), [("10_C0_behaviour", "seed"), ("03_behaviour", "sede")])
def test_plain_papermill_refuses_an_unknown_parameter_and_writes_nothing(tmp_path, notebook, name):
    """The notebook stops at its first cell of code with one sentence."""
    environment = {**os.environ, "SUBSPACES_RESULTS": str(tmp_path / "results"), "PYTHONPATH": str(ROOT / "src")}
    papermill = [sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{notebook}.ipynb"), str(tmp_path / "out.ipynb")]
    command = [*papermill, "-p", name, "1", "--no-progress-bar"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("SettingsError: ")]
    assert done.returncode and len(errors) == 1, done.stderr
    assert f"notebook {notebook} has no parameter {name!r} (did you mean" in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb"}


@pytest.mark.slow
def test_published_tables_can_be_had_by_hand(tmp_path):
    """As the comment of the parameter says, and the sentence on results that are not there."""
    environment = {**os.environ, "SUBSPACES_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    papermill = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "16_power.ipynb"), str(tmp_path / "out.ipynb")]
    options = {"env": environment, "capture_output": True, "text": True}
    lacking = subprocess.run([*papermill, "--no-progress-bar"], **options)
    assert "or read the published tables with `-p seeds published`" in lacking.stderr
    assert subprocess.run([*papermill, "-p", "seeds", "published", "--no-progress-bar"], **options).returncode == 0
    made = tmp_path / "planted" / "by-hand-published" / "tables" / "power.csv"
    assert made.exists() and str(made.parent) in (tmp_path / "out.ipynb").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Lab:
    """The server that ``make lab`` starts in a clone."""

    clone: Path
    address: str
    token: str

    def ask(self, path: str, body: dict | None = None) -> bytes:
        """The answer to a request, with a ``body`` one that saves."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method="PUT" if data else "GET")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def open(self, path: str) -> dict:
        """A notebook as the lab gets it."""
        return json.loads(self.ask(f"api/contents/{path}"))["content"]

    def save(self, path: str, content: dict) -> None:
        """Save a notebook as the lab does."""
        self.ask(f"api/contents/{path}", {"type": "notebook", "format": "json", "content": content})


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """``make lab`` in a clone, without a browser."""
    clone, private = tmp_path_factory.mktemp("lab") / "clone, été", tmp_path_factory.mktemp("jupyter")
    toy.copy(clone, ("Makefile", "src", "notebooks"))
    settings = {"ServerApp": {"open_browser": False, "allow_root": True, "port": 0}}
    (private / "jupyter_server_config.json").write_text(json.dumps(settings), encoding="utf-8")
    folders = {f"JUPYTER_{name}_DIR": str(private) for name in ("CONFIG", "RUNTIME", "DATA")}
    environment = {**os.environ, **folders, "PYTHONPATH": str(clone / "src"), "JUPYTER_TOKEN": "abc"}
    command = ["make", "READY=", f"RUN={sys.executable} -m", "lab"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True, "text": True}
    server = subprocess.Popen(command, cwd=clone, env=environment, **options)
    try:
        until = time.monotonic() + 120
        while not (found := list(private.glob("jpserver-*.json"))) and time.monotonic() < until:
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.2)
        time.sleep(0.5)
        yield Lab(clone, json.loads(found[0].read_text())["url"], "abc")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def run_in_lab(notebook: dict) -> dict:
    """A notebook with all that JupyterLab and a kernel leave in it when its cells run."""
    run = copy.deepcopy(notebook)
    code = [cell for cell in run["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        cell["execution_count"] = number
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "said"}]
        cell["metadata"] |= {"trusted": True, "execution": {"iopub.status.busy": "2026-11-26T08:00:00Z"}}
    run["metadata"]["language_info"] |= {"version": "3.12.1", "file_extension": ".py", "mimetype": "text/x-python"}
    run["metadata"]["kernelspec"]["display_name"] = "Another"
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_what_the_lab_saves_is_the_notebook_as_it_was(lab, name):
    """To the byte; the outputs are beside it, in a notebook whose links lead to the same places."""
    file, kept = (lab.clone / folder / f"{name}.ipynb" for folder in ("notebooks", "lab"))
    before, opened = (NOTEBOOKS / f"{name}.ipynb").read_bytes(), lab.open(f"notebooks/{name}.ipynb")
    lab.save(f"notebooks/{name}.ipynb", opened)
    assert file.read_bytes() == before and not kept.exists()
    lab.save(f"notebooks/{name}.ipynb", run_in_lab(opened))
    assert file.read_bytes() == before
    cells = nbformat.read(kept, as_version=4).cells
    assert all(cell.outputs for cell in cells if cell.cell_type == "code")
    lab.save(f"notebooks/{name}.ipynb", opened)  # as after a reload: what was seen stays
    assert nbformat.read(kept, as_version=4).cells == cells


@pytest.mark.slow
def test_what_is_written_in_the_lab_is_saved(lab):
    """Text and code of a committed notebook; of any other notebook everything."""
    opened = lab.open("notebooks/16_power.ipynb")
    changed = copy.deepcopy(opened)
    changed["cells"][0]["source"] += "\nA sentence."
    lab.save("notebooks/16_power.ipynb", changed)
    saved = nbformat.read(lab.clone / "notebooks" / "16_power.ipynb", as_version=4)
    assert saved.cells[0].source.endswith("\nA sentence.")
    lab.save("notebooks/16_power.ipynb", opened)
    lab.save("mine.ipynb", run_in_lab(opened))
    own = nbformat.read(lab.clone / "mine.ipynb", as_version=4)
    assert all(cell.outputs for cell in own.cells if cell.cell_type == "code")


@pytest.mark.slow
def test_links_to_tables_lead_somewhere_in_the_lab(lab):
    """A figure links to ``../results/…``, seen from its notebook: that is below the folder that the lab opens."""
    table = lab.clone / "results" / "organism" / "all" / "tables" / "x.csv"
    table.parent.mkdir(parents=True)
    table.write_text("a\n1\n", encoding="utf-8")
    assert lab.ask("files/results/organism/all/tables/x.csv") == b"a\n1\n"
    shown = re.search(r'folder = f"(\.\./results/)', (ROOT / "src/helpers/figures/__init__.py").read_text())
    assert shown and (lab.clone / "notebooks" / shown[1]).resolve() == (lab.clone / "results").resolve()
