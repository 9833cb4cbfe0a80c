"""Small and read-only file systems for tests, where mounting is permitted."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Something mounted at ``folder`` meanwhile; skips where that is not permitted, as it mostly is to root alone."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        if "remount" not in " ".join(options):
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
