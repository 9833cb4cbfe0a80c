"""Staging of the report: what is refused, where links lead, what happens to labels and to text a model wrote."""

import json
from pathlib import PurePosixPath

import nbformat
import pandas as pd
import pytest
import yaml

from helpers.errors import MissingInput, StudyError
from helpers.paths import ROOT, RunPaths
from helpers.studies.settings import load_study
from pipeline.report import build as report
from pipeline.report.inert import clean_html, clean_output
from pipeline.report.pages import write_generated
from pipeline.report.records import banner
from pipeline.report.rooms import WINGS, code_map, imports
from pipeline.report.staging import check_seeds, relocate, stage
from pipeline.results.tables import SCHEMAS, write_csv
from pipeline.runs.selections import Selection, beside, not_tested, with_results
from synthetic_report import PAYLOADS, publish_behaviour, write_notebook, write_results

STUDY = load_study("organism")
OTHER = load_study("smoke")
PRETRAINED = load_study("smollm2-135m")
PLACES = {"05_projection": PurePosixPath("runs/organism/seed-0/05_projection")}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results with every notebook of two seeds."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))
    write_results(STUDY, [0, 1])
    return tmp_path / "results"


def staged_notebook(folder, place: str) -> nbformat.NotebookNode:
    return nbformat.read(folder / f"{place}.ipynb", as_version=4)


def test_pages_notebooks_and_tables_have_their_places(results, tmp_path):
    stage([Selection(STUDY, [0, 1])], tmp_path / "stage")
    contents = yaml.safe_load((tmp_path / "stage" / "_toc.yml").read_text())
    files = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    sections = [s["file"] for part in contents["parts"] for c in part["chapters"] for s in c.get("sections", [])]
    assert contents["root"] == "index" and (tmp_path / "stage" / "index.md").exists()
    assert "notebooks/15_verdict" in files and "runs/organism/seed-1/02_finetune-useful" in sections
    for file in [*files, *sections]:
        exists = [(tmp_path / "stage" / f"{file}{suffix}").exists() for suffix in (".md", ".ipynb")]
        assert any(exists) or file == "runs/organism/index", file
    assert (tmp_path / "stage" / "extra" / "results" / "organism" / "all" / "tables" / "verdicts.csv").exists()
    assert (tmp_path / "stage" / "extra" / "studies" / "organism.yml").exists()


def test_a_chapter_ends_with_what_is_next(results, tmp_path):
    """The chapter after it by its title, the card of its claim, and the explorer where it has the numbers."""
    table = "parallel_summary"
    write_csv(RunPaths("organism").table(table), table, pd.DataFrame(columns=list(SCHEMAS[table])))
    stage([Selection(STUDY, [0, 1])], tmp_path / "stage")
    shown = ("11_C1_parallel", "13_C3_updates", "15_verdict")
    last = {name: staged_notebook(tmp_path / "stage", f"notebooks/{name}").cells[-1].source for name in shown}
    assert all(text.startswith("## What next") for text in last.values())
    assert "[12_C2_orthogonal](12_C2_orthogonal.ipynb)" in last["11_C1_parallel"]
    assert 'href="../index.html#C1"' in last["11_C1_parallel"]
    assert 'href="../explorer.html#study=organism&amp;mode=parallel&amp;panel=behaviour"' in last["11_C1_parallel"]
    assert "explorer" not in last["13_C3_updates"] and "all-numbers.html" in last["15_verdict"]
    single = staged_notebook(tmp_path / "stage", "runs/organism/seed-0/05_projection").cells[-1].source
    assert "What next" not in single


def test_what_is_gone_from_the_results_is_gone_from_the_stage(results, tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "old.md").write_text("# Old")
    write_results(STUDY, [0])
    stage([Selection(STUDY, [0])], tmp_path / "stage")
    assert not (tmp_path / "stage" / "old.md").exists()
    assert not (tmp_path / "stage" / "runs" / "organism" / "seed-1").exists()


def test_a_further_study_gets_a_part_of_its_own(results, tmp_path):
    write_results(OTHER, [0])
    stage([Selection(STUDY, [0, 1]), Selection(OTHER, [0])], tmp_path / "stage")
    parts = yaml.safe_load((tmp_path / "stage" / "_toc.yml").read_text())["parts"]
    captions = [part["caption"] for part in parts]
    assert captions.index(f"Results: {OTHER.title}") == captions.index(f"Results: {STUDY.title}") + 1
    assert (
        staged_notebook(tmp_path / "stage", "studies/smoke/15_verdict")
        .cells[0]
        .source.startswith(f"# 15_verdict ({OTHER.title})")
    )
    link = f'href="../../results/{OTHER.name}/all/tables/verdicts.csv"'
    assert link in (tmp_path / "stage" / "studies" / "smoke" / "15_verdict.ipynb").read_text().replace("\\", "")


