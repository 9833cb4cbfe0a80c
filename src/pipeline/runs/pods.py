"""Send one of Snakemake's jobs to Kubernetes: ``python -m pipeline.runs.pods TEMPLATE JOBSCRIPT`` prints the job's name.

The template is a manifest with the image and the volume; name, command and what the job asks for are added here.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from helpers.errors import SettingsError, StudyError

LABEL = "subspaces"  # of all jobs of a study; its value is what their names begin with
NAME = "SUBSPACES_JOBS"  # the variable that holds it
PASSED = re.compile(r"SUBSPACES_\w+|\w+_NUM_THREADS|HF_HOME|HF_HUB_OFFLINE|OPENAI_BASE_URL")  # variables, no keys
PROPERTIES = re.compile(r"^# properties = (\{.*\})$", re.MULTILINE)  # the line in which Snakemake says what a job asks


def manifest(template: dict, script: Path, environment: dict[str, str]) -> dict:
    """The job for a script of Snakemake's, with what it asks for as both request and limit. Raises SettingsError."""
    asked = json.loads(PROPERTIES.search(script.read_text(encoding="utf-8"))[1])
    resources, name = asked["resources"], environment[NAME]
    amounts = {"cpu": str(asked.get("threads", 1)), "memory": f"{resources['mem_mb']}M"}
    if resources.get("gpu"):
        amounts["nvidia.com/gpu"] = str(resources["gpu"])
    variables = [{"name": key, "value": value} for key, value in environment.items() if PASSED.fullmatch(key)]
    try:
        job = {**template, "metadata": {**template.get("metadata", {}), "generateName": f"{name}-"}}
        job["metadata"]["labels"] = {**job["metadata"].get("labels", {}), LABEL: name}
        seconds = 60 * resources["runtime"]  # from the start on a node, so not of the job but of its pod
        once = {"restartPolicy": "Never", "activeDeadlineSeconds": seconds}
        pod = {**once, **template["spec"]["template"]["spec"]}
        container, *others = pod["containers"]
        run = {"command": ["/bin/sh", str(script)], "resources": {"requests": amounts, "limits": amounts}}
        pod["containers"] = [{**container, **run, "env": [*container.get("env", []), *variables]}, *others]
        job["spec"] = {"backoffLimit": 0, **template["spec"], "template": {**template["spec"]["template"], "spec": pod}}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"the template of the job lacks a part ({error}): compare it with the project's own"
        ) from None
    return job


def submit(template: Path, script: Path) -> str:
    """Create the job; returns its name. Raises StudyError where Kubernetes does not take it."""
    try:
        values = yaml.safe_load(template.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{template} cannot be read ({' '.join(str(error).split())}): mend it") from None
    job = json.dumps(manifest(values, script, dict(os.environ)))
    command = ["kubectl", "create", "--filename=-", "--output=jsonpath={.metadata.name}"]
    done = subprocess.run(command, input=job, capture_output=True, text=True)
    if done.returncode:
        raise StudyError(f"Kubernetes does not take the job ({' '.join(done.stderr.split())}): see {template}")
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Command line; returns the exit status."""
    try:
        print(submit(Path(arguments[0]), Path(arguments[1])))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
