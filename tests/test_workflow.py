"""The smoke study through the real workflow: complete, repeatable, and quick when there is nothing to do."""

import json
import shutil
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from helpers.paths import NOTEBOOKS
from helpers.studies.settings import load_study
from pipeline.results import tables
from pipeline.runs.jobs import jobs_of
from pipeline.runs.stages import PER_SEED, STAGES, of_study

pytestmark = pytest.mark.slow
STAGES_OF_SMOKE = of_study(STAGES, load_study("smoke"))
SEED_AGAIN = """
from helpers.studies.settings import load_study
from pipeline.runs.jobs import jobs_of, pending
from pipeline.runs.local import run_jobs
from pipeline.runs.parts import DIVIDED, make_part, parts_of
study = load_study("smoke")
jobs = [job for job in pending(jobs_of(study, "")) if job.seed == 0]
training = [job for job in jobs if job.notebook in ("01_models", "02_finetune")]
assert not run_jobs(dict.fromkeys(training, 1.0), 1)
for notebook in DIVIDED:
    for part in parts_of(notebook, study):
        make_part(notebook, "smoke", 0, part)
assert not run_jobs({job: 1.0 for job in jobs if job not in training}, 1)
"""
EXECUTE = (sys.executable, "-m", "pipeline.runs.execute", "notebooks/03_behaviour.ipynb")


def csv_bytes(workspace):
    """Contents of all tables of the smoke study."""
    return {p.relative_to(workspace.results): p.read_bytes() for p in sorted(workspace.results.rglob("*.csv"))}


def test_every_stage_leaves_what_it_declares(smoke):
    study = load_study("smoke")
    folder = smoke.results / "smoke"
    for name, stage in STAGES_OF_SMOKE.items():
        places = [folder / f"seed-{seed}" for seed in study.seeds] if name in PER_SEED else [folder / "all"]
        for key in stage.writes:
            for filled in {key.format(objective=objective) for objective in study.objectives}:
                for place in places:
                    end = "/model.safetensors" if filled.startswith("models/") else ".csv"
                    assert (place / f"{filled}{end}").stat().st_size, filled


def test_every_table_fits_its_schema_and_has_provenance(smoke):
    found = list((smoke.results / "smoke").rglob("*.csv"))
    assert len(found) > 20
    for path in found:
        tables.read_csv(path, path.stem.split("-")[0])
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert facts["study"] == "smoke" and facts["git_revision"] and facts["packages"]["pandas"]
        assert {"seed", "parameters", "settings", "device", "seconds", "inputs", "output", "platform"} <= set(facts)
        if "seed-" in str(path) and "training_log-base" not in str(path) and "aligned" not in path.stem:
            assert facts["inputs"], path


def test_nothing_to_do_the_second_time(smoke):
    """That no notebook and no page is written again, the guard of the shared study sees."""
    again = smoke.build()
    assert again.returncode == 0 and "0 notebooks to run" in again.stdout, again.stdout + again.stderr


def test_same_seed_gives_the_same_bytes_whole_or_in_parts(own_smoke):
    """All of a seed again, with the parts of the notebooks that a cluster divides made one by one before them."""
    before = csv_bytes(own_smoke)
    shutil.rmtree(own_smoke.results / "smoke" / "seed-0")
    again = own_smoke.run(sys.executable, "-c", SEED_AGAIN)
    assert again.returncode == 0, again.stdout + again.stderr
    after = csv_bytes(own_smoke)
    assert list(after) == list(before)
    assert [str(path) for path in after if after[path] != before[path]] == []
    assert not [path for path in (own_smoke.results / "smoke" / "seed-0" / "scratch").rglob("*") if path.is_file()]


def test_executed_notebooks_hold_no_error(smoke):
    for job in jobs_of(load_study("smoke"), ""):
        executed = smoke.results / job.output.relative_to(job.output.parents[3])
        book = nbformat.read(executed, as_version=4)
        assert not book.metadata.papermill.get("exception"), executed
        assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code" and cell.source)


