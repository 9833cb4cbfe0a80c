"""Processes that end with the one they work for, and files that are whole however their writer ended."""

import random
import subprocess
import sys
import time

import pytest

from helpers import files, lifeline

SLEEPER = "import sys, time; from helpers.lifeline import end_with; end_with(sys.argv[1]); print('up', flush=True); "
SLEEPER += "time.sleep(60)"
WRITER = """
import sys
from pathlib import Path
import torch
from helpers.files import write_tensors, write_text
folder = Path(sys.argv[1])
for number in range(10**9):
    write_text(folder / "table.csv", f"{number}\\n" * 200_000)
    write_tensors(folder / "weights.safetensors", {"a": torch.full((300_000,), float(number))})
    print(number, flush=True)
"""


def sleeper(process: int) -> subprocess.Popen:
    """A process that works for another."""
    started = subprocess.Popen([sys.executable, "-c", SLEEPER, str(process)], stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "up\n"
    return started


@pytest.mark.parametrize("reaped", [True, False])
def test_a_process_ends_with_the_one_it_works_for(reaped):
    worked_for = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    worker = sleeper(worked_for.pid)
    assert worker.poll() is None
    worked_for.kill()
    if reaped:
        worked_for.wait()
    assert worker.wait(10) == -9
    worked_for.wait()


def test_a_process_that_works_for_one_that_is_gone_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run([sys.executable, "-c", SLEEPER, str(gone.pid)], timeout=30, capture_output=True)
    assert done.returncode == -9


def test_without_a_number_nothing_is_tied():
    lifeline.end_with(None)
    lifeline.end_with("")


def test_a_writer_that_is_killed_leaves_whole_files(tmp_path):
    from safetensors.torch import load_file

    chance = random.Random(0)
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.2))
            writer.kill()
        text = (tmp_path / "table.csv").read_text().splitlines()
        assert len(text) == 200_000 and len(set(text)) == 1
        assert len(load_file(tmp_path / "weights.safetensors")["a"].unique()) == 1
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "weights.safetensors"]


def test_what_is_swept_is_what_is_not_whole(tmp_path):
    models = tmp_path / "seed-0" / "models"
    for name in (".aligned.partial-12", ".aligned.old-12", "aligned"):
        (models / name).mkdir(parents=True)
        (models / name / "model.safetensors").write_bytes(b"0")
    kept = [".lock", ".plan.json", "a.partial-1", ".hidden.ipynb", "book.ipynb"]
    for name in [*kept, ".book.running-7.ipynb", ".t.csv.partial-3"]:
        (tmp_path / name).write_text("")
    assert len(files.sweep(tmp_path)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "seed-0"])
    assert [path.name for path in models.iterdir()] == ["aligned"]
