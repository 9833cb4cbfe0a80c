"""What ``pyproject.toml`` says of the project: its version, and the address of its repository where it has one.

Nothing else states them but ``CITATION.cff`` and ``.zenodo.json``, which other programs read; a test compares these.
"""

import functools
import tomllib

from helpers.paths import ROOT


@functools.cache
def _stated() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def version() -> str:
    """The version of the code, which is kept with every result."""
    return _stated()["version"]


def repository() -> str:
    """Address of the public repository, such as ``https://github.com/owner/name``; empty where there is none yet."""
    return _stated().get("urls", {}).get("Repository", "").rstrip("/")
