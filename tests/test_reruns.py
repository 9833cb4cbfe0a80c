"""A change reruns what it changes: for each kind of change, the list of notebooks that run again."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import toy
from helpers.errors import StudyError
from helpers.paths import NOTEBOOKS, published_root
from helpers.studies.settings import load_study
from pipeline.runs import code, execute
from pipeline.runs.jobs import Job, jobs_of, pending
from pipeline.runs.selections import with_results
from pipeline.runs.stages import PER_SEED, STAGES

PRINTS = """
import json
from helpers.studies.settings import load_study
from pipeline.runs.jobs import Job
from pipeline.runs.stages import STAGES, of_study
of = {}
for name in ("own-models", "smollm2-135m", "organism", "conditions", "planted", "organism-bench", "organism-released"):
    study = load_study(name)
    of |= {stage: Job(stage, study, 0, "useful", "0,1").made_from for stage in of_study(STAGES, study)}
print(json.dumps(of))
"""
EVERY = set(STAGES)
DRAW = {name for name in STAGES if name not in PER_SEED} - {"22_judge_validation", "30_own_models"}  # these compute
DRAW -= {"31_card"}  # which `make card` draws
LEDGER = {"15_verdict", "16_power", "17_sensitivity", "23_conditions", "29_released"}


@dataclass(frozen=True)
class Change:
    """A change of one file: a text that is there, and what takes its place."""

    name: str
    file: str
    text: str
    other: str
    reruns: set[str]


CHANGES = [
    Change("a colour", "src/helpers/figures/__init__.py", '"#0072B2"', '"#0172B2"', DRAW),
    Change("a comment", "src/helpers/training/fit.py", "\nimport math\n", "\nimport math  # a comment\n", set()),
    Change("a docstring", "src/helpers/subspaces.py", '"""', '"""Another docstring. ', set()),
    Change("a page", "book/method.md", "#", "# Another", set()),
    Change("a sentence of the ledger", "claims.yml", "Harmful fine-tuning raises harm", "It raises harm", LEDGER),
    Change("a sentence on the bench's rule", "claims.yml", "ten seeds instead of five", "more seeds", {"25_methods"}),
    Change("the bench's margin", "claims.yml", "bench:\n  margin: 0.1", "bench:\n  margin: 0.2", {"25_methods"}),
    Change("what the bench keeps", "claims.yml", "  kept: 0.8", "  kept: 0.7", {"24_bench", "25_methods"}),
    Change("what a statistic is", "claims.yml", "The judge's mean score", "A judge's mean score", LEDGER),
    Change("a margin", "claims.yml", "margin: 0.05", "margin: 0.06", LEDGER),
    Change("the report", "src/pipeline/report/build.py", "import os\n", "import os\n\nANOTHER = 1\n", set()),
    Change("a sentence of an error", "src/helpers/errors.py", "cannot be written", "can not be written", set()),
    Change(
        "a labelled subspace",
        "src/helpers/methods/residual_stream.py",
        "torch.linalg.qr(torch.stack(directions, 1))",
        "torch.linalg.qr(torch.stack(directions, -1))",
        {"34_labelled"},
    ),
    Change(
        "a column",
        "src/pipeline/results/schemas.yml",
        "  theory_summary:\n",
        "  theory_summary:\n    another: a column that was not there\n",
        {"18_theory_figures"},
    ),
    Change(
        "a setting",
        "studies/planted.yml",
        "energy_fractions: [0.01, ",
        "energy_fractions: [0.02, ",
        {"04_update_overlap", "08_graded", "17_sensitivity"},
    ),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What results are made from: code, notebooks, settings, ledger."""
    folder = tmp_path_factory.mktemp("clone")
    toy.copy(folder, (*toy.COPIED, "notebooks", "book"))
    return folder


@pytest.fixture(scope="module")
def before(clone) -> dict[str, str]:
    """What each notebook's results are made from without a change."""
    return made_from(clone)


