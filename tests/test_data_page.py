"""The data page: every data set, and what each study used of it, from the study's table of results."""

import re

import pytest

from helpers.data import public
from helpers.data.registry import DATASETS
from helpers.paths import RunPaths
from helpers.studies.sections import Origin
from helpers.studies.settings import load_study
from pipeline.report.pages import data_table
from pipeline.results import tables
from pipeline.runs.selections import Selection
from stand_in_data import make_data


@pytest.fixture
def selection(tmp_path, monkeypatch):
    """A study of pretrained models whose table of data sets has been written."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    origins = {name: Origin(**origin) for name, origin in make_data(tmp_path / "data").items()}
    study = load_study("qwen2.5-1.5b").model_copy(update={"data": origins})
    tables.write_csv(RunPaths(study.name, 0).table("datasets"), "datasets", public.datasets_table(study))
    return Selection(study, [0])


def cells(page):
    """Text of the cells of each row of the page's tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [[re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows]


def test_every_data_set_has_a_row_without_any_study():
    rows = [row for row in cells(data_table([])) if row]
    assert [row[0] for row in rows] == list(DATASETS)
    assert all(all(row) for row in rows)
    assert rows[0][3:] == ["20%", "Apache-2.0", "package reasoning-gym 0.1.25"]


def test_a_study_shows_what_it_used(selection):
    page = data_table([Selection(load_study("organism"), [0]), selection])
    assert page.count("### As used by the study") == 1 and selection.study.title in page
    used = {row[0]: row for row in cells(page) if row and len(row) == 7}
    assert set(used) == {source for _, source in selection.study.sources()}
    assert used["advbench"][1:5] == ["folder: advbench", "20", "0", "20"]
    assert used["beavertails-safe"][5] == "unsafe answer: 80"
    assert all(re.fullmatch("[0-9a-f]{16}", row[6]) for row in used.values())


def test_rows_without_limit_are_said_to_be(selection):
    table = public.datasets_table(selection.study)
    table.loc[len(table)] = public.describe("gsm-symbolic") | {"excluded": "broken templates: 15"}
    tables.write_csv(RunPaths(selection.study.name, 0).table("datasets"), "datasets", table)
    row = next(row for row in cells(data_table([selection])) if row and row[0] == "gsm-symbolic" and len(row) == 7)
    assert row[2:6] == ["no limit", "no limit", "no limit", "broken templates: 15"]
