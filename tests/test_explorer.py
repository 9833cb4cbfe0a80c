"""The page Explorer in a real browser, opened from the disk: what it says is what the tables of the seeds give."""

import functools
import json
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers.claims.over_seeds import measures_over_seeds, over_seeds, overlaps_by_group, overlaps_over_seeds
from helpers.evaluation.measures import GRID_MEASURES
from helpers.paths import ROOT, RunPaths
from helpers.studies.settings import load_study
from pipeline.report.chapters import Chapter, Staged
from pipeline.report.explorer import array, explorer, thousandths
from pipeline.report.what_next import EXPLORED
from pipeline.results.tables import SCHEMAS, read_csv, write_csv
from pipeline.runs.selections import Selection

SEEDS = {"organism": [0, 1, 2], "smollm2-135m": [0]}
CHOICE = ["subspace", "control", "task", "fraction"]
LIMIT = 250_000  # bytes of the data of one study


@functools.cache
def seeds_of(study: str, table: str) -> pd.DataFrame:
    """A published table of the seeds, one below the other; empty where it was not measured."""
    paths = [RunPaths(study, seed, published=True).table(table) for seed in SEEDS[study]]
    found = [read_csv(path, table) for path in paths if path.exists()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def write_chapters(study: str) -> None:
    """The tables over all seeds, made as the chapters make them."""
    projection, measures = seeds_of(study, "projection"), ["energy_kept", *GRID_MEASURES]
    layers = ["layer", "in_band", "pair", "eta"]
    made = {
        name: measures_over_seeds(projection[projection["mode"] == mode], CHOICE, measures, 0.95)
        for name, mode in (("parallel_summary", "parallel"), ("orthogonal_summary", "orthogonal"))
    }
    scaling = seeds_of(study, "scaling")
    made["scaling_summary"] = measures_over_seeds(scaling, ["task", "alpha"], list(GRID_MEASURES), 0.95)
    made["energy_summary"] = over_seeds(seeds_of(study, "energy"), [*CHOICE, "module"], "energy_kept", 0.95)
    made["update_overlap_summary"] = overlaps_by_group(seeds_of(study, "update_overlap"), 0.95)
    activations = overlaps_over_seeds(seeds_of(study, "activation_overlap"), ["model", *layers], 0.95)
    made["activation_overlap_summary"] = activations
    if len(matched := seeds_of(study, "matched_activations")):
        made["matched_activations_summary"] = overlaps_over_seeds(matched, layers, 0.95)
    for name, table in made.items():
        write_csv(RunPaths(study).table(name), name, table[list(SCHEMAS[name])])


def staged(study: str) -> Staged:
    place = PurePosixPath("notebooks/13_C3_updates")
    return Staged(Selection(load_study(study), SEEDS[study], published=True), [Chapter(Path("13"), place, "")], [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The page and its data, without the rest of a report."""
    root = tmp_path_factory.mktemp("explorer, été")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBSPACES_RESULTS", str(root / "results"))
        for study in SEEDS:
            write_chapters(study)
        files = explorer(staged(study) for study in SEEDS)
    for name, text in files.items():
        path = root / "page" / name.removeprefix("extra/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_page(root / "page", files["generated/explorer.md"])
    return root / "page"


def write_page(folder: Path, part: str) -> None:
    """The page of the book as bare HTML."""
    source = (ROOT / "book" / "explorer.md").read_text(encoding="utf-8")
    places = re.findall(r"^<div data-explorer.*</div>$", source, re.MULTILINE)
    style, script = ((ROOT / "book" / "_static" / f"explorer.{kind}").as_uri() for kind in ("css", "js"))
    head = f'<meta charset="utf-8"><link rel="stylesheet" href="{style}"><script defer src="{script}"></script>'
    body = "\n".join([part, *places])
    (folder / "explorer.html").write_text(f'<!doctype html><html lang="en">{head}<body>{body}</body></html>', "utf-8")


@pytest.fixture(scope="module")
def context(chromium):
    context = chromium.new_context(viewport={"width": 400, "height": 800})
    yield context
    context.close()


@pytest.fixture
def page(context):
    """An empty page; what it complains of fails the test."""
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else errors.append(request.url))
    yield page
    page.close()
    assert errors == []


def opened(page, folder: Path, **choice: object):
    """The page with a choice in its address, as soon as it shows numbers."""
    address = (folder / "explorer.html").as_uri()
    page.goto("about:blank")
    page.goto(address + ("#" + "&".join(f"{key}={value}" for key, value in choice.items()) if choice else ""))
    page.wait_for_function("document.getElementById('explorer-about')?.textContent")
    return page


def sentence(page, panel: str) -> str:
    return page.locator(f'[data-explorer="{panel}"] .said').inner_text().replace("\u00a0", " ")


def expected(values: pd.Series) -> str:
    """One value per seed as the page says it: mean and t interval, by scipy."""
    values = values.dropna()
    parts = [values.mean()]
    if len(values) > 1:
        parts += stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    texts = [f"{float(f'{part:.10g}'):.3f}".replace("-", "−") for part in parts]  # tables hold ten digits
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def per_seed(study: str, table: str, value: str, **where: object) -> pd.Series:
    """A column of a table of the seeds where others have these values: its mean for each seed."""
    found = seeds_of(study, table)
    for column, wanted in where.items():
        found = found[found[column] == wanted]
    assert len(found), where
    return found.groupby("seed")[value].mean()


def choice_of(**where: object) -> dict:
    return {"k": where["fraction"], **{key: where[key] for key in ("subspace", "control", "task")}}


@pytest.mark.parametrize(
    ("study", "scale", "mode", "where"),
    [
        ("organism", "answers", "orthogonal", ("alignment", "top-k", "contaminated", 0.25)),
        ("organism", "answers", "parallel", ("safety", "random-k", "harmful", 0.75)),
        ("organism", "margins", "parallel", ("safety", "random", "useful", 0.5)),
        ("smollm2-135m", "margins", "orthogonal", ("alignment", "top-k", "contaminated", 0.5)),
    ],
)
def test_behaviour_is_that_of_the_tables(page, folder, study, scale, mode, where):
    where = dict(zip(CHOICE, where, strict=True))
    opened(page, folder, study=study, scale=scale, mode=mode, **choice_of(**where))
    said, ending = sentence(page, "behaviour"), "" if scale == "answers" else "_margin"
    for measure in ("harm", "utility"):
        assert expected(per_seed(study, "projection", measure + ending, mode=mode, **where)) in said
    assert ("One seed, which has no interval." in said) == (len(SEEDS[study]) == 1)
    fine_tuned = per_seed(study, "scaling", f"harm{ending}", task=where["task"], alpha=1)
    rows = page.locator('[data-explorer="behaviour"] table tbody tr').all_inner_texts()
    assert expected(fine_tuned) in rows[-1].replace("\u00a0", " ") and rows[-1].startswith("fine-tuned model")


@pytest.mark.parametrize("module", ["all", "q_proj", "norm"])
def test_energy_is_that_of_the_tables(page, folder, module):
    where = {"subspace": "safety", "control": "random", "task": "useful", "fraction": 0.15}
    opened(page, folder, study="organism", part=module, **choice_of(**where))
    found = per_seed("organism", "energy", "energy_kept", module=module, **where)
    assert expected(found) in sentence(page, "energy")
    cell = page.locator('[data-explorer="energy"] table.map td[aria-current]')
    assert cell.inner_text() == f"{found.mean():.2f}" or abs(float(cell.inner_text()) - found.mean()) < 0.0056


@pytest.mark.parametrize(
    ("layer", "module"), [("all", "all"), ("all", "v_proj"), (3, "all"), (3, "down_proj"), (-1, "lm_head")]
)
def test_overlaps_of_updates_are_those_of_the_tables(page, folder, layer, module):
    where = {"a": "alignment", "b": "harmful", "eta": 0.7}
    where |= {name: one for name, one in (("layer", layer), ("module", module)) if one != "all"}
    opened(page, folder, study="organism", pair="alignment-harmful", eta=0.7, layer=layer, module=module)
    said = sentence(page, "updates")
    assert expected(per_seed("organism", "update_overlap", "mso", **where)) in said
    assert f"random subspaces {per_seed('organism', 'update_overlap', 'random', **where).mean():.3f}" in said


@pytest.mark.parametrize(
    ("study", "table", "model", "pair"),
    [
        ("organism", "activation_overlap", "contaminated", "benign-harmful"),
        ("organism", "matched_activations", "aligned, one form, centred", "benign-harmful"),
        ("smollm2-135m", "activation_overlap", "base", "useful-harmful"),
    ],
)
def test_overlaps_of_activations_are_those_of_the_tables(page, folder, study, table, model, pair):
    found = seeds_of(study, table)
    pair = pair if pair in set(found["pair"]) else found["pair"].iloc[0]
    where = {"layer": 3, "eta": 0.5, "pair": pair} | ({"model": model} if "model" in found else {})
    opened(page, folder, study=study, model=model.replace(" ", "+"), prompts=pair, depth=3, spread=0.5)
    assert expected(per_seed(study, table, "mso", **where)) in sentence(page, "activations")


def test_what_was_not_measured_is_a_sentence(page, folder):
    opened(page, folder, study="organism", k=0.15, layer=3, module="lm_head")
    assert "behaviour was not measured at this k, only at 0.01, 0.25, 0.5" in sentence(page, "behaviour")
    assert "not measured. Overlaps are of matrices" in sentence(page, "updates")
    unjudged = {"subspace": "safety", "control": "top-k", "task": "contaminated", "fraction": 0.5}
    assert per_seed("smollm2-135m", "projection", "harm", mode="orthogonal", **unjudged).isna().all()
    opened(page, folder, study="smollm2-135m", mode="orthogonal", scale="answers", **choice_of(**unjudged))
    assert "harm (judge, 1–5) not measured" in sentence(page, "behaviour")
    assert "not measured for this choice" in page.locator('[data-explorer="behaviour"] .charts').inner_text()


def test_what_the_address_asks_for_in_vain_is_said(page, folder):
    about = opened(page, folder, study="nowhere").locator("#explorer-about").inner_text()
    assert "no numbers of a study nowhere: shown is Model organism" in about
    about = opened(page, folder, study="smollm2-135m", subspace="nowhere").locator("#explorer-about").inner_text()
    assert "Subspace = nowhere is not in this study: shown is alignment" in about
    assert "one seed, which has no interval" in about


def test_a_missing_file_is_said(page, folder, tmp_path):
    (tmp_path / "explorer.html").write_text((folder / "explorer.html").read_text(encoding="utf-8"), encoding="utf-8")
    about = opened(page, tmp_path).locator("#explorer-about").inner_text()
    assert "the file explorer/organism.js beside this page is missing" in about


def test_keys_choose_and_the_address_keeps_the_choice(page, folder):
    opened(page, folder)
    before = sentence(page, "energy")
    page.locator("#explorer-k").press("ArrowRight")
    page.locator("#explorer-control").press("r")  # the first choice that begins with it
    assert page.locator("#explorer-k").get_attribute("aria-valuetext") == "0.3"
    assert "k = 0.3, random-k" in sentence(page, "energy") and sentence(page, "energy") != before
    address, said = page.url, [sentence(page, name) for name in ("behaviour", "energy", "updates", "activations")]
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("document.getElementById('explorer-about')?.textContent")
    assert [sentence(page, name) for name in ("behaviour", "energy", "updates", "activations")] == said
    page.locator("#explorer-study").select_option("smollm2-135m")
    page.wait_for_function("document.getElementById('explorer-about').textContent.includes('one seed')")
    assert "study=smollm2-135m" in page.url and "k = 0.3, random-k" in sentence(page, "energy")


def test_the_link_of_a_chapter_leads_to_what_it_is_about(page, folder):
    """The address is written as *What next* writes it; an address that names no panel leads to the top."""
    for chapter, (name, choices) in EXPLORED.items():
        opened(page, folder, study="organism", panel=name, **choices)
        seen = f"document.querySelector('[data-explorer={name}]').getBoundingClientRect().top < innerHeight"
        page.wait_for_function(seen)
        known = {control: page.locator(f"#explorer-{control} option:checked").inner_text() for control in choices}
        assert known == {key: {"parallel": "kept", "orthogonal": "removed"}.get(of, of) for key, of in choices.items()}
        assert sentence(page, name) and chapter
    assert opened(page, folder, study="organism", panel="nowhere").evaluate("scrollY") == 0


def test_pointing_at_a_cell_chooses_it(page, folder):
    opened(page, folder, study="organism")
    page.locator('[data-explorer="updates"] table.map tbody tr').nth(3).locator("td").nth(4).click()
    assert page.locator('[data-explorer="updates"] td[aria-current]').count() == 1
    assert "layer=1" in page.url and page.locator("#explorer-layer option:checked").inner_text() == "1"


def test_everything_has_a_name_and_fits_a_telephone(page, folder):
    opened(page, folder)
    assert page.locator(":is(select, input)").count() == 16
    assert page.evaluate("[...document.querySelectorAll('select, input')].every((e) => e.labels.length === 1)")
    assert page.evaluate("[...document.querySelectorAll('.drawn > .charts svg[role=img]')].every((e) => e.ariaLabel)")
    assert page.locator('.said[aria-live="polite"]').count() == 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_data_are_small_and_links_lead_to_the_tables(page, folder):
    assert {path.stem for path in (folder / "explorer").iterdir()} == set(SEEDS)
    assert all(path.stat().st_size < LIMIT for path in (folder / "explorer").iterdir())
    opened(page, folder, study="organism")
    links = page.locator('[data-explorer="updates"] .from a').evaluate_all(
        "all => all.map((a) => a.getAttribute('href'))"
    )
    tables = "results/organism/all/tables"
    assert links == [f"{tables}/update_overlap_summary.csv", "notebooks/13_C3_updates.html"]


def test_a_study_without_such_tables_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "none"))
    files = explorer([staged("organism")])
    assert (
        list(files) == ["generated/explorer.md"]
        and "tables have other columns: Model organism." in files["generated/explorer.md"]
    )


def test_two_rows_of_one_place_are_refused():
    row = {"pair": "a-b", "eta": 0.5, "mean": 0.1, "low": np.nan, "high": np.nan, "seeds": 1}
    with pytest.raises(ValueError, match="non-unique"):
        array(pd.DataFrame([row, row]), ["pair", "eta"])


@given(st.lists(st.floats(-1e6, 1e6), max_size=5))
def test_numbers_are_rounded_as_the_pages_round_them(values):
    shown = [f"{code / 1000:.3f}" for code in thousandths(pd.Series(values, dtype=float))]
    assert [text.replace("-0.000", "0.000") for text in shown] == [
        f"{value:.3f}".replace("-0.000", "0.000") for value in values
    ]
    assert json.dumps(thousandths(pd.Series([np.nan]))) == "[null]"
