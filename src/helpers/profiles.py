"""Where a study's notebooks run: a folder of ``profiles/`` with settings of Snakemake, chosen by ``PROFILE=``."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers import paths
from helpers.errors import SettingsError

DEFAULT = "local"
FILE = "config.yaml"
SUBMITS = {"slurm": "sbatch", "kubernetes": "kubectl"}  # executor -> the program without which it cannot work


@dataclass(frozen=True)
class Profile:
    """One profile: its folder, and what starts its jobs."""

    folder: Path
    executor: str  # local: processes of this machine

    @property
    def name(self) -> str:
        """What it is chosen by."""
        return self.folder.name

    @property
    def remote(self) -> bool:
        """Whether jobs go to a scheduler, and may run elsewhere."""
        return self.executor != "local"

    @property
    def queued(self) -> bool:
        """Whether jobs go into SLURM's queue, where those of a killed run can be found again."""
        return self.executor == "slurm"

    def logs(self) -> set[tuple[Path, int]]:
        """The scheduler's own logs with the times of their change; those of jobs that succeed are not kept."""
        found = (paths.ROOT / ".snakemake" / f"{self.executor}_logs").rglob("*.log")
        return {(path, path.stat().st_mtime_ns) for path in found}

    def check(self) -> None:
        """Raise SettingsError if this machine lacks what the profile needs to start jobs."""
        package = f"snakemake-executor-plugin-{self.executor}"
        if self.remote and importlib.util.find_spec(package.replace("-", "_")) is None:
            command = f".venv/bin/pip install {package}"
            raise SettingsError(f"profile {self.name} needs {package}: install it with `{command}`")
        program = SUBMITS.get(self.executor)
        if program and not shutil.which(program):
            raise SettingsError(
                f"profile {self.name} needs the program {program}, which is not here: run it on a machine that submits "
                "jobs of your cluster, or use PROFILE=local"
            )


def available() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.parent.name for path in paths.PROFILES.glob(f"*/{FILE}"))


def load(name: str) -> Profile:
    """The profile ``profiles/<name>``. Raises SettingsError if there is none, or if its file is no mapping in YAML."""
    if name not in available():
        choice = ", ".join(available())
        raise SettingsError(f"profile {name!r} does not exist: choose one of {choice} (folders in profiles/)")
    file = paths.PROFILES / name / FILE
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        executor = values.get("executor") or "local"
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        message = f"profiles/{name}/{FILE} cannot be read ({reason}): compare it with profiles/slurm/{FILE}"
        raise SettingsError(message) from None
    return Profile(file.parent, str(executor))
