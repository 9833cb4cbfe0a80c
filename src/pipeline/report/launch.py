"""Buttons that lead to the repository, and that launch a chapter on Binder: only where the project has an address.

Binder makes what ``binder/`` says, in which the chapters of all published studies have run: a button opens one of them
as it is staged, with its results. A chapter that Binder has not run is opened as the committed notebook.
"""

import re

import yaml

from pipeline.results import project
from pipeline.runs.stages import CHAPTERS

BRANCH = "main"
BINDER = "https://mybinder.org"
STAGED = "_build/stage"  # where the chapters are on Binder, in the places of the report
TARGET = re.compile(rf"(?<=urlpath=lab/tree/){STAGED}/(?P<place>\w[\w/.-]*/)(?P<name>\d\d_[A-Za-z\d_]+)[\w-]*\.ipynb")


def launching(config: str) -> str:
    """Text of ``_config.yml`` with the buttons, if the project has a repository; else as it is."""
    if not (address := project.repository()):
        return config
    settings = yaml.safe_load(config)
    settings["repository"]["url"] = address
    settings["sphinx"]["config"]["html_theme_options"] |= {  # which Jupyter Book does not fill where there are some
        "repository_url": address,
        "repository_branch": BRANCH,
        "path_to_docs": STAGED,
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": BINDER, "notebook_interface": "jupyterlab"},
    }
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def retarget(page: str) -> str:
    """HTML of a page whose launch button leads to a notebook that Binder has."""
    return TARGET.sub(_target, page)


def _target(found: re.Match) -> str:
    has_run = found["name"] in CHAPTERS and bool(CHAPTERS[found["name"]].reads)
    return found[0] if has_run and not found["place"].startswith("runs/") else f"notebooks/{found['name']}.ipynb"
