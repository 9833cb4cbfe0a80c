"""Launch buttons: there with an address of the repository, gone without one, and leading to what Binder has."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from helpers.paths import ROOT
from helpers.studies.settings import load_study
from pipeline.report import build as report
from pipeline.report.launch import launching, retarget
from pipeline.results import project
from pipeline.runs.selections import Selection
from synthetic_report import write_results

ADDRESS = "https://github.com/owner/name"
CONFIG = (ROOT / "_config.yml").read_text(encoding="utf-8")
PINNED = [line for line in (ROOT / "binder/requirements.txt").read_text().splitlines() if "==" in line]
LIGHT = {line.split("==")[0].lower() for line in PINNED}
HEAVY = {"torch", "transformers", "accelerate", "peft", "datasets", "lm_eval", "tokenizers", "safetensors", "sklearn"}
HEAVY |= {"snakemake", "openai", "fastapi", "uvicorn", "playwright", "gguf", "sentencepiece", "huggingface_hub"}
BLOCKED = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import pipeline.build, pipeline.report.pages, pipeline.report.staging, pipeline.runs.execute, pipeline.runs.notebook
"""


@pytest.fixture
def with_address(monkeypatch):
    """The project once it has a repository."""
    monkeypatch.setattr(project, "_stated", lambda: {"version": "0.1.0", "urls": {"Repository": f"{ADDRESS}/"}})


def test_without_an_address_nothing_changes():
    assert project.repository() == "" and launching(CONFIG) == CONFIG
    assert not yaml.safe_load(CONFIG)["repository"]["url"]


def test_with_an_address_there_are_buttons(with_address):
    before, settings = yaml.safe_load(CONFIG), yaml.safe_load(launching(CONFIG))
    assert settings["repository"].pop("url") == ADDRESS and before["repository"].pop("url") == ""
    options = settings["sphinx"]["config"]["html_theme_options"]
    added = {"repository_url", "repository_branch", "path_to_docs", "use_repository_button", "launch_buttons"}
    assert options["repository_url"] == ADDRESS and all(options.pop(name) for name in added)
    assert settings == before


@pytest.mark.parametrize(
    ("page", "leads_to"),
    [
        ("notebooks/15_verdict", "_build/stage/notebooks/15_verdict"),
        ("studies/planted/16_power", "_build/stage/studies/planted/16_power"),
        ("notebooks/20_cost", "notebooks/20_cost"),  # which is not made of published seeds
        ("runs/organism/seed-0/02_finetune-useful", "notebooks/02_finetune"),
    ],
)
def test_a_button_leads_to_a_notebook_that_binder_has(page, leads_to):
    start = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/"
    assert retarget(f'<a href="{start}_build/stage/{page}.ipynb">') == f'<a href="{start}{leads_to}.ipynb">'
    assert leads_to.startswith("_build") or (ROOT / f"{leads_to}.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_built_pages_have_the_buttons_or_not(tmp_path, monkeypatch, address):
    """As Jupyter Book builds them: on chapters, and with an address alone."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))
    urls = {"urls": {"Repository": address}} if address else {}
    monkeypatch.setattr(project, "_stated", lambda: {"version": "0.1.0", **urls})
    selection = Selection(load_study("organism"), [0])
    write_results(selection.study, selection.seeds)
    folder = report.build([selection], tmp_path / "build").parent
    page = (folder / "notebooks" / "15_verdict.html").read_text(encoding="utf-8")
    found = re.findall(r'href="(https://mybinder[^"]*)"', page)
    expected = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/_build/stage/notebooks/15_verdict.ipynb"
    assert found == ([expected] if address else [])
    assert (f'href="{ADDRESS}"' in page) == bool(address)
    assert "mybinder" not in (folder / "method.html").read_text(encoding="utf-8")
    assert (folder / "verdicts.json").exists() and (folder / "verdicts.schema.json").exists()


def test_binder_gets_the_pinned_versions_and_nothing_heavy():
    pinned = {*(ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    pinned |= {*(ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()}
    assert {line.lower() for line in PINNED} <= {line.lower() for line in pinned} and len(PINNED) > 15
    assert not LIGHT & {name.replace("_", "-") for name in HEAVY} and "papermill" in LIGHT
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert (ROOT / "binder/runtime.txt").read_text().strip() == asked.replace(">=", "python-")
    assert os.access(ROOT / "binder/postBuild", os.X_OK)


def test_published_results_are_shown_without_what_trains():
    """The same imports as ``make book SEEDS=published``, with the packages that Binder lacks really absent."""
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
