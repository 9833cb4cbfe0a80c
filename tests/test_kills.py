"""The smoke study is killed at twenty random moments and more, and ends with the tables of a run that was not."""

import json
import os
import random
import shutil
import sys
import time
from contextlib import suppress

import nbformat
import pandas as pd
import psutil
import pytest
from safetensors import safe_open

from helpers.files import UNFINISHED, sha256
from helpers.paths import ROOT

pytestmark = pytest.mark.slow
KILLS = 20
PATIENCE = 300  # seconds that a life may take to come to the moment that was chosen
GRACE = 20  # seconds in which everything that a killed run started must have ended by itself
MEASURES_TIME = ("training_log", "cost")  # tables that hold seconds


class Life:
    """One run of the study, until it is killed."""

    def __init__(self, folder, results) -> None:
        folders = {"SUBSPACES_RESULTS": str(results), "SUBSPACES_PUBLISHED": str(folder / "published")}
        command = [sys.executable, "-m", "pipeline.build", "smoke", "--report", str(folder / "build")]
        with open(folder / "said.txt", "a", encoding="utf-8") as out:
            options = {"cwd": ROOT, "env": {**os.environ, **folders}, "stdout": out, "stderr": out}
            self.process = psutil.Popen(command, start_new_session=True, **options)

    def everything(self) -> list[psutil.Process]:
        """The run and all that it has started: the workflow, papermill, kernels."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kernels(self) -> int:
        """How many notebooks are being computed."""
        return sum("ipykernel_launcher" in " ".join(arguments(process)) for process in self.everything())

    def wait(self, reached, seconds: float) -> None:
        """Until something is reached and then some seconds, or until the run has ended."""
        end = time.monotonic() + PATIENCE
        while not reached() and self.process.poll() is None:
            assert time.monotonic() < end, "gave up waiting"
            time.sleep(0.1)
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)

    def kill(self, chance: random.Random) -> list[psutil.Process]:
        """Kill -9 the run alone, or some of what it started, or all; returns everything there was."""
        found = self.everything()
        chosen = chance.choice([found[:1], found, chance.sample(found, max(1, len(found) // 2)) if found else []])
        for process in {*found[:1], *chosen}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        return found


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that compute on after the time of grace."""
    end = time.monotonic() + GRACE
    while processes and time.monotonic() < end:
        processes = [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        time.sleep(0.1)
    return processes


def arguments(process: psutil.Process) -> list[str]:
    """The command line of a process; of one that is gone, nothing."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def notebooks(results) -> int:
    """How many notebooks have run to their end."""
    return len([path for path in results.glob("smoke/*/notebooks/*.ipynb") if not path.name.startswith(".")])


def check_whole(results) -> int:
    """Everything under a final name can be read to its end, and is what its provenance says; returns how many files."""
    count = 0
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        if any(UNFINISHED.fullmatch(part) for part in path.parts) or "scratch" in path.parts:
            continue
        count += 1
        if path.suffix == ".json":
            entry = json.loads(path.read_text(encoding="utf-8"))
            table = path.with_suffix(".csv")
            if table.exists() and "output" in entry:
                assert set(entry["output"].values()) == {sha256(table)}, path
        elif path.suffix == ".csv":
            assert len(pd.read_csv(path).columns) > 1, path
        elif path.suffix == ".ipynb" and not path.name.endswith(".failed.ipynb"):
            nbformat.validate(nbformat.read(path, nbformat.NO_CONVERT))
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                assert [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - the file is no mapping
    return count


def said(folder) -> str:
    """The end of what all lives printed."""
    return (folder / "said.txt").read_text(encoding="utf-8")[-3000:]


def test_twenty_kills_change_nothing(smoke, tmp_path):
    chance, results, kills, working = random.Random(20), tmp_path / "results", 0, 0
    while kills < KILLS:
        run, before = Life(tmp_path, results), notebooks(results)
        if kills % 4 == 3:  # so that the study gets on
            run.wait(lambda before=before: notebooks(results) > before, chance.uniform(0, 3))
        elif kills % 4 == 2:  # while it starts
            run.wait(lambda: True, chance.uniform(0, 12))
        else:
            run.wait(run.kernels, chance.uniform(0, 6))
        if run.process.poll() is not None:  # a quick machine: it came to its end, so the study begins again
            assert run.process.returncode == 0, said(tmp_path)
            shutil.rmtree(results)
            continue
        working += bool(run.kernels())
        assert not (left := still_alive(run.kill(chance))), [arguments(process) for process in left]
        kills += 1
        check_whole(results)
    assert working >= KILLS / 4, working
    done = Life(tmp_path, results)
    assert done.process.wait() == 0, said(tmp_path)
    assert check_whole(results) and not [path for path in results.rglob("*") if UNFINISHED.fullmatch(path.name)]
    compared = 0
    for table in sorted((smoke.results / "smoke").glob("*/tables/*.csv")):
        if not table.stem.startswith(MEASURES_TIME):
            other = results / table.relative_to(smoke.results)
            assert other.read_bytes() == table.read_bytes(), other
            compared += 1
    assert compared > 20
