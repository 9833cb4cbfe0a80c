"""The toy study through a real SLURM: a cluster of one node that is started for these tests."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml

import slurm_cluster
import toy
from fault_table import assert_promised
from helpers.errors import SettingsError
from helpers.files import write_text
from pipeline.runs import profiles
from pipeline.runs import slurm as slurm_queue

RUNS = ("seed-0", "seed-1", "all")
PATIENCE = 600  # seconds that the first notebook may take to end
ABSENT = slurm_cluster.missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ABSENT), reason=f"SLURM is not here: {', '.join(ABSENT)} missing"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Variables of a running cluster."""
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


@dataclass
class Through:
    """The toy study through the cluster, come to its end."""

    run: Callable[[], subprocess.CompletedProcess]  # it again
    results: Path
    done: subprocess.CompletedProcess
    tables: dict[Path, bytes]
    jobs_left: set[str] = field(default_factory=set)  # computing when a first run was killed
    killed: str = ""  # what that run said


def submitted(study: toy.Toy, slurm: dict[str, str], seeds: str) -> Callable[[], subprocess.CompletedProcess]:
    """The command that runs some seeds of a toy study through the cluster."""
    return lambda: study.study(seeds, "slurm", **slurm)


@pytest.fixture(scope="module")
def through_slurm(slurm, tmp_path_factory) -> Through:
    """One seed of the toy study run with ``PROFILE=slurm``: some of its notebooks, as each takes seconds to begin."""
    study = toy.make(tmp_path_factory.mktemp("through slurm") / "clone", toy.SHORT)
    run = submitted(study, slurm, "0")
    return Through(run, study.results / "smoke", run(), study.tables())


@pytest.fixture(scope="module")
def killed_in_slurm(slurm, tmp_path_factory) -> Through:
    """Both seeds, in a run that was killed when a notebook had ended, and one after it that came to its end."""
    study = toy.make(tmp_path_factory.mktemp("killed in slurm") / "clone", toy.SHORT)
    with open(study.clone / "said.txt", "w+", encoding="utf-8") as out:
        environment = study.environment | slurm
        first = psutil.Popen(study.command("", "slurm"), cwd=study.clone, env=environment, stdout=out, stderr=out)
        end = time.monotonic() + PATIENCE
        while "01_models: " not in (study.clone / "said.txt").read_text(encoding="utf-8"):
            said = (study.clone / "said.txt").read_text(encoding="utf-8")
            assert first.poll() is None and time.monotonic() < end, said
            time.sleep(0.2)
        for process in [*first.children(recursive=True), first]:
            process.kill()
        first.wait()
    left = set(queued(slurm, "--states=RUNNING"))
    killed = (study.clone / "said.txt").read_text(encoding="utf-8")
    run = submitted(study, slurm, "")
    return Through(run, study.results / "smoke", run(), study.tables(), left, killed)


def queued(slurm: dict[str, str], *options: str) -> list[str]:
    """Numbers of the jobs in the queue."""
    command = ["squeue", "--noheader", "--format=%i", *options]
    return subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True).stdout.split()


def test_the_study_is_made_and_every_result_names_its_job(through_slurm):
    done = through_slurm.done
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"(\d+) notebooks to run through slurm", done.stdout)[1]
    assert re.search(r"smoke/seed-0 01_models: \d+ s \| 1 of ", done.stdout)
    assert "smoke/all 13_C3_updates: " in done.stdout and f"{count} of {count} notebooks" in done.stdout
    jobs = jobs_of(through_slurm.results)
    assert jobs and all(job["scheduler"] == "slurm" and job["id"].isdigit() for job in jobs.values())
    assert jobs.keys() >= set(through_slurm.results.glob("seed-0/models/*.json"))


def jobs_of(results: Path) -> dict[Path, dict]:
    """The job that made each result."""
    records = [path for part in ("models", "tables", "arrays") for path in results.glob(f"*/{part}/*.json")]
    return {path: json.loads(path.read_text(encoding="utf-8"))["job"] for path in records}