def made_from(clone: Path) -> dict[str, str]:
    """What each notebook's results are made from, as a process in the clone says."""
    environment = {**os.environ, "PYTHONPATH": str(clone / "src"), "SUBSPACES_RESULTS": str(clone / "results")}
    done = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True, text=True, cwd=clone)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def reruns(clone: Path, before: dict[str, str], changes: list[Change]) -> set[str]:
    """The notebooks whose results are made from something else after some changes, which are then taken back."""
    texts = {change.file: (clone / change.file).read_text(encoding="utf-8") for change in changes}
    try:
        for change in changes:
            assert change.text in texts[change.file] and change.text != change.other, change.name
            (clone / change.file).write_text(texts[change.file].replace(change.text, change.other, 1), encoding="utf-8")
        after = made_from(clone)
    finally:
        for file, text in texts.items():
            (clone / file).write_text(text, encoding="utf-8")
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("change", [one for one in CHANGES if one.reruns], ids=lambda change: change.name)
def test_a_change_reruns_just_what_depends_on_it(clone, before, change):
    assert reruns(clone, before, [change]) == change.reruns


def test_the_style_of_activations_reruns_what_takes_subspaces_or_edits_from_them():
    """A bench does, and a grid that has such a subspace; the paper's own, of updates, does not."""

    def is_made_again(notebook: str, name: str, **subspaces) -> bool:
        study = load_study(name)
        study = study.model_copy(update={"projection": study.projection.model_copy(update=subspaces)})
        other = study.activation_overlap.model_copy(update={"style": "alpaca"})
        jobs = [Job(notebook, one, 0) for one in (study, study.model_copy(update={"activation_overlap": other}))]
        return jobs[0].made_from != jobs[1].made_from

    assert is_made_again("24_bench", "organism-bench") and not is_made_again("05_projection", "organism")
    assert is_made_again("05_projection", "organism", subspaces=["alignment", "probe"])
    assert is_made_again("04_update_overlap", "organism", edits=["refusal-added"])
    assert not is_made_again("03_behaviour", "organism", subspaces=["alignment", "probe"])


def test_changes_that_decide_no_number_rerun_nothing(clone, before):
    """All at once, each of a file of its own: where this fails, try them one by one."""
    idle = [change for change in CHANGES if not change.reruns]
    assert len({change.file for change in idle}) == len(idle) > 4
    assert reruns(clone, before, idle) == set()


def test_nothing_reruns_for_having_been_looked_at(clone, before):
    """What an editor saves with a notebook: outputs, counts, times, the kernel's name and version, ids of cells."""
    texts = {path: path.read_text(encoding="utf-8") for path in (clone / "notebooks").glob("*.ipynb")}
    try:
        for path, text in texts.items():
            notebook = json.loads(text)
            notebook["metadata"] = {"kernelspec": {"name": "other", "display_name": "Other"}, "widgets": {}}
            for number, cell in enumerate(notebook["cells"]):
                cell |= {"id": f"seen-{number}", "metadata": cell["metadata"] | {"scrolled": True, "execution": {}}}
                if cell["cell_type"] == "code":
                    cell |= {"execution_count": number, "outputs": [{"output_type": "stream", "text": "seen"}]}
            path.write_text(json.dumps(notebook), encoding="utf-8")
        assert made_from(clone) == before
    finally:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")


def test_ipython_words_in_a_notebook_are_read_and_what_is_no_python_is_one_sentence(tmp_path):
    """As somebody who tries things out in JupyterLab may write them."""
    notebook = json.loads((NOTEBOOKS / "16_power.ipynb").read_text(encoding="utf-8"))
    parsed = []
    for line in ("%time 1 + 1", "%time 1 + 2", "1 +"):
        notebook["cells"][-2] = {"cell_type": "code", "metadata": {}, "source": [line]}
        path = tmp_path / f"{len(parsed)}.ipynb"
        path.write_text(json.dumps(notebook), encoding="utf-8")
        if line == "1 +":
            with pytest.raises(StudyError, match=r"^notebooks/2.ipynb has code that is no Python .*: correct it$"):
                code._read(path)
        parsed.append(code._read(path)[1] if line != "1 +" else "")
    assert parsed[0] != parsed[1] and "run_line_magic" in parsed[0]


