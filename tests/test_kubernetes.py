"""The Kubernetes profile with a stand-in for kubectl: what a job is made of, and a notebook that runs through it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.errors import SettingsError, StudyError
from helpers.paths import PROFILES
from pipeline.runs import leftovers, pods, profiles

TEMPLATE = PROFILES / "kubernetes" / profiles.TEMPLATE
ASKED = {"type": "single", "rule": "x", "threads": 8, "resources": {"mem_mb": 9000, "gpu": 2, "runtime": 30}}


@pytest.fixture
def kubectl(tmp_path, monkeypatch) -> Path:
    """The stand-in on the path; returns the folder where it keeps the jobs."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kubectl"
    stand_in = Path(__file__).with_name("kubectl.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "jobs").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KUBECTL_STAND_IN", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def script(tmp_path) -> Path:
    """A jobscript of Snakemake's."""
    path = tmp_path / "jobscript.sh"
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps(ASKED)}\ntrue\n", encoding="utf-8")
    return path


def test_a_job_asks_for_what_its_notebook_does_and_gets_no_key(script):
    environment = {
        pods.NAME: "subspaces-0",
        "SUBSPACES_RESULTS": "/study/results",
        "OPENAI_API_KEY": "k",
        "HOME": "/root",
    }
    job = pods.manifest(yaml.safe_load(TEMPLATE.read_text(encoding="utf-8")), script, environment)
    container = job["spec"]["template"]["spec"]["containers"][0]
    amounts = {"cpu": "8", "memory": "9000M", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert {entry["name"] for entry in container["env"]} == {pods.NAME, "SUBSPACES_RESULTS"}
    assert job["metadata"] == {"generateName": "subspaces-0-", "labels": {pods.LABEL: "subspaces-0"}}
    assert job["spec"]["backoffLimit"] == 0 and job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 1800
    assert container["command"] == ["/bin/sh", str(script)] and container["volumeMounts"]


@pytest.mark.parametrize("text", ["spec: {template: {spec: {containers: []}}}", "spec: 1", "[]", "a: ["])
def test_a_template_that_cannot_be_used_is_one_sentence(tmp_path, script, monkeypatch, text):
    monkeypatch.setenv(pods.NAME, "subspaces-0")
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        pods.submit(tmp_path / "job.yaml", script)
    assert "\n" not in str(error.value)


def test_a_job_that_kubernetes_does_not_take_is_one_sentence(tmp_path, script, monkeypatch):
    monkeypatch.setenv(pods.NAME, "subspaces-0")
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho 'error: forbidden' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(StudyError, match=r"^Kubernetes does not take the job \(error: forbidden\): see "):
        pods.submit(TEMPLATE, script)


def test_jobs_of_a_killed_run_that_wait_are_deleted_and_no_others(kubectl, tmp_path, script, monkeypatch, capfd):
    values = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    values["spec"]["template"]["spec"]["containers"][0]["image"] = "none"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    names = []
    for study in ("own", "other"):
        monkeypatch.setenv(pods.NAME, leftovers.name_of(tmp_path / study))
        names.append(pods.submit(tmp_path / "job.yaml", script))
    leftovers.mark(tmp_path / "own", "kubernetes")
    leftovers.settle_queue(tmp_path / "own")
    assert "1 jobs of a killed run still waited" in capfd.readouterr().out
    assert [path.stem for path in kubectl.glob("*.json")] == names[1:]


@pytest.mark.slow
def test_a_notebook_runs_through_the_profile(kubectl, own_smoke):
    (own_smoke.results / "smoke" / "all" / "notebooks" / "13_C3_updates.ipynb").unlink()
    done = own_smoke.run_study(profile="kubernetes")
    assert done.returncode == 0 and "1 notebooks to run through kubernetes" in done.stdout, done.stdout + done.stderr
    job = json.loads(next(kubectl.glob("*.json")).read_text(encoding="utf-8"))
    asked = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert set(asked) == {"cpu", "memory"}, "no GPU for a figure"
    record = own_smoke.results / "smoke" / "all" / "tables" / "update_overlap_summary.json"
    assert json.loads(record.read_text(encoding="utf-8"))["job"]["scheduler"] == "kubernetes"
    assert not (own_smoke.results / "smoke" / leftovers.MARK).exists()


def test_the_program_that_cancels_is_one(kubectl, script, monkeypatch):
    monkeypatch.setenv(pods.NAME, "subspaces-0")
    name = pods.submit(TEMPLATE, script)
    settings = yaml.safe_load((PROFILES / "kubernetes" / profiles.FILE).read_text(encoding="utf-8"))
    cancel = PROFILES.parent / settings["cluster-generic-cancel-cmd"]
    subprocess.run([str(cancel), name], check=True)
    assert not (kubectl / f"{name}.json").exists()
