"""Faults of a whole run, on copies of the toy study: a killed notebook, Ctrl-C, two runs, a read-only folder.

Each run is the real one, stopped by a real signal or a real mount. What a user then sees is held against
``book/faults.md``.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fault_table import assert_one_sentence, assert_promised
from helpers.files import UNFINISHED
from mounts import mounted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes as Linux lists them"),
]
PATIENCE = 300  # seconds
NOTEBOOKS = Path("smoke", "all", "notebooks")
SHORT, LONG = "13_C3_updates", "15_verdict"  # nothing depends on them


WITH_A_PROFILE = """
import sys
from pathlib import Path
from helpers import paths
paths.PROFILES = Path(sys.argv[1])
from helpers.studies.settings import load_study
from pipeline.build import main, only_run, run
from pipeline.runs.profiles import load
from pipeline.runs.selections import select
from helpers.errors import StudyError
try:
    with only_run("smoke"):
        run([select(load_study("smoke"))], 1, load("mine"))
except StudyError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture
def ran(own_toy):
    """A copy of the finished toy study that lacks one notebook."""
    (own_toy.results / NOTEBOOKS / f"{SHORT}.ipynb").unlink()
    return own_toy


def started(study, *command: str, **variables: str) -> subprocess.Popen:
    """A command in the clone, in a process group of its own as a terminal gives it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options = {"cwd": study.clone, "env": study.environment | variables, "start_new_session": True}
    return subprocess.Popen([sys.executable, *command], **options, **pipes)


def build(study) -> subprocess.Popen:
    """``make book`` with slow notebooks, which stops, or is stopped, before the report."""
    command = ["-m", "pipeline.build", "smoke", "--cores", "1", "--report", str(study.clone / "_build")]
    return started(study, *command, TOY_SLEEP="20")


def kernel_of(process: subprocess.Popen) -> int:
    """The process of the notebook that a command is running, as soon as there is one: it has a session of its own."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        waiting = [process.pid]
        while waiting:
            number = waiting.pop()
            try:
                children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
                threads = [f"/proc/{number}/task/{thread}/children" for thread in os.listdir(f"/proc/{number}/task")]
                children += [child for thread in threads for child in Path(thread).read_text().split()]
                if number != process.pid and os.getsid(number) == number:
                    return number
            except OSError:  # it has ended
                continue
            waiting += map(int, set(children))
        time.sleep(0.1)
    raise TimeoutError("no notebook was started")


def assert_goes_on(workspace) -> None:
    """Nothing half-written is left, and the next run makes just what is missing."""
    left = [path for path in workspace.results.rglob("*") if UNFINISHED.fullmatch(path.name)]
    assert not left
    done = workspace.study()
    assert done.returncode == 0 and "1 notebooks to run" in done.stdout, done.stdout + done.stderr
    assert (workspace.results / NOTEBOOKS / f"{SHORT}.ipynb").exists()


def test_the_process_of_a_notebook_dies(ran):
    process = build(ran)
    os.kill(kernel_of(process), signal.SIGKILL)
    stderr = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert_promised("the process of a notebook dies", stderr)
    assert "what is done is kept, and the same command continues" in stderr and "Traceback" not in stderr
    assert len(stderr.splitlines()) == 2
    assert_goes_on(ran)


def test_ctrl_c_during_a_run_and_a_second_run_beside_it(ran):
    (ran.results / NOTEBOOKS / f"{LONG}.ipynb").unlink()
    first = build(ran)
    kernel = kernel_of(first)
    second = build(ran)
    assert_one_sentence("two runs of a study at once", second.communicate(timeout=PATIENCE)[1])
    assert second.returncode == 1 and first.poll() is None
    os.killpg(first.pid, signal.SIGINT)
    stderr = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode == 130
    assert_one_sentence("Ctrl-C during a run", stderr)
    _wait_for_end(kernel)
    assert not [path for path in ran.results.rglob("*") if UNFINISHED.fullmatch(path.name)]


def _wait_for_end(process: int) -> None:
    end = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < end, "the notebook's process computes on"
        time.sleep(0.1)


def test_ctrl_c_during_a_training(ran):
    folder = ran.results / "smoke" / "seed-0"
    before = {
        path: path.read_bytes() for path in folder.glob("*/*harmful*") if path.is_file() and path.suffix != ".log"
    }
    output = folder / "notebooks" / "02_finetune-harmful.ipynb"
    words = ("notebooks/02_finetune.ipynb", str(output), "-p", "study", "smoke", "-p", "seed", "0")
    words = ("-m", "pipeline.runs.execute", *words, "-p", "objective", "harmful")
    process = started(ran, *words, TOY_SLEEP="20")
    kernel = kernel_of(process)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    assert_one_sentence("Ctrl-C during one notebook", process.communicate(timeout=PATIENCE)[1])
    assert process.returncode == 130
    _wait_for_end(kernel)
    assert {path: path.read_bytes() for path in before} == before
    assert_goes_on(ran)


def test_results_that_cannot_be_written(ran, tmp_path):
    with mounted(ran.results, "--bind", str(ran.results)), mounted(ran.results, "-o", "remount,bind,ro"):
        process = build(ran)
        assert_one_sentence("the results folder is read-only", process.communicate(timeout=PATIENCE)[1])
        assert process.returncode == 1
        words = (f"notebooks/{SHORT}.ipynb", str(ran.results / NOTEBOOKS / f"{SHORT}.ipynb"), "-p", "study", "smoke")
        process = started(ran, "-m", "pipeline.runs.execute", *words)
        stderr = process.communicate(timeout=PATIENCE)[1]
        assert_one_sentence("the results folder is read-only, for one notebook", stderr)
        assert process.returncode == 1
    assert_goes_on(ran)


def test_disk_full_under_a_notebook(ran, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4k", "tmpfs") as disk:
        words = (f"notebooks/{SHORT}.ipynb", str(disk / "all" / "notebooks" / "out.ipynb"), "-p", "study", "smoke")
        process = started(ran, "-m", "pipeline.runs.execute", *words)
        assert_one_sentence("disk full while a notebook is written", process.communicate(timeout=PATIENCE)[1])
        assert process.returncode == 1
        assert not list(disk.rglob("*.ipynb"))


def test_the_workflow_itself_stops(ran, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("executor: touch\njobs: 2\nno-such-option: 1\n", encoding="utf-8")
    process = started(ran, "-c", WITH_A_PROFILE, str(tmp_path))
    stderr = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert_one_sentence("the workflow itself stops, as for a wrong setting in a profile", stderr)
    assert "no-such-option" in stderr and (ran.results / "smoke" / "workflow.log").exists()
    assert_goes_on(ran)
