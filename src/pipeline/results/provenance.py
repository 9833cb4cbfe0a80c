"""Where a result comes from: code, settings, inputs, machine and time, kept in a JSON file beside the result."""

import functools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers import paths
from helpers.errors import Damaged
from helpers.files import sha256, write_text
from pipeline.results import project

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy", "scipy", "pandas")
PACKAGES += ("matplotlib", "seaborn", "pydantic", "papermill", "jupyter-book", "snakemake")
FOLDERS = ("models", "tables", "arrays")  # of a run, with a record beside each result


@functools.cache
def environment() -> dict:
    """Versions, machine and code revision of this process."""
    torch = sys.modules.get("torch")  # a process that never imported it computed without it
    cuda, number = torch is not None and torch.cuda.is_available(), os.environ.get("SLURM_JOB_ID")
    return {
        "version": project.version(),
        **revision(),
        **machine(),
        "threads": torch.get_num_threads() if torch else 1,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "job": {"scheduler": "slurm", "id": number} if number else None,
        **({"float32": f"{torch.get_float32_matmul_precision()} precision"} if torch else {}),
    }


def machine() -> dict:
    """Versions and machine, as far as they can be known without importing what computes."""
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "cpu": _cpu(),
    }


def memory_of_gpu() -> dict[str, float]:
    """The most memory that this process's tensors have taken on the GPU so far, in GiB; nothing without one."""
    torch = sys.modules.get("torch")
    used = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0
    return {"gpu_gib": round(used / 2**30, 2)} if used else {}


def record(path: Path, facts: dict, inputs: list[Path]) -> None:
    """Write the provenance of a finished result beside it: ``facts``, the environment, and the hashes of all files."""
    entry = {
        **facts,
        **environment(),
        **memory_of_gpu(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": {shown_path(source): sha256(source) for source in sorted(set(inputs))},
        "output": {shown_path(path): sha256(path)},
    }
    write_record(entry, sidecar(path))


def write_record(entry: dict, path: Path) -> None:
    """Write a provenance file; the same facts always give the same bytes."""
    write_text(path, json.dumps(entry, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def check_unchanged(path: Path) -> None:
    """Raise Damaged if a result is not the one whose hash was recorded when it was written; nothing without a record.

    Hashes are taken once in a process: a result's are recorded anyway with what is made from it.
    """
    if not sidecar(path).exists():
        return
    recorded = read_record(sidecar(path))["output"]
    if (found := sha256(path)) not in recorded.values():
        raise Damaged(
            f"{path} is not what was written (its hash is {found}, not {', '.join(recorded.values())}): it was changed "
            "or damaged, so delete it and run the same command again"
        )


def read_record(path: Path) -> dict:
    """The provenance in a file that ``record`` wrote. Raises Damaged if it cannot be read."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        lacking = [key for key in ("inputs", "output") if not isinstance(entry.get(key), dict)]
        if not lacking:
            return entry
        reason = f"it has no {lacking[0]}"
    except (OSError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
    raise Damaged(
        f"the record {path} cannot be read ({reason}): it was changed or damaged, so delete it together with the "
        "result beside it and run the same command again"
    )


def sidecar(path: Path) -> Path:
    """The provenance file of a result: ``behaviour.csv`` → ``behaviour.json``, a model folder → ``<folder>.json``."""
    return path.with_name(f"{path.stem if path.suffix in {'.csv', '.safetensors'} else path.name}.json")


def records_of(run: paths.RunPaths) -> list[Path]:
    """The provenance files that lie beside the results of a run, in a fixed order."""
    return [path for folder in FOLDERS for path in sorted((run.root / folder).glob("*.json"))]


def recorded(runs: Iterable[paths.RunPaths]) -> list[dict]:
    """The provenance of all results of some runs, with the ``run``'s and the ``result``'s name, in a fixed order."""
    return [
        read_record(path) | {"run": run.root.name, "result": path.relative_to(run.root).with_suffix("").as_posix()}
        for run in runs
        for path in records_of(run)
    ]


def recorded_of(study: Path) -> list[dict]:
    """The provenance of all results in the folder of a study, but for records that cannot be read."""
    found = []
    for path in (path for folder in FOLDERS for path in sorted(study.glob(f"*/{folder}/*.json"))):
        with suppress(Damaged):
            found.append(read_record(path))
    return found


def shown_path(path: Path) -> str:
    """The name of a result in records: its place below the results, or below ``published/``; else its file's name."""
    path = path.resolve()
    for root, shown in ((paths.results_root(), ""), (paths.published_root(), f"{paths.PUBLISHED}/")):
        if path.is_relative_to(root.resolve()):
            return shown + path.relative_to(root.resolve()).as_posix()
    return path.name


def revision() -> dict:
    """Git revision of the code and whether it had uncommitted changes; ``unknown`` outside a clone."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        found = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"git_revision": "unknown", "git_dirty": None}
    return {"git_revision": found.removesuffix("-dirty"), "git_dirty": found.endswith("-dirty")}


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} logical cores" if sys.platform != "win32" else name
