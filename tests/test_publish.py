"""Publishing a study: what is copied, what is refused, and the chapters and report made from published tables."""

import fcntl
import json
import re
import shutil
import sys
from contextlib import ExitStack

import pandas as pd
import pytest
import yaml

from helpers.claims.verdicts import agreeing
from helpers.errors import MissingInput, SettingsError, StudyError
from helpers.files import sha256
from helpers.paths import ROOT, RunPaths, published_seeds
from helpers.studies.settings import load_study, parse_seeds, prediction_of
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
    """Every table of a seed, with one row each, and the provenance of a model whose weights are there too.

    Over all seeds, which are then this one, the intervals that single prompts are needed for.
    """
    for name, stage in of_study(PER_SEED, STUDY).items():
        parameters = {"objective": "useful"} if name == "02_finetune" else {}
        run = begin(name, study=STUDY.name, seed=seed, **parameters)
        for key in (key for key in stage.writes if key.startswith("tables/")):
            for filled in {key.format(objective=objective) for objective in STUDY.objectives}:
                table, _, part = filled.removeprefix("tables/").partition("-")
                run.write(table, pd.DataFrame([dict.fromkeys(tables.SCHEMAS[table], NUMBER)]), part)
    weights = RunPaths(STUDY.name, seed).model("base") / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    run.record(weights.parent)
    over = begin("15_verdict", study=STUDY.name, seeds=[seed])
    over.folder = RunPaths(STUDY.name)  # as in a workflow
    over.write("claim_uncertainty", pd.DataFrame([dict.fromkeys(tables.SCHEMAS["claim_uncertainty"], NUMBER)]))


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


def test_a_measurement_that_is_younger_may_be_lacking_and_that_is_said(folders, capsys):
    write_tables(0)
    RunPaths(STUDY.name, 0).table("probe").unlink()
    publish.publish(STUDY, [0])
    assert "seed-0 has no probe.csv, which is published as not measured" in capsys.readouterr().err
    RunPaths(STUDY.name, 0).table("energy").unlink()
    with pytest.raises(MissingInput, match="energy.csv is missing"):
        publish.publish(STUDY, [0])


def test_a_measurement_that_some_seeds_have_and_others_lack_is_not_published(folders):
    """Chapters read it of every seed or of none."""
    write_tables(1)
    write_tables(0)
    RunPaths(STUDY.name, 1).table("probe").unlink()
    with pytest.raises(StudyError, match="probe is there for some seeds only: run 06_.* for seeds 1 too") as error:
        publish.publish(STUDY, [0, 1])
    assert "\n" not in str(error.value) and not (folders / "published" / STUDY.name).exists()
    publish.publish(STUDY, [0])


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


def test_intervals_over_other_seeds_are_not_published_with_these(folders):
    write_tables(0)
    write_tables(1)  # the intervals are of seed 1 now
    with pytest.raises(StudyError, match=r"claim_uncertainty.csv was made from other seeds.*SEEDS=0"):
        publish.publish(STUDY, [0])


def test_published_intervals_are_taken_where_their_mean_is_the_one_that_is_computed():
    columns = list(tables.SCHEMAS["claim_uncertainty"])
    known = [("C1", "energy_gap", 0.25), ("C2", "harm_removed_alone", 0.5), ("C3", "useful_harmful_above_random", 0.1)]
    published = pd.DataFrame([dict(zip(columns[1:4], one, strict=True)) for one in known]).reindex(columns=columns)
    computed = [("C1", "energy_gap", 0.20), ("C1", "energy_gap", 0.30009), ("C2", "harm_removed_alone", 0.5003)]
    statistics = pd.DataFrame(computed, columns=["claim", "statistic", "value"])
    assert agreeing(published, statistics)["statistic"].tolist() == ["energy_gap"]  # 0.250045; the second is off
    assert agreeing(published.head(0), statistics).empty


