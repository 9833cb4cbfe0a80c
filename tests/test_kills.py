"""A study is killed at random moments of every kind, and ends with the tables of a run that was not."""

import json
import os
import random
import shutil
import time
from contextlib import suppress

import nbformat
import pandas as pd
import psutil
import pytest
from safetensors import safe_open

import toy
from helpers.files import UNFINISHED, sha256
from toy import Toy

pytestmark = pytest.mark.slow
KINDS, KILLS = 4, 8  # moments of a kind each; all kinds twice in the soak, of all notebooks
PATIENCE = 300  # seconds that a life may take to come to the moment that was chosen
GRACE = 20  # seconds in which everything that a killed run started must have ended by itself


class Life:
    """One run of the study, until it is killed."""

    def __init__(self, study: Toy) -> None:
        with open(study.clone / "said.txt", "a", encoding="utf-8") as out:
            options = {"cwd": study.clone, "env": study.environment, "stdout": out, "stderr": out}
            self.process = psutil.Popen(study.command(), start_new_session=True, **options)

    def everything(self) -> list[psutil.Process]:
        """The run and all that it has started: processes that execute notebooks, kernels."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kernels(self) -> int:
        """How many notebooks are being computed: kernels have sessions of their own."""
        return sum(session(process) == process.pid for process in self.everything()[1:])

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


def session(process: psutil.Process) -> int | None:
    """The session of a process; of one that is gone, none."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


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


def said(study: Toy) -> str:
    """The end of what all lives printed."""
    return (study.clone / "said.txt").read_text(encoding="utf-8")[-3000:]


@pytest.mark.parametrize(
    ("kills", "only"), [(KINDS, toy.SHORT), pytest.param(KILLS, tuple(toy.STAGES), marks=pytest.mark.soak)]
)
def test_kills_change_nothing(toy_study, tmp_path, kills, only):
    chance, study, done, working = random.Random(20), toy.make(tmp_path / "clone, été", only), 0, 0
    while done < kills:
        run, before = Life(study), notebooks(study.results)
        if done % KINDS == 3:  # so that the study gets on
            run.wait(lambda before=before: notebooks(study.results) > before, chance.uniform(0, 1))
        elif done % KINDS == 2:  # while it starts
            run.wait(lambda: True, chance.uniform(0, 4))
        else:
            run.wait(run.kernels, chance.uniform(0, 2))
        if run.process.poll() is not None:  # a quick machine: it came to its end, so the study begins again
            assert run.process.returncode == 0, said(study)
            shutil.rmtree(study.results)
            continue
        working += bool(run.kernels())
        assert not (left := still_alive(run.kill(chance))), [arguments(process) for process in left]
        done += 1
        check_whole(study.results)
    assert working >= kills / 4, working
    assert Life(study).process.wait() == 0, said(study)
    assert check_whole(study.results)
    assert not [path for path in study.results.rglob("*") if UNFINISHED.fullmatch(path.name)]
    made, whole = study.tables(), toy_study.tables()
    assert made and made == {file: whole.get(file) for file in made}