@pytest.mark.slow
def test_nothing_reruns_for_having_been_copied_touched_or_moved(own_toy):
    for path in own_toy.clone.rglob("*"):
        os.utime(path, (1e9, 1e9))
    shutil.rmtree(own_toy.clone / ".snakemake", ignore_errors=True)
    again = own_toy.study()
    assert again.returncode == 0 and " 0 notebooks to run" in again.stdout, again.stdout + again.stderr


@pytest.mark.slow
def test_what_was_made_from_another_result_is_made_again(own_toy):
    """A model of another training, with its record: only what reads it runs, and what reads that."""
    notebook = own_toy.clone / "notebooks" / "02_finetune.ipynb"
    text = notebook.read_text(encoding="utf-8")
    notebook.write_text(text.replace("+ (run.seed or 0)", "+ 1 + (run.seed or 0)"), encoding="utf-8")
    before = own_toy.tables()
    words = ["-m", "pipeline.runs.execute", "notebooks/02_finetune.ipynb", str(own_toy.results / "out.ipynb")]
    given = ["-p", "study", "smoke", "-p", "seed", "0", "-p", "objective", "useful"]
    assert own_toy.run(sys.executable, *words, *given).returncode == 0
    notebook.write_text(text, encoding="utf-8")  # by hand, with code that is no longer there
    again = own_toy.study()
    assert again.returncode == 0, again.stderr
    assert "smoke/seed-0 02_finetune-useful: " in again.stdout and "02_finetune-harmful" not in again.stdout
    assert "smoke/seed-1" not in again.stdout and "01_models" not in again.stdout
    assert own_toy.tables() == before


@pytest.mark.slow
def test_a_chapter_by_hand_with_other_seeds_writes_apart_and_says_where(own_toy):
    before = own_toy.tables()
    out = str(own_toy.clone / "out.ipynb")
    papermill = (sys.executable, "-m", "papermill", "notebooks/10_C0_behaviour.ipynb", out, "--no-progress-bar")
    done = own_toy.run(*papermill, "-p", "study", "smoke", "-p", "seeds", "1")
    assert done.returncode == 0, done.stderr
    apart = own_toy.results / "smoke" / "by-hand-1" / "tables" / "behaviour_summary.csv"
    assert apart.exists() and str(apart.parent) in Path(out).read_text(encoding="utf-8")
    after = own_toy.tables()
    assert {path: after[path] for path in before} == before
    again = own_toy.study()
    assert again.returncode == 0 and " 0 notebooks to run" in again.stdout, again.stdout + again.stderr


def test_a_chapter_of_published_tables_is_up_to_date_once_it_has_run(tmp_path, monkeypatch):
    """Also one that is told no seeds, as that on the judge, which reads the published tables over all seeds."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    study = load_study("smollm2-135m")
    jobs = jobs_of(study, "published")
    job = next(job for job in jobs if job.notebook == "19_judge")
    job.output.parent.mkdir(parents=True)
    job.output.write_text("{}", encoding="utf-8")
    assert "19_judge" in {one.notebook for one in pending(jobs)}
    execute._note(NOTEBOOKS / "19_judge.ipynb", job.output, job.parameters, job.asked, 1.0)
    assert "19_judge" not in {one.notebook for one in pending(jobs)}


@pytest.mark.parametrize("name", sorted(path.name for path in published_root().iterdir()))
def test_a_run_is_recorded_with_the_settings_that_its_report_asks_with(name, tmp_path, monkeypatch):
    """Of published results those they were made with, whatever a study says today; else each report reruns them."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    for job in with_results(load_study(name)).jobs:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        execute._note(NOTEBOOKS / f"{job.notebook}.ipynb", job.output, job.parameters, job.asked, 1.0)
        record = json.loads(job.output.with_suffix(".json").read_text(encoding="utf-8"))
        assert record["made_from"] == job.made_from, job.notebook
