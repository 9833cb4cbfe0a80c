"""Where a study's notebooks run: a folder of ``profiles/`` with settings of Snakemake, chosen by ``PROFILE=``."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helpers import paths
from helpers.errors import SettingsError
from pipeline.runs import slurm

DEFAULT = "local"
FILE = "config.yaml"


@dataclass(frozen=True)
class Profile:
    """One profile: its folder, whose name it is chosen by, and what its file holds."""

    folder: Path
    settings: dict[str, Any]

    @property
    def executor(self) -> str:
        """What starts its jobs: ``local``, processes of this machine, or a scheduler, which may run them elsewhere."""
        return str(self.settings.get("executor") or "local")

    def check(self) -> None:
        """Raise SettingsError if this machine lacks what the profile needs to start jobs."""
        package = f"snakemake-executor-plugin-{self.executor}"
        if self.executor != "local" and importlib.util.find_spec(package.replace("-", "_")) is None:
            command = f".venv/bin/pip install {package}"
            raise SettingsError(f"profile {self.folder.name} needs {package}: install it with `{command}`")
        if self.executor == "slurm":
            given = self.settings.get("default-resources") or {}  # a mapping, or a list of ``name=value``
            pairs = given.items() if isinstance(given, dict) else (str(one).partition("=")[::2] for one in given)
            slurm.check(self.folder.name, {key: str(value).strip("'\"") for key, value in pairs})


def available() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.parent.name for path in paths.PROFILES.glob(f"*/{FILE}"))


def load(name: str) -> Profile:
    """The profile ``profiles/<name>``. Raises SettingsError if there is none, or if its file is no mapping in YAML."""
    if name not in available():
        choice = ", ".join(available())
        raise SettingsError(f"profile {name!r} does not exist: choose one of {choice} (folders in profiles/)")
    folder = paths.PROFILES / name
    try:
        return Profile(folder, dict(yaml.safe_load((folder / FILE).read_text(encoding="utf-8")) or {}))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"profiles/{name}/{FILE} cannot be read ({' '.join(str(error).split())}): compare it with "
            f"profiles/slurm/{FILE}"
        ) from None
