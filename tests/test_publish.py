"""Publishing a study: what is copied, what is refused, and the chapters and report made from published tables."""

import fcntl
import json
import re
import shutil
import sys
from contextlib import ExitStack

import pandas as pd
import pytest

from helpers.errors import SettingsError, StudyError
from helpers.files import sha256
from helpers.paths import RunPaths
from helpers.studies.settings import OBJECTIVES, load_study, parse_seeds
from pipeline import build, publish
from pipeline.results import tables
from pipeline.runs.notebook import begin
from pipeline.runs.selections import Selection
from pipeline.runs.stages import PER_SEED, of_study

STUDY = load_study("smoke")
NUMBER = 0.123456789


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty folders for results and published results."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))
    return tmp_path


def write_tables(seed: int) -> None:
    """Every table of a seed, with one row each, and the provenance of a model whose weights are there too."""
    for name, stage in of_study(PER_SEED, STUDY).items():
        parameters = {"objective": "useful"} if name == "02_finetune" else {}
        run = begin(name, study=STUDY.name, seed=seed, **parameters)
        for key in (key for key in stage.writes if key.startswith("tables/")):
            for filled in {key.format(objective=objective) for objective in OBJECTIVES}:
                table, _, part = filled.removeprefix("tables/").partition("-")
                run.write(table, pd.DataFrame([dict.fromkeys(tables.SCHEMAS[table], NUMBER)]), part)
    weights = RunPaths(STUDY.name, seed).model("base") / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    run.record(weights.parent)


def test_tables_and_provenance_are_copied_and_nothing_else(folders, capsys):
    write_tables(0)
    assert publish.main([STUDY.name, "--seeds", "0"]) == 0
    assert "published: " in capsys.readouterr().out
    found = {p.relative_to(folders / "published" / STUDY.name).as_posix() for p in folders.rglob("published/**/*.*")}
    own = {p.relative_to(folders / "results" / STUDY.name).as_posix() for p in folders.rglob("results/**/*.*")}
    large = {f"seed-0/tables/projection_prompts.{ending}" for ending in ("csv", "json")}
    assert own - found == {"seed-0/models/base/model.safetensors"} | large
    assert found - own == {"settings.yml"}
    assert parse_seeds("published", STUDY) == [0]


def test_numbers_are_rounded_and_the_record_says_so(folders):
    write_tables(0)
    publish.publish(STUDY, [0])
    path = RunPaths(STUDY.name, 0, published=True).table("behaviour")
    assert tables.read_csv(path, "behaviour")["value"].tolist() == [0.123457]
    record, own = (
        json.loads(RunPaths(STUDY.name, 0, p).table("behaviour").with_suffix(".json").read_text()) for p in (1, 0)
    )
    assert list(record["output"].values()) == [sha256(path)]
    assert record["published"]["output"] == own["output"] != record["output"]
    assert {key: record[key] for key in ("git_revision", "device", "finished", "inputs")} == {
        key: own[key] for key in ("git_revision", "device", "finished", "inputs")
    }


@pytest.mark.parametrize("text", ["Tell me how to do it, please, in five steps", "two\nlines", "x" * 200])
def test_a_table_with_texts_is_refused_and_nothing_is_published(folders, text):
    write_tables(0)
    path = RunPaths(STUDY.name, 0).table("behaviour")
    table = tables.read_csv(path, "behaviour").assign(measure=text)
    tables.write_csv(path, "behaviour", table)
    with pytest.raises(StudyError, match=r"behaviour.csv has texts in its column 'measure'"):
        publish.publish(STUDY, [0])
    assert not (folders / "published" / STUDY.name).exists()


def test_a_record_with_a_text_is_refused(folders):
    write_tables(0)
    path = RunPaths(STUDY.name, 0).table("behaviour").with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": {"answer": "word " * 100}}))
    with pytest.raises(StudyError, match=r"behaviour.json holds a long text"):
        publish.publish(STUDY, [0])


def test_a_missing_seed_is_one_sentence(folders, capsys):
    write_tables(0)
    assert publish.main([STUDY.name, "--seeds", "0,1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "make it with `make book STUDY=smoke`" in said
    assert publish.main(["own-models"]) == 1


def test_a_study_that_was_never_published_has_no_published_seeds(folders):
    with pytest.raises(SettingsError, match="study smoke has no published results"):
        parse_seeds("published", STUDY)


def test_a_chapter_reads_published_seeds_only_where_it_is_asked_to(folders):
    write_tables(0)
    publish.publish(STUDY, [0])
    shutil.rmtree(folders / "results")
    run = begin("10_C0_behaviour", study=STUDY.name, seeds="published")
    assert run.seeds == [0]
    assert run.read_all_seeds("behaviour")["value"].tolist() == [0.123457]
    run.write("behaviour_summary", pd.DataFrame([dict.fromkeys(tables.SCHEMAS["behaviour_summary"], 1.0)]))
    record = json.loads(run.folder.table("behaviour_summary").with_suffix(".json").read_text())
    assert list(record["inputs"]) == ["published/smoke/seed-0/tables/behaviour.csv"]
    with pytest.raises(StudyError, match="is missing"):
        begin("10_C0_behaviour", study=STUDY.name, seeds="0").read_all_seeds("behaviour")


def test_a_published_study_that_is_being_run_is_left_out(folders, capsys, monkeypatch):
    write_tables(0)
    publish.publish(STUDY, [0])
    lock = folders / "results" / STUDY.name / ".lock"
    with open(lock, "w", encoding="utf-8") as file, ExitStack() as held:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(build, "beside", lambda main: [Selection(STUDY, [0], published=True)])
        assert build.shown_beside(Selection(STUDY, [1]), held) == []
    assert "study smoke is left out of this report: study smoke is already being run" in capsys.readouterr().out


@pytest.mark.slow
def test_the_report_of_a_published_study_says_so_and_agrees_with_its_own(smoke, tmp_path):
    """The real path: the smoke study's tables published, then chapters and report made from them alone."""
    published, results = tmp_path / "published", tmp_path / "results"
    folders = {"SUBSPACES_PUBLISHED": str(published)}
    assert smoke.run(sys.executable, "-m", "pipeline.publish", "smoke", **folders).returncode == 0
    assert sum(path.stat().st_size for path in published.rglob("*") if path.is_file()) < 2e6
    command = (sys.executable, "-m", "pipeline.build", "smoke", "--seeds", "published", "--report", str(tmp_path))
    done = smoke.run(*command, **folders, SUBSPACES_RESULTS=str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"study smoke, published seeds 0, 1: \d+ notebooks to run", done.stdout)
    page = (tmp_path / "html" / "notebooks" / "10_C0_behaviour.html").read_text(encoding="utf-8")
    shown = re.sub("<[^>]+>", "", page)
    assert "Published results" in shown and "make book STUDY=smoke" in shown
    assert not list((tmp_path / "html").rglob("01_models*"))
    own, again = (
        tables.read_csv(root / "smoke" / "all" / "tables" / "criteria.csv", "criteria")
        for root in (smoke.results, results)
    )
    pd.testing.assert_frame_equal(own, again, rtol=1e-3, atol=1e-4)
