"""What is cited and read by machines: one version, complete metadata, verdicts that are those of the tables."""

import hashlib
import json
import math
import re
import shutil
import tomllib
from datetime import date

import jsonschema
import pandas as pd
import pytest
import yaml
from rocrate.rocrate import ROCrate

from helpers.paths import ROOT, RunPaths
from helpers.studies.settings import load_study
from pipeline.report import crate
from pipeline.report.chapters import Staged
from pipeline.report.crate import write_crate
from pipeline.report.machine_readable import FOUND, NAME, SCHEMA, machine_readable, write_machine_readable
from pipeline.report.pages import citation
from pipeline.report.staging import stage
from pipeline.results import project, provenance
from pipeline.runs.selections import Selection
from synthetic_report import write_results

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
ZENODO = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))


def test_the_citation_file_has_what_its_format_asks_for():
    """The keys and kinds of the Citation File Format 1.2.0."""
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert {"message", "title", "authors", "version", "license", "date-released", "abstract", "keywords"} <= {*CITATION}
    assert all(isinstance(CITATION[key], str) and CITATION[key] for key in ("message", "title", "abstract", "version"))
    assert date.fromisoformat(CITATION["date-released"]) and len({*CITATION["keywords"]}) == len(CITATION["keywords"])
    for entry in (CITATION, *CITATION["references"]):
        assert entry["authors"] and entry["title"] and entry["type"]
        for author in entry["authors"]:
            assert {*author} in ({"name"}, {"family-names", "given-names"})
    assert all({*one} == {"type", "value"} for entry in CITATION["references"] for one in entry["identifiers"])


def test_the_archive_is_told_the_same():
    same = {"title": "title", "version": "version", "keywords": "keywords", "license": "license"}
    assert {key: ZENODO[other] for key, other in same.items()} == {key: CITATION[key] for key in same}
    assert ZENODO["publication_date"] == CITATION["date-released"] and ZENODO["upload_type"] == "software"
    assert ZENODO["description"] == CITATION["abstract"].strip()
    assert [one["name"] for one in ZENODO["creators"]] == [one["name"] for one in CITATION["authors"]]
    assert [one["identifier"] for one in ZENODO["related_identifiers"]] == ["arXiv:2505.14185"]


def test_there_is_one_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert {VERSION} == {CITATION["version"], ZENODO["version"], project.version(), provenance.environment()["version"]}
    assert f"version = {{{VERSION}}}" in citation() and provenance.revision()["git_revision"] in citation()
    assert CITATION.get("repository-code", "") == project.repository()


@pytest.fixture(scope="module", params=["own", "published"])
def staged(request, tmp_path_factory):
    """A study with verdicts, staged for a report."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBSPACES_RESULTS", str(root / "results"))
        patch.setenv("SUBSPACES_PUBLISHED", str(root / "published"))
        selection = Selection(load_study("organism"), [0, 1], published=request.param == "published")
        write_results(selection.study, selection.seeds, selection.published)
        yield stage([selection], root / "stage")


def same(found: object, expected: object) -> bool:
    """Whether a value of the file is that of a table, in which nothing is NaN."""
    if found is None:
        return expected is None or (isinstance(expected, float) and math.isnan(expected))
    return found == expected


def test_the_file_fits_its_schema(staged, tmp_path):
    write_machine_readable(staged, tmp_path)
    schema = json.loads((tmp_path / SCHEMA.name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads((tmp_path / NAME).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(found)
    [study] = found["studies"]
    assert found["version"] == VERSION and found["schema"] == SCHEMA.name
    assert study["seeds"] == [0, 1] and study["published"] == staged[0].selection.published
    broken = study["claims"][0] | {"strict": {"verdict": "distinct"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(found | {"studies": [study | {"claims": [broken]}]})


def test_studies_that_judge_no_claim_are_not_among_the_verdicts(staged, tmp_path):
    others = [Staged(Selection(load_study(name), [0]), [], []) for name in ("organism-bench", "conditions")]
    write_machine_readable([*staged, *others], tmp_path)
    found = json.loads((tmp_path / NAME).read_text(encoding="utf-8"))
    assert [study["name"] for study in found["studies"]] == ["organism"]


def test_every_number_is_that_of_the_tables(staged):
    [study] = machine_readable(staged)["studies"]
    folder = RunPaths("organism")
    verdicts, *tables = (pd.read_csv(folder.table(name)) for name in ("verdicts", "stated", "strict"))
    rows = verdicts.set_index("claim").to_dict("index")
    assert [claim["name"] for claim in study["claims"]] == list(rows)
    for claim in study["claims"]:
        row = rows[claim["name"]]
        assert claim["stated"]["verdict"] == row["stated"] and same(claim["stated"]["statistic"], row["stated_by"])
        assert all(same(claim["stated"][key], row[f"stated_{key}"]) for key in FOUND)
        assert (claim["strict"] is None) == (not load_study("organism").claims[claim["name"]].strict)
        if claim["strict"]:
            assert claim["strict"]["verdict"] == row["strict"] and same(claim["strict"]["statistic"], row["strict_by"])
            names = (*FOUND, "margin", "share_of_seeds", "share_low", "share_high", "share_seeds")
            assert all(same(claim["strict"][key], row[key]) for key in names)
        expected = [one for table in tables for one in table[table["claim"] == claim["name"]].to_dict("records")]
        assert len(expected) == len(claim["statistics"]) > 0
        for one, statistic in zip(expected, claim["statistics"], strict=True):
            assert statistic["statistic"] == one["statistic"]
            assert all(same(statistic[key], one[key]) for key in FOUND)
            assert same(statistic["outcome"], one.get("outcome", one.get("decision")))


def test_the_hashes_are_those_of_the_records(staged):
    [study] = machine_readable(staged)["studies"]
    for name, found in study["provenance"]["tables"].items():
        [place] = RunPaths("organism").root.parents[1].glob(name)
        assert provenance.sha256(place) == found
    assert {name.split("/")[-1] for name in study["provenance"]["tables"]} == {
        "verdicts.csv",
        "stated.csv",
        "strict.csv",
    }
    if staged[0].selection.published:
        assert study["provenance"]["versions"] == [VERSION] and len(study["provenance"]["seeds"]) == 2


def test_the_report_is_a_crate_that_its_library_reads(staged, tmp_path):
    """Every file that is served is in it with its hash, and nothing that is not there; made again it is the same."""
    folder = tmp_path / "crate"
    shutil.copytree(staged[0].selection.over_seeds[0].root, folder / "results")
    write_machine_readable(staged, folder)
    write_crate(folder)
    first = (folder / crate.NAME).read_bytes()
    write_crate(folder)
    assert (folder / crate.NAME).read_bytes() == first
    (folder / "index.html").touch()
    read = ROCrate(folder)
    named = {entity.id: entity for entity in read.data_entities}
    served = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {*named} == served - {crate.NAME} and "results/tables/verdicts.csv" in named
    for name, entity in named.items():
        known = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert name == "index.html" or entity["sha256"] == known
    root = read.root_dataset
    assert (root["name"], root["license"]["name"]) == (CITATION["title"], CITATION["license"])
    assert read.mainEntity.id == "index.html" and VERSION in {part.get("version") for part in root["isBasedOn"]}