def test_papermill_alone_runs_a_notebook(own_smoke, tmp_path):
    out = tmp_path / "out.ipynb"
    papermill = [sys.executable, "-m", "papermill", "notebooks/10_C0_behaviour.ipynb", str(out)]
    done = own_smoke.run(*papermill, "-p", "study", "smoke", "-p", "seeds", "0", "--no-progress-bar")
    assert done.returncode == 0, done.stderr
    assert "fig-behaviour" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["06_activation_overlap", "15_verdict"])
def test_run_all_in_jupyterlab(own_smoke, monkeypatch, name):
    """JupyterLab starts kernels in the folder of the notebook and passes no parameters: the user edits the cell."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(own_smoke.results))
    assert "<figcaption>" in run_all(name)


def run_all(name: str) -> str:
    """The text of a notebook after *Run All* with the smoke study in its cell of parameters."""
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    cell.source = cell.source.replace('"organism"', '"smoke"')
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    return nbformat.writes(book)


@pytest.mark.soak
def test_every_notebook_runs_the_other_two_ways_and_spoils_nothing(own_smoke, monkeypatch, tmp_path):
    """By plain papermill and by *Run All*; the tables are what they were, and the study has nothing to do."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(own_smoke.results))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(own_smoke.published))
    before = csv_bytes(own_smoke)
    for name in STAGES_OF_SMOKE:
        papermill = [sys.executable, "-m", "papermill", f"notebooks/{name}.ipynb", str(tmp_path / f"{name}.ipynb")]
        done = own_smoke.run(*papermill, "-p", "study", "smoke", "--no-progress-bar")
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert "execution_count" in run_all(name)
    after = csv_bytes(own_smoke)
    assert [str(path) for path in after if after[path] != before.get(path)] == [] and list(after) == list(before)
    again = own_smoke.run_study()
    assert again.returncode == 0 and "0 notebooks to run" in again.stdout, again.stdout + again.stderr


def test_unknown_parameter_is_an_error(smoke, tmp_path):
    done = smoke.run(*EXECUTE, str(tmp_path / "x" / "out.ipynb"), "-p", "study", "smoke", "-p", "sede", "0")
    assert done.returncode == 1
    assert "no parameter 'sede'" in done.stderr and "study, seed" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_model_is_one_sentence(smoke, tmp_path):
    parameters = ("-p", "study", "smoke", "-p", "seed", "97")
    done = smoke.run(*EXECUTE, str(tmp_path / "x" / "out.ipynb"), *parameters)
    assert done.returncode == 1
    assert "run notebooks/01_models.ipynb first" in done.stderr and done.stderr.count("\n") == 1


def test_a_parameter_off_the_grid_is_one_sentence(smoke, tmp_path):
    notebook = ("-m", "pipeline.runs.execute", "notebooks/13_C3_updates.ipynb", str(tmp_path / "x" / "out.ipynb"))
    done = smoke.run(sys.executable, *notebook, "-p", "study", "smoke", "-p", "eta", "0.55")
    assert done.returncode == 1
    assert "eta is 0.55; it must be one of 0.1, 0.5, 0.9" in done.stderr and done.stderr.count("\n") == 1


def test_bad_seeds_and_study_on_the_command_line(smoke):
    for options in (["--seeds", "1,1"], ["--seeds", "x"]):
        done = smoke.build(*options)
        assert done.returncode == 1 and "distinct whole numbers" in done.stderr and "Traceback" not in done.stderr


def test_snakemake_by_hand_plans_the_whole_study(smoke):
    command = (sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--forceall", "--config", "study=smoke")
    plan = smoke.run(*command)
    assert plan.returncode == 0, plan.stderr
    planned = {line.split()[1].rstrip(":") for line in plan.stdout.splitlines() if line.strip().startswith("rule ")}
    jobs = jobs_of(load_study("smoke"), "0,1")
    assert planned == {"all", *(job.name.replace("-", "_") for job in jobs)}