def test_a_published_table_over_all_seeds_is_read_with_published_seeds_alone(folders):
    write_tables(0)
    publish.publish(STUDY, [0])
    chapter = begin("15_verdict", study=STUDY.name, seeds="published")
    assert chapter.read_published("claim_uncertainty")["mean"].tolist() == [0.123457]
    assert RunPaths(STUDY.name, published=True).table("claim_uncertainty") in chapter.inputs
    before = chapter.made_from
    path = chapter.inputs[-1]
    path.write_text(path.read_text().replace("0.123457", "0.2"))
    assert begin("15_verdict", study=STUDY.name, seeds="published").made_from != before  # so that it runs again
    assert begin("15_verdict", study=STUDY.name, seeds="0").read_published("claim_uncertainty").empty


def test_what_an_older_version_did_not_measure_is_an_empty_table_and_a_sentence(folders, capsys):
    write_tables(0)
    publish.publish(STUDY, [0])
    older = RunPaths(STUDY.name, 0, published=True)
    older.table("probe").unlink()
    chapter = begin("14_C4_activations", study=STUDY.name, seeds="published")
    assert older.table("probe") not in chapter.reads and older.table("matched_activations") in chapter.reads
    found = chapter.read_all_seeds("probe")
    assert found.empty and list(found) == list(tables.SCHEMAS["probe"])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "These results have no 'probe', which was not measured when they were published."
    older.table("behaviour").unlink()  # which every version has written
    with pytest.raises(StudyError, match="behaviour.csv is missing"):
        begin("10_C0_behaviour", study=STUDY.name, seeds="published").read_all_seeds("behaviour")
    with pytest.raises(StudyError, match="probe.csv is missing"):
        begin("14_C4_activations", study=STUDY.name, seeds="1").read_all_seeds("probe")


def test_a_missing_seed_is_one_sentence(folders, capsys):
    write_tables(0)
    assert publish.main([STUDY.name, "--seeds", "0,1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "make it with `make book STUDY=smoke`" in said
    assert publish.main(["own-models"]) == 1


@pytest.mark.parametrize(
    ("name", "command"),
    [("organism-bench", "make bench-methods STUDY=organism"), ("organism", "make book STUDY=organism")],
)
def test_the_command_that_replaces_published_results_makes_all_that_they_need(name, command):
    """A bench measures the models of another study, without which its own command stops."""
    assert Selection(load_study(name), [0], published=True).remade_by == command


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
        tables.read_csv(root / "smoke" / "all" / "tables" / "stated.csv", "stated") for root in (smoke.results, results)
    )
    pd.testing.assert_frame_equal(own, again, rtol=1e-3, atol=1e-4)


def test_every_published_study_has_the_models_of_the_settings_beside_it():
    names = [folder.name for folder in (ROOT / "published").iterdir()]
    for name in names:
        study = Selection(load_study(name), published_seeds(name), published=True).study
        rows = ROOT / "published" / name / f"seed-{published_seeds(name)[0]}" / "tables" / "behaviour.csv"
        if rows.exists():
            assert set(pd.read_csv(rows)["model"]) == set(study.models), name


def test_published_results_are_shown_with_the_settings_that_they_were_made_with(tmp_path, monkeypatch):
    """Not with those of today, which ask for an unrelated update; and nothing was foretold of an earlier design."""
    today = load_study("smollm2-135m")
    then = today.model_dump(mode="json", exclude_unset=True)
    del then["training"]["unrelated"]
    then["projection"] |= {"subspaces": ["alignment", "safety"], "judged": None}
    folder = tmp_path / "smollm2-135m"
    folder.mkdir()
    (folder / "settings.yml").write_text(yaml.safe_dump(then))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path))
    shown = Selection(today, [0], published=True).study
    assert "unrelated" in today.models and "unrelated" not in shown.models
    assert prediction_of(shown) is None and prediction_of(today) is not None
