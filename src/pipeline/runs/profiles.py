"""Where a study's notebooks run: a folder of ``profiles/`` with settings of Snakemake, chosen by ``PROFILE=``."""

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers import paths
from helpers.errors import SettingsError

DEFAULT = "local"
FILE = "config.yaml"
SUBMITS = {"slurm": "sbatch"}  # queue -> the program without which jobs cannot be sent to it
UNKNOWN = re.compile("invalid (account|partition|qos)", re.IGNORECASE)  # as sbatch says it


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
    def queue(self) -> str | None:
        """The queue that jobs go to, if it is one in which those of a killed run can be found again."""
        return "slurm" if self.executor == "slurm" else None

    def options(self, jobs: str) -> list[str]:
        """Options of Snakemake beside those in the file; ``jobs`` is what the names of all jobs begin with."""
        return ["--profile", str(self.folder), *(["--slurm-jobname-prefix", jobs] if self.queue == "slurm" else [])]

    def variables(self) -> dict[str, str]:
        """Variables that the settings in the file may use."""
        return {"SUBSPACES_PYTHON": sys.executable, "SUBSPACES_PROFILE": str(self.folder)}

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
        program = SUBMITS.get(self.queue)
        if program and not shutil.which(program):
            raise SettingsError(
                f"profile {self.name} needs the program {program}, which is not here: run it on a machine that submits "
                "jobs of your cluster, or use PROFILE=local"
            )
        if self.queue == "slurm":
            self._try_slurm()

    def _try_slurm(self) -> None:
        """Have SLURM say whether it would take a job of the account and partition that the profile names."""
        named = {"slurm_account": "--account", "slurm_partition": "--partition", "qos": "--qos"}
        given = self.defaults()
        options = [f"{option}={given[key]}" for key, option in named.items() if key in given]
        command = ["sbatch", "--test-only", "--time=1", "--mem=100", "--output=/dev/null", *options, "--wrap=true"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and UNKNOWN.search(done.stderr):  # else it may be just this job
            raise SettingsError(
                f"SLURM would not take a job of profile {self.name} ({' '.join(done.stderr.split())[:300]}): correct "
                f"default-resources in profiles/{self.name}/{FILE}"
            )

    def defaults(self) -> dict[str, str]:
        """The resources that the profile's file gives to every job, by name; a list holds them as ``name=value``."""
        values = (yaml.safe_load((self.folder / FILE).read_text(encoding="utf-8")) or {}).get("default-resources") or {}
        pairs = values.items() if isinstance(values, dict) else (str(value).partition("=")[::2] for value in values)
        return {key: str(value).strip("'\"") for key, value in pairs}


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
