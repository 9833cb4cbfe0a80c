"""A clock that is set back: files dated in the future neither stop a run nor hide what is outdated."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fault_table import assert_promised
from pipeline.runs.clock import settle

HOUR = 3600 * 10**9  # nanoseconds
LEAF = "smoke/all/notebooks/13_C3_updates.ipynb"  # nothing depends on it


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(-HOUR, HOUR), min_size=1, max_size=8))
def test_order_stays_and_nothing_is_left_in_the_future(tmp_path, offsets):
    shutil.rmtree(tmp_path / "files", ignore_errors=True)
    (tmp_path / "files").mkdir()
    began = time.time_ns()
    files = [tmp_path / "files" / str(i) for i in range(len(offsets))]
    for file, offset in zip(files, offsets, strict=True):
        file.touch()
        os.utime(file, ns=(began + offset, began + offset))
    before = [file.stat().st_mtime_ns for file in files]
    moved, after = settle([tmp_path / "files"]), [file.stat().st_mtime_ns for file in files]
    assert max(after) <= time.time_ns()
    assert sum(a != b for a, b in zip(before, after, strict=True)) == moved
    assert all(
        (a < b) == (c < d) for a, c in zip(before, after, strict=True) for b, d in zip(before, after, strict=True)
    )
    assert settle([tmp_path / "files"]) == 0


def test_a_single_file_and_a_missing_folder_may_be_named(tmp_path):
    file = tmp_path / "claims.yml"
    file.touch()
    os.utime(file, ns=(time.time_ns() + HOUR,) * 2)
    assert settle([file, tmp_path / "none"]) == 1 and file.stat().st_mtime_ns <= time.time_ns()


def an_hour_ahead(folder):
    """Date all files as if they had been written by a clock that ran an hour ahead."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):  # a run may be under way
            made = file.stat().st_mtime_ns + HOUR
            os.utime(file, ns=(made, made))


@pytest.mark.slow
def test_a_run_after_the_clock_was_set_back_makes_just_what_is_missing(own_smoke):
    (own_smoke.results / LEAF).unlink()
    an_hour_ahead(own_smoke.results)
    tables = {path: path.read_bytes() for path in own_smoke.results.rglob("*.csv")}
    done = own_smoke.run_study()
    assert done.returncode == 0, done.stdout + done.stderr
    assert_promised("the clock is set back", done.stdout)
    assert "1 notebooks to run" in done.stdout and (own_smoke.results / LEAF).exists()
    assert {path: path.read_bytes() for path in tables} == tables
    again = own_smoke.run_study()
    assert again.returncode == 0 and "0 notebooks to run" in again.stdout and "clock" not in again.stdout


@pytest.mark.slow
def test_a_clock_that_is_set_back_during_a_run_costs_nothing(own_smoke):
    (own_smoke.results / LEAF).unlink()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(own_smoke.run_study)
        while not list((own_smoke.results / LEAF).parent.glob(".*.running-*")):
            assert not running.done(), running.result()
            time.sleep(0.05)
        an_hour_ahead(own_smoke.results)
        done = running.result()
    assert done.returncode == 0 and (own_smoke.results / LEAF).exists(), done.stdout + done.stderr
    again = own_smoke.run_study()
    assert again.returncode == 0 and "0 notebooks to run" in again.stdout, again.stdout + again.stderr
