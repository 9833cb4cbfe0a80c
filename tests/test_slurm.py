"""The smoke study through a real SLURM: a cluster of one node that is started for these tests."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

import slurm_cluster

RUNS = ("seed-0", "seed-1", "all")
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


@pytest.fixture(scope="module")
def through_slurm(slurm, smoke, tmp_path_factory):
    """The smoke study run with ``PROFILE=slurm``: how to run it again, and what the first run said."""
    folder = tmp_path_factory.mktemp("through slurm")
    own = {**slurm, "SUBSPACES_RESULTS": str(folder / "results")}
    report = ("--report", str(folder / "build"))

    def run(*options: str):
        return smoke.run(sys.executable, "-m", "helpers.build", "smoke", "--profile", "slurm", *report, *options, **own)

    return run, run(), folder / "results" / "smoke"


def test_the_report_is_made_and_every_result_names_its_job(through_slurm):
    _, done, results = through_slurm
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: " in done.stdout
    count = re.search(r"(\d+) notebooks to run through slurm", done.stdout)[1]
    assert "smoke/seed-1 05_projection: " in done.stdout and f"{count} of {count} notebooks" in done.stdout
    records = [path for part in ("models", "tables", "arrays") for path in results.glob(f"*/{part}/*.json")]
    jobs = {path: json.loads(path.read_text(encoding="utf-8"))["job"] for path in records}
    assert records and all(job["scheduler"] == "slurm" and job["id"].isdigit() for job in jobs.values())
    of_seed = [{job["id"] for path, job in jobs.items() if run in path.parts} for run in RUNS]
    assert not of_seed[0] & of_seed[1]  # seeds are jobs of their own


def test_the_tables_are_those_of_a_local_run(through_slurm, smoke):
    results = through_slurm[2]
    compared = 0
    for run in RUNS:
        for table in sorted((smoke.results / "smoke" / run / "tables").glob("*.csv")):
            if table.stem.startswith(("training_log", "cost")):  # these hold seconds
                continue
            other = results / run / "tables" / table.name
            assert other.read_bytes() == table.read_bytes(), other
            compared += 1
    assert compared > 20


def test_a_job_that_fails_says_why_and_where(through_slurm):
    run, _, results = through_slurm
    model = results / "seed-0" / "models" / "harmful" / "model.safetensors"
    whole, made = model.read_bytes(), model.stat().st_mtime_ns
    (results / "seed-0" / "notebooks" / "04_update_overlap.ipynb").unlink()
    model.write_bytes(whole[: len(whole) // 2])
    os.utime(model, ns=(made, made))  # what else was made from it need not be made again
    try:
        failed = run("--seeds", "0")
    finally:
        model.write_bytes(whole)
        os.utime(model, ns=(made, made))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr, failed.stderr
    said = failed.stderr.splitlines()
    assert any(line.startswith("smoke/seed-0 04_update_overlap: 04_update_overlap.ipynb stopped: ") for line in said), (
        said
    )
    logs = [Path(line.split(": ")[1]) for line in said if line.startswith("log of a job that failed: ")]
    assert any("error: 04_update_overlap.ipynb stopped: " in log.read_text(encoding="utf-8") for log in logs), logs
    assert said[-1] == "error: study smoke did not finish; what is done is kept, and the same command continues"
    again = run("--seeds", "0")
    assert again.returncode == 0, again.stdout + again.stderr