@pytest.mark.soak
def test_what_jobs_of_a_killed_run_still_made_is_not_made_again(killed_in_slurm, toy_study):
    """The next run waits for the end of those that compute, and takes what they made; seeds are jobs of their own."""
    assert killed_in_slurm.jobs_left and re.search(r"smoke/seed-\d 01_models: \d+ s \| 1 of ", killed_in_slurm.killed)
    done, results = killed_in_slurm.done, killed_in_slurm.results
    assert done.returncode == 0, done.stdout + done.stderr
    assert_promised("a run is killed whose jobs are in the queue of a cluster", done.stdout)
    made_by = [{job["id"] for path, job in jobs_of(results).items() if run in path.parts} for run in RUNS]
    assert any(jobs <= killed_in_slurm.jobs_left for jobs in made_by[:2]) and not made_by[0] & made_by[1]
    assert not (results / slurm_queue.MARK).exists()
    assert_those_of(toy_study, killed_in_slurm.tables)


def test_jobs_of_a_killed_run_that_wait_are_cancelled_and_no_others(slurm, tmp_path, monkeypatch, capfd):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)

    def submit(name: str) -> str:
        words = ["sbatch", "--parsable", "--hold", "--output=/dev/null", f"--job-name={name}", "--wrap=true"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    other = submit(f"{slurm_queue.name_of(tmp_path / 'other')}_1")
    write_text(tmp_path / "study" / slurm_queue.MARK, "")
    own = submit(f"{slurm_queue.name_of(tmp_path / 'study')}_1")
    assert {own, other} <= set(queued(slurm))
    slurm_queue.settle(tmp_path / "study")
    assert "1 jobs of a killed run still waited in the queue: cancelled" in capfd.readouterr().out
    assert own not in queued(slurm) and other in queued(slurm)
    assert not (tmp_path / "study" / slurm_queue.MARK).exists()
    subprocess.run(["scancel", other], check=True)


@pytest.mark.parametrize(
    "given", ["{slurm_partition: nosuch}", "[slurm_partition=nosuch]", "[\"slurm_partition='nosuch'\"]"]
)
def test_a_partition_that_is_not_there_is_one_sentence_before_anything_runs(slurm, tmp_path, monkeypatch, given):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "mine" / profiles.FILE
    file.parent.mkdir()
    file.write_text(f"executor: slurm\ndefault-resources: {given}\n", encoding="utf-8")
    profiles.load("slurm").check()
    with pytest.raises(
        SettingsError, match=r"SLURM would not take a job of profile mine \(.*invalid partition"
    ) as error:
        profiles.Profile(file.parent, yaml.safe_load(file.read_text(encoding="utf-8"))).check()
    assert "\n" not in str(error.value)


def test_the_tables_are_those_of_a_local_run(through_slurm, toy_study):
    assert_those_of(toy_study, {file: text for file, text in through_slurm.tables.items() if "seed-0" in file.parts})


def assert_those_of(local: toy.Toy, tables: dict[Path, bytes]) -> None:
    """Tables that were made through the cluster are, byte for byte, those of a run on this machine."""
    known = local.tables()
    assert tables and tables == {file: known.get(file) for file in tables}


@pytest.mark.soak
def test_a_job_that_fails_says_why_and_where(through_slurm):
    run, results = through_slurm.run, through_slurm.results
    model = results / "seed-0" / "models" / "harmful" / "model.safetensors"
    whole = model.read_bytes()
    (results / "seed-0" / "notebooks" / "04_update_overlap.ipynb").unlink()
    model.write_bytes(whole[: len(whole) // 2])
    try:
        failed = run()
    finally:
        model.write_bytes(whole)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr, failed.stderr
    said = failed.stderr.splitlines()
    assert any(line.startswith("smoke/seed-0 04_update_overlap: 04_update_overlap.ipynb stopped: ") for line in said), (
        said
    )
    logs = [Path(line.split(": ")[1]) for line in said if line.startswith("log of a job that failed: ")]
    assert any("error: 04_update_overlap.ipynb stopped: " in log.read_text(encoding="utf-8") for log in logs), logs
    assert said[-1] == "error: study smoke did not finish; what is done is kept, and the same command continues"
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr
