#!/usr/bin/env python3
"""A stand-in for kubectl: what a job's container would run is run as a process of this machine, in the same folders.

It takes what ``profiles/kubernetes`` and ``pipeline.runs.leftovers`` ask of kubectl, and keeps a file for each job in the
folder that ``KUBECTL_STAND_IN`` names. A job whose container names the image ``none`` waits for ever.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

FOLDER = Path(os.environ["KUBECTL_STAND_IN"])


def create() -> None:
    job = json.load(sys.stdin)
    name = job["metadata"]["generateName"] + uuid.uuid4().hex[:5]
    container = job["spec"]["template"]["spec"]["containers"][0]
    (FOLDER / f"{name}.json").write_text(json.dumps(job))
    if container["image"] != "none":
        own = {entry["name"]: entry["value"] for entry in container["env"]}
        of_image = {key: value for key, value in os.environ.items() if not key.startswith("SUBSPACES_")}
        end = FOLDER / name
        command = " ".join(container["command"])
        script = f"if {command}; then touch {end}.success; else touch {end}.failed; fi"
        with open(FOLDER / f"{name}.log", "w") as log:
            environment = {**of_image, **own, "KUBERNETES_SERVICE_HOST": "stand-in"}
            subprocess.Popen(["/bin/sh", "-c", script], env=environment, stdout=log, stderr=log, start_new_session=True)
    print(name, end="")


def state(name: str) -> str:
    return next((end for end in ("success", "failed") if (FOLDER / f"{name}.{end}").exists()), "running")


def listing() -> None:
    for path in sorted(FOLDER.glob("*.json")):
        if state(path.stem) == "running":
            started = (FOLDER / f"{path.stem}.log").exists()
            print(path.stem, "RUNNING" if started else "PENDING", path.stem)


def main(words: list[str]) -> None:
    if words[0] == "create":
        create()
    elif words[:2] == ["get", "job"]:
        print(state(words[-1]))
    elif words[:2] == ["get", "jobs"]:
        listing()
    elif words[:2] == ["delete", "job"]:
        for name in [word for word in words[2:] if not word.startswith("--")]:
            (FOLDER / f"{name}.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