def test_a_published_study_has_chapters_with_a_banner_and_no_single_runs(results, tmp_path):
    write_results(PRETRAINED, [0, 2], published=True)
    shown = [Selection(STUDY, [0, 1]), *beside(Selection(STUDY, [0, 1]))]
    assert shown[1:] == [Selection(PRETRAINED, [0, 2], published=True)]
    stage(shown, tmp_path / "stage")
    folder = tmp_path / "stage"
    first = staged_notebook(folder, f"studies/{PRETRAINED.name}/10_C0_behaviour").cells[0].source
    assert ":::{admonition} Published results" in first and "of seeds 0, 2, were made by revision `" in first
    assert PRETRAINED.note in first and "Settings changed" not in first
    assert "and\na single run." in first and "](15_verdict.ipynb)" in first
    assert not (folder / "runs" / PRETRAINED.name).exists()
    assert not (folder / "studies" / PRETRAINED.name / "20_cost.ipynb").exists()
    assert (folder / "extra" / "results" / PRETRAINED.name / "seed-2" / "tables" / "behaviour.csv").exists()


def test_settings_changed_since_publication_are_named(results, tmp_path):
    write_results(PRETRAINED, [0], published=True)
    settings = tmp_path / "published" / PRETRAINED.name / "settings.yml"
    settings.write_text(settings.read_text().replace("confidence: 0.95", "confidence: 0.9") + "\nclaims: {C0: {}}\n")
    assert "Settings changed since then: confidence." in banner(Selection(PRETRAINED, [0], published=True))


def test_what_was_said_of_published_results_stays_with_them(results, tmp_path):
    write_results(PRETRAINED, [0], published=True)
    settings = tmp_path / "published" / PRETRAINED.name / "settings.yml"
    settings.write_text(settings.read_text() + "\ncaveats: {C2: Soup was cold.}\n")
    published, own = (Selection(PRETRAINED, [0], published=flag) for flag in (True, False))
    assert "Soup was cold." in banner(published, "12_C2_orthogonal")
    assert "Soup" not in banner(published, "13_C3_updates") + banner(own, "12_C2_orthogonal")


def test_own_results_replace_published_ones(results):
    write_results(PRETRAINED, [0, 1], published=True)
    write_results(PRETRAINED, [4])
    assert with_results(PRETRAINED) == Selection(PRETRAINED, [4])
    RunPaths(PRETRAINED.name, 4).notebook("05_projection").unlink()
    assert with_results(PRETRAINED) == Selection(PRETRAINED, [0, 1], published=True)


def test_studies_without_results_are_not_tested_and_their_settings_served(results, tmp_path):
    missing = [study.name for study in not_tested([Selection(STUDY, [0, 1])])]
    assert {"llama-2-7b", "llama-3.2-1b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b"} <= set(missing)
    write_generated(stage([Selection(STUDY, [0, 1])], tmp_path / "stage"), tmp_path / "stage")
    page = (tmp_path / "stage" / "generated" / "answer.md").read_text()
    assert 'href="studies/llama-2-7b.yml">Llama-2-7B</a>' in page
    assert (tmp_path / "stage" / "extra" / "studies" / "llama-2-7b.yml").exists()


def test_a_study_of_given_models_has_its_own_chapter_and_no_verdict(results, tmp_path):
    own = Selection(load_study("own-models"), [0])
    write_notebook(RunPaths("own-models").notebook("30_own_models"), "own-models", "")
    write_generated(stage([own], tmp_path / "stage"), tmp_path / "stage")
    contents = yaml.safe_load((tmp_path / "stage" / "_toc.yml").read_text())
    files = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    assert [file for file in files if file.startswith("notebooks/")] == ["notebooks/30_own_models"]
    assert "none of the paper's claims is judged" in (tmp_path / "stage" / "generated" / "studies.md").read_text()


def test_the_committed_contents_name_committed_files():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [contents["root"], *(c["file"] for part in contents["parts"] for c in part["chapters"])]
    assert [f for f in files if not any((ROOT / f"{f}{suffix}").exists() for suffix in (".md", ".ipynb"))] == []


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("[m](../book/method.md)", "notebooks/07", "[m](../method.md)"),
        ("[m](../book/method.md#x)", "runs/organism/seed-0/05", "[m](../../../method.md#x)"),
        ("[m](method.md)", "index", "[m](method.md)"),
        ("[p](../notebooks/05_projection.ipynb)", "method", "[p](runs/organism/seed-0/05_projection.ipynb)"),
        ("[p](05_projection.ipynb)", "notebooks/07", "[p](../runs/organism/seed-0/05_projection.ipynb)"),
        ("[t](../results/s/all/t.csv)", "notebooks/07", '<a href="../results/s/all/t.csv">t</a>'),
        ("[t](../results/s/all/t.csv)", "index", '<a href="results/s/all/t.csv">t</a>'),
        ('<a href="../results/t.csv">', "runs/organism/seed-0/05", '<a href="../../../results/t.csv">'),
        ("![f](../../book/x.png) and a/../results/b", "notebooks/07", "![f](../../book/x.png) and a/../results/b"),
    ],
)
def test_links_lead_to_the_same_file_from_any_place(text, place, expected):
    assert relocate(text, PurePosixPath(place), PLACES) == expected


