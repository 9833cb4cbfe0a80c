"""What several tests share: a tiny model with its tokenizer, and the smoke study run once by the real workflow."""

import gc
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

import browser as browsers
import toy
from helpers.methods.context import Context
from helpers.models.language import Language
from helpers.models.organism import build_model, build_tokenizer
from helpers.paths import ROOT
from helpers.studies.settings import load_study
from helpers.weights.checkpoints import Checkpoint
from synthetic import moved

hypothesis.settings.register_profile("project", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("project")

for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "STUDY", "SEEDS", "CORES", "PROFILE", "PRICE", "SUBSPACES_THREADS"):
    os.environ.pop(name, None)  # `make test` exports them; the makes that tests start are a user's, not its children

GROUPS = {  # files whose tests share a fixture that takes long to make: each group is run by one process
    "paper_studies": "paper", "slurm": "toy", "book": "report", "publish": "report", "staging": "report",
    "kills": "toy", "reruns": "toy", "faults_of_runs": "toy", "workflow": "smoke", "parts": "smoke",
    "own_models": "own",
}  # fmt: skip
FIRST = ("toy", "paper", "report", "smoke", "own")  # begun first


def group_of(name: str) -> str:
    """The group of a test, by its number or its file's name: those of a group share fixtures, and one process."""
    stem = Path(name.split("::")[0]).stem.removeprefix("test_")
    return GROUPS.get(stem, stem)


def pytest_collection_modifyitems(items):
    """The tests of a group one after the other, the groups that take longest first."""
    items.sort(key=lambda item: (*FIRST, group := group_of(item.nodeid)).index(group))


def pytest_collection_finish():
    """What was imported stays: every later search for garbage, of which a training makes two, goes past it."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole groups to the processes of ``-n``; xdist's own marks for that are lost on the pytest that is used here."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


CANARY_KEY = "sk-canary-0ddba11c0ffee"  # in the environment of every study that is run; in nothing that it writes


@pytest.fixture(scope="session")
def study():
    """Settings of the smoke study."""
    return load_study("smoke")


@pytest.fixture(scope="session")
def tokenizer(study):
    """The organism's tokenizer."""
    return build_tokenizer(Language(study.language), study.training.optimiser.max_length)


@pytest.fixture
def model(study, tokenizer):
    """An untrained organism, the same for every test."""
    torch.manual_seed(0)
    return build_model(study.model, tokenizer).eval()


@pytest.fixture
def context(study, model, tokenizer, tmp_path):
    """What methods may ask for, of small models that differ by random updates; the aligned one is ``model``."""
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    for i, name in enumerate(study.models):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        if name != "aligned":
            save_file(moved(tensors, i), tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    return Context(study, 0, {name: Checkpoint(tmp_path / name) for name in study.models})


@pytest.fixture(scope="session")
def chromium():
    """A headless browser, one for all tests; where none can be had the tests are skipped, under CI they fail."""
    path = browsers.find()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(browsers.MISSING)
    with browsers.launched(path) as browser:
        yield browser


@dataclass(frozen=True)
class Workspace:
    """A folder for results and report apart from the user's own."""

    folder: Path

    @property
    def results(self) -> Path:
        """Where results go."""
        return self.folder / "results"

    @property
    def published(self) -> Path:
        """Where published results are; none unless a test puts them there."""
        return self.folder / "published"

    @property
    def html(self) -> Path:
        """Where the report goes."""
        return self.folder / "build" / "html"

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess:
        """Run a command as a user would from the clone, with results in this workspace."""
        folders = {"SUBSPACES_RESULTS": str(self.results), "SUBSPACES_PUBLISHED": str(self.published)}
        environment = {**os.environ, **folders, "OPENAI_API_KEY": CANARY_KEY, "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)

    def copied_to(self, folder: Path) -> "Workspace":
        """The same results and report in another folder, with their times."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".plan*"))  # which runs beside it renew
        return Workspace(folder)

    def run_study(self, seeds: str = "", profile: str = "local", **variables: str) -> subprocess.CompletedProcess:
        """Run the notebooks of the smoke study that are not up to date, one at a time, without the report."""
        return self.run(sys.executable, "-c", toy.RUN, "smoke", seeds, "1", profile, **variables)

    def build(self, *options: str) -> subprocess.CompletedProcess:
        """Run the smoke study and build its report, as ``make book STUDY=smoke`` does."""
        report = ["--report", str(self.folder / "build")]
        return self.run(sys.executable, "-m", "pipeline.build", "smoke", *report, *options)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Workspace:
    """The smoke study, run from the weights to the report by papermill and Jupyter Book: only to be read."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # of all processes that test side by side
    workspace, made = Workspace(base / "smoke study, été"), base / "smoke study made"  # letters beyond ASCII on purpose
    with FileLock(base / "smoke study.lock"):  # the first process that needs it makes it for all
        if not made.exists():
            done = workspace.build()
            assert done.returncode == 0, done.stdout + done.stderr
            made.touch()
    return workspace


@pytest.fixture(scope="session")
def toy_study(tmp_path_factory) -> toy.Toy:
    """The toy study after a run: only to be read."""
    made = toy.make(tmp_path_factory.mktemp("toy") / "clone, été")
    done = made.study()
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture
def own_toy(toy_study, tmp_path) -> toy.Toy:
    """A copy of the toy study that a test may change."""
    return toy_study.copied_to(tmp_path / "copy, été")


@pytest.fixture
def own_smoke(smoke, tmp_path) -> Workspace:
    """A copy of the smoke study that a test may change."""
    return smoke.copied_to(tmp_path / "copy, été")


@pytest.fixture(autouse=True)
def the_smoke_study_is_only_read(request):
    """What one test writes to the shared study, another would take for a finding."""
    if "smoke" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("smoke").folder
    before = _written(folder)
    yield
    assert {path.relative_to(folder) for path, _ in before ^ _written(folder)} == set()


def _written(folder: Path) -> set[tuple[Path, int]]:
    """Every result and page, with the time of its writing; what each run puts down anew is none of these."""
    ends = (".ipynb", ".csv", ".json", ".npz", ".safetensors", ".html")
    found = (path for path in folder.rglob("*") if path.suffix in ends and path.name != ".plan.json")
    return {(path, path.stat().st_mtime_ns) for path in found if not {".snakemake", "stage"} & set(path.parts)}