def test_a_label_stays_in_the_first_copy_only(results, tmp_path):
    stage([Selection(STUDY, [0, 1])], tmp_path / "stage")
    first = staged_notebook(tmp_path / "stage", "runs/organism/seed-0/05_projection").cells[0].source
    second = staged_notebook(tmp_path / "stage", "runs/organism/seed-1/05_projection").cells[0].source
    assert "(label-05_projection)=" in first and "$$ (eq-05_projection)" in first
    assert "(label-05_projection)=" not in second and "(eq-05_projection)" not in second
    assert "{eq}`eq-05_projection`" in second
    assert second.startswith("# 05_projection (organism, seed 1)")


def test_missing_results_name_the_command_that_makes_them(results, tmp_path):
    RunPaths("organism", 1).notebook("05_projection").unlink()
    with pytest.raises(MissingInput, match=r"05_projection.ipynb is missing: make it with `make book STUDY=organism"):
        stage([Selection(STUDY, [0, 1])], tmp_path / "stage")


@pytest.mark.parametrize(
    ("made", "said"), [("0", "seeds 0"), ([1, 2], "seeds 1, 2"), ("published", "published seeds 0, 1")]
)
def test_a_table_of_other_seeds_than_those_shown_is_refused(results, made, said):
    """As after a chapter that was run by hand with some of the seeds."""
    for seed in (0, 1):
        publish_behaviour(STUDY, seed)
    check_seeds(Selection(STUDY, [0, 1]))
    record = RunPaths("organism").table("verdicts").with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"parameters": {"seeds": made}}))
    with pytest.raises(StudyError) as error:
        stage([Selection(STUDY, [0, 1])], results.parent / "stage")
    text = f"verdicts.csv was made from {said}, and this report shows seeds 0, 1: delete it and run `make book STUDY="
    assert text in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_reads_no_seeds_passes(results):
    record = RunPaths("organism").table("verdicts").with_suffix(".json")
    record.write_text(json.dumps({key: v for key, v in json.loads(record.read_text()).items() if key != "parameters"}))
    check_seeds(Selection(STUDY, [0, 1]))


def test_the_map_of_the_code_has_every_room_and_helpers_never_use_pipeline():
    uses, _ = imports()
    folders = {
        f"{wing}.{path.stem}" for wing in WINGS for path in (ROOT / "src" / wing).iterdir() if path.stem[0] not in "_."
    }
    assert set(uses) == folders and "helpers.spectra" in uses["helpers.subspaces"]
    assert not [room for room, used in uses.items() if room.startswith("helpers") and "pipeline" in str(used)]
    page = code_map()
    assert page.count("<text") == len(folders) and "marker-end" in page and "\n\n" not in page.partition("</svg>")[0]


def test_a_missing_result_is_one_sentence_on_the_command_line(results, tmp_path, capsys):
    assert report.main(["organism", "--seeds", "7", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "make book STUDY=organism SEEDS=7" in said


def test_a_notebook_with_an_error_output_is_refused(results, tmp_path):
    path = RunPaths("organism", 0).notebook("05_projection")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue="bad", traceback=[]))
    nbformat.write(notebook, path)
    with pytest.raises(StudyError, match=r"05_projection.ipynb failed when it ran \(ValueError: bad\)"):
        stage([Selection(STUDY, [0, 1])], tmp_path / "stage")


def test_a_notebook_that_papermill_saw_fail_is_refused(results, tmp_path):
    write_notebook(RunPaths("organism").notebook("15_verdict"), "organism", "", exception=True)
    with pytest.raises(StudyError, match="15_verdict.ipynb failed when it ran"):
        stage([Selection(STUDY, [0, 1])], tmp_path / "stage")


@pytest.mark.parametrize("payload", [*PAYLOADS, "<svg onload=alert(1)>", "<a href=' jAvascript:x'>", "<p onclick=x>"])
def test_hostile_html_is_shown_as_text(payload):
    cleaned = clean_html(payload)
    assert not any(tag in cleaned for tag in ("<script", "<img", "<iframe", "<svg", "</body", "</div", "</pre"))
    assert 'href=" j' not in cleaned and "<p onclick" not in cleaned


def test_tables_and_figures_pass_unchanged():
    table = '<table border="1" class="dataframe"><thead><tr><th>a &lt; b</th></tr></thead></table>'
    image = "data:image/png;base64,AA=="
    picture = f'<picture><source media="(max-width: 40rem)" srcset="{image}"><img alt="x" src="{image}"></picture>'
    figure = f'<figure id="f">{picture}<figcaption>c &amp; d</figcaption></figure>'
    assert clean_html(table) == table
    assert clean_html(figure) == figure
    assert "srcset" not in clean_html(figure.replace(f'srcset="{image}"', 'srcset="https://a.test/x.png"'))


def test_outputs_that_run_code_are_not_shown():
    output = {"output_type": "display_data", "data": {"application/javascript": "x()", "text/latex": "$x$"}}
    assert list(clean_output(output)["data"]) == ["text/plain"]


def test_staged_notebooks_hold_nothing_of_the_machine(results, tmp_path):
    stage([Selection(STUDY, [0, 1])], tmp_path / "stage")
    notebook = json.loads((tmp_path / "stage" / "notebooks" / "15_verdict.ipynb").read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
