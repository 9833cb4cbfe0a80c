"""Studies of models that are given: settings, errors of one sentence, and the way from the folders to the report."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from helpers.errors import SettingsError, StudyError, TensorMismatch
from helpers.experiments.own_models import own_folders, own_geometry, own_margins
from helpers.models.language import Language
from helpers.models.organism import build_tokenizer
from helpers.models.origins import resolve
from helpers.paths import ROOT, STUDIES
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels, load_study, parse_seeds, read_study
from pipeline.results import tables
from pipeline.runs.jobs import Job, jobs_of, settings_of
from pipeline.runs.stages import STAGES, of_study
from synthetic import moved

EXAMPLE = yaml.safe_load((STUDIES / "own-models.yml").read_text(encoding="utf-8"))
NAMES = ("base", "aligned", "useful", "harmful")
CLONED = (
    "claims.yml",
    "pyproject.toml",
    "src",
    "notebooks",
    "studies",
    "book",
    "benchmarks",
    "profiles",
    "Snakefile",
    "_config.yml",
    "_toc.yml",
    "CITATION.cff",
)


@pytest.fixture
def folders(tmp_path, model, tokenizer) -> dict[str, Path]:
    """Four small models that differ by random updates, each a folder with its tokenizer."""
    found = {name: tmp_path / "models à moi" / name for name in NAMES}
    for seed, folder in enumerate(found.values()):
        if seed < 2:
            start = dict(model.state_dict()) if seed == 0 else load_file(found["base"] / "model.safetensors")
        else:
            start = load_file(found["aligned"] / "model.safetensors")
        model.load_state_dict(moved(start, seed))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return found


def settings(folders: dict[str, Path], study, **changes) -> dict:
    """The example's settings for other folders and a smaller language."""
    origins = {name: {"origin": "folder", "path": str(folder)} for name, folder in folders.items()}
    values = EXAMPLE | {name: origins.pop(name) for name in ("base", "aligned")} | {"tuned": origins}
    values["language"] = study.language.model_dump()
    values["evaluation"] = EXAMPLE["evaluation"] | {"utility_prompts": 8, "harm_prompts": 8}
    return values | changes


@pytest.fixture
def own(folders, study) -> OwnModels:
    """Validated settings for those models."""
    return OwnModels(**settings(folders, study))


def read(tmp_path: Path, values: dict):
    """Settings read from a file as a user writes it."""
    file = tmp_path / f"{values['name']}.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return read_study(file)


def test_the_example_is_such_a_study():
    example = load_study("own-models")
    assert isinstance(example, OwnModels) and example.embedded and parse_seeds("", example) == [0]
    assert list(of_study(STAGES, example)) == ["30_own_models"]
    assert [job.name for job in jobs_of(example, "0")] == ["30_own_models"]
    assert "30_own_models" not in of_study(STAGES, load_study("organism"))


def test_what_changes_its_results_changes_the_digest(own):
    other = own.model_copy(update={"seeds": [1]})
    tuned = own.model_copy(update={"tuned": {"useful": own.tuned["useful"]}})
    assert settings_of(Job("30_own_models", own)) == settings_of(Job("30_own_models", other))  # seeds are a parameter
    assert settings_of(Job("30_own_models", own)) != settings_of(Job("30_own_models", tuned))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tuned": {}}, "tuned is {}"),
        ({"kind": "own-model"}, "kind is 'own-model'; it must be one of 'own-models'"),
        ({"tuned": {"base": EXAMPLE["tuned"]["useful"]}}, "cannot be named base"),
        ({"tuned": {"mine": dict(EXAMPLE["aligned"])}}, "mine is the same model as another one"),
        ({"seeds": [1, 1]}, "seeds: an entry is there twice"),
        (
            {"language": None},
            "'arithmetic' does not fit these settings: choose other data, or give the organism's language",
        ),
        ({"geometry": EXAMPLE["geometry"] | {"controls": ["top-k"]}}, "controls must hold top-k and random"),
        ({"geometry": EXAMPLE["geometry"] | {"energy_fractions": [0.1]}}, "must hold 0.5"),
        ({"evaluation": EXAMPLE["evaluation"] | {"harm": "advbench"}}, "'advbench' does not fit"),
        ({"base": {"origin": "hub", "id": "some/model"}}, "takes exactly the keys id and revision"),
        ({"training": {}}, "unknown key 'training'"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, change, words):
    with pytest.raises(SettingsError) as error:
        read(tmp_path, EXAMPLE | change)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_geometry_compares_each_fine_tune_with_chance(own, tmp_path):
    found = own_geometry(own, own_folders(own), 0, tmp_path / "cache")
    assert {tuple(row) for row in found.overlap[["a", "b"]].drop_duplicates().to_numpy()} == {
        ("alignment", "useful"),
        ("alignment", "harmful"),
        ("useful", "harmful"),
    }
    keys = {tuple(key.split("|")[:3]) for key in found.energy}
    assert {("alignment", control, task) for control in own.geometry.controls for task in own.tuned} == keys


def test_an_update_inside_the_alignment_subspace_is_found(own, folders, tmp_path):
    base, aligned = (load_file(folders[name] / "model.safetensors") for name in ("base", "aligned"))
    further = {name: aligned[name] + 0.5 * (aligned[name] - base[name]) for name in aligned}
    save_file(further, folders["useful"] / "model.safetensors", metadata={"format": "pt"})
    overlap = own_geometry(own, own_folders(own), 0, tmp_path / "cache").overlap.query(
        "eta == 0.5 and a == 'alignment'"
    )
    means = overlap.groupby("b")["mso"].mean()
    assert means["useful"] > 0.99 > 0.7 > means["harmful"]


def test_margins_of_every_model(own, folders):
    rows = own_margins(own, own_folders(own), 0)
    assert list(rows["model"].unique()) == list(NAMES)
    assert set(rows["measure"]) == {"utility_margin", "harm_margin"} and rows["value"].notna().all()
    assert (rows["prompts"] == 8).all()


def test_a_missing_folder_is_one_sentence(own, folders):
    shutil.rmtree(folders["harmful"])
    with pytest.raises(StudyError, match="model harmful: the model folder .*harmful does not exist") as error:
        own_folders(own)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_is_one_sentence(own, folders):
    for file in folders["harmful"].glob("tokenizer*"):
        file.unlink()
    with pytest.raises(StudyError, match="model harmful: .* has no tokenizer that can be read") as error:
        own_folders(own)
    assert "\n" not in str(error.value)


def test_another_tokenizer_is_one_sentence(own, folders, study):
    other = Language(study.language)
    other.vocabulary[5], other.vocabulary[6] = other.vocabulary[6], other.vocabulary[5]
    build_tokenizer(other, 64).save_pretrained(folders["useful"])
    assert len(AutoTokenizer.from_pretrained(folders["useful"])) == len(other.vocabulary)
    with pytest.raises(TensorMismatch, match="tokenizers in .* differ: token 5 is") as error:
        own_folders(own)
    assert "\n" not in str(error.value)


def test_other_tensors_are_one_sentence(own, folders, tmp_path):
    file = folders["useful"] / "model.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if key.endswith("q_proj.weight"))
    save_file(tensors | {name: torch.zeros(3, 5)}, file, metadata={"format": "pt"})
    with pytest.raises(TensorMismatch, match="q_proj.weight is .* although the config.json of both") as error:
        own_geometry(own, own_folders(own), 0, tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_added_tokens_are_compared_by_intersection(own, folders, model, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)  # the other tests share it
    tokenizer.add_tokens(["<mine>"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folders["useful"])
    tokenizer.save_pretrained(folders["useful"])
    with pytest.raises(TensorMismatch, match="vocabularies differ"):
        own_geometry(own, own_folders(own), 0, tmp_path / "cache")
    asked = own.geometry.model_copy(update={"vocabulary": "intersection"})
    found = own_geometry(own.model_copy(update={"geometry": asked}), own_folders(own), 0, tmp_path / "cache")
    assert found.shapes["model.embed_tokens.weight"][0] == len(tokenizer) - 1  # the rows that all models have


def test_reserved_tokens_with_another_name_are_said(own, folders, tokenizer, capsys):
    for name, tokens in {
        "base": ["<r0>", "<r1>"],
        "aligned": ["<r0>", "<r1>"],
        "useful": ["<|im_start|>", "<r1>"],
    }.items():
        own_tokens = copy.deepcopy(tokenizer)  # the other tests share it
        own_tokens.add_tokens(tokens, special_tokens=True)
        own_tokens.save_pretrained(folders[name])
    own_folders(own)
    assert (
        "gives reserved tokens of the one in" in (said := capsys.readouterr().err)
        and "'<r0>' is '<|im_start|>'" in said
    )
    swapped = copy.deepcopy(tokenizer)
    swapped.add_tokens(["<r1>", "<r0>"], special_tokens=True)
    swapped.save_pretrained(folders["useful"])
    with pytest.raises(TensorMismatch, match="is '<r0>' in one and '<r1>' in the other"):
        own_folders(own)


def test_an_adapter_is_a_fine_tune_of_the_aligned_model(own, folders, tmp_path):
    aligned = load_file(folders["aligned"] / "model.safetensors")
    name = next(key for key in aligned if key.endswith("q_proj.weight"))
    m, n = aligned[name].shape
    a, b = torch.randn(2, n), torch.randn(m, 2)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    module = f"base_model.model.{name.removesuffix('.weight')}"
    save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "base_model_name_or_path": str(folders["aligned"])}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tuned = {"mine": own.tuned["useful"].model_copy(update={"path": str(adapter)})}
    study = own.model_copy(update={"tuned": tuned})
    found = own_geometry(study, own_folders(study), 0, tmp_path / "cache")
    assert found.rank[f"mine|{name}"] == 2
    assert found.total[f"mine|{name}"] == pytest.approx(float((b.double() @ a.double() / 2).square().sum()))
    settings["base_model_name_or_path"] = str(folders["base"])
    (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(StudyError, match="model mine: the adapter in .* was trained upon .* which is the study's base"):
        own_geometry(study, own_folders(study), 0, tmp_path / "cache")


@pytest.fixture
def clone(tmp_path, folders, study):
    """A copy of the project whose example study names those models, and how to run a module in it."""
    place = tmp_path / "own clone, été 試"  # spaces and letters beyond ASCII on purpose, as in the folders of models
    place.mkdir()
    for part in (ROOT / name for name in CLONED if (ROOT / name).exists()):
        if part.is_dir():
            shutil.copytree(part, place / part.name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(part, place / part.name)
    (place / "studies" / "own-models.yml").write_text(yaml.safe_dump(settings(folders, study)), encoding="utf-8")
    own = {"PYTHONPATH": str(place / "src"), "SUBSPACES_RESULTS": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> subprocess.CompletedProcess:
        options = {"cwd": place, "env": os.environ | own, "capture_output": True, "text": True, "timeout": 1800}
        return subprocess.run([sys.executable, "-m", *command], **options)

    return run


@pytest.mark.slow
def test_from_the_folders_to_the_report(clone, tmp_path):
    planned = clone("pipeline.plan.plan", "own-models")
    assert planned.returncode == 0 and "30_own_models" in planned.stdout, planned.stderr
    done = clone("pipeline.build", "own-models", "--seeds", "0,1", "--cores", "1", "--report", str(tmp_path / "report"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results" / "own-models" / "all"
    for name in ("energy", "update_overlap", "behaviour", "update_overlap_summary", "update_rounding"):
        table = tables.read_csv(results / "tables" / f"{name}.csv", name)
        assert len(table) and json.loads((results / "tables" / f"{name}.json").read_text())["inputs"]
        assert "seed" not in table or set(table["seed"]) == {0, 1}
    energy = pd.read_csv(results / "tables" / "energy.csv").query("control == 'top-k' and module == 'all'")
    assert energy.groupby(["seed", "task"])["energy_kept"].apply(lambda kept: kept.is_monotonic_increasing).all()
    page = tmp_path / "report" / "html" / "notebooks" / "30_own_models.html"
    assert "fig-own-energy" in page.read_text(encoding="utf-8")
    again = clone(
        "pipeline.build", "own-models", "--seeds", "0,1", "--cores", "1", "--report", str(tmp_path / "report")
    )
    assert again.returncode == 0 and "0 notebooks to run" in again.stdout, again.stdout + again.stderr


@pytest.mark.slow
def test_papermill_and_other_notebooks(clone, tmp_path, folders):
    out, options = str(tmp_path / "out.ipynb"), ("-p", "study", "own-models")
    done = clone("papermill", "notebooks/30_own_models.ipynb", out, *options, "--no-progress-bar")
    assert done.returncode == 0 and "fig-own-margins" in Path(out).read_text(encoding="utf-8"), done.stderr
    wrong = clone("pipeline.runs.execute", "notebooks/05_projection.ipynb", str(tmp_path / "x" / "y.ipynb"), *options)
    assert "study own-models has no notebook 05_projection: it has 30_own_models" in wrong.stderr
    shutil.rmtree(folders["base"])
    missing = clone("pipeline.runs.execute", "notebooks/30_own_models.ipynb", str(tmp_path / "x" / "z.ipynb"), *options)
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1
    assert "model base: the model folder" in missing.stderr and "does not exist" in missing.stderr


def test_a_place_beside_the_model_is_named(tmp_path, folders):
    run = tmp_path / "run"
    shutil.copytree(folders["useful"], run / "checkpoint-500")
    with pytest.raises(
        StudyError, match="holds no model but checkpoints of a training: give one of them, .*checkpoint-500"
    ):
        resolve(Origin(origin="folder", path=str(run)))
    with pytest.raises(StudyError, match="model.safetensors is a file: give the folder that it is in"):
        resolve(Origin(origin="folder", path=str(run / "checkpoint-500" / "model.safetensors")))


@pytest.mark.parametrize(
    ("places", "says"),
    [
        (("checkpoint-5", "checkpoint-10"), "checkpoints of a training: give one of them, .*checkpoint-10$"),
        (("harmful",), "holds no model itself, but harmful in it is an adapter: give .*harmful$"),
    ],
)
def test_an_adapter_within_the_folder_is_named(tmp_path, folders, places, says):
    for place in places:
        (tmp_path / "run" / place).mkdir(parents=True)
        save_file({"x": torch.ones(1)}, tmp_path / "run" / place / "adapter_model.safetensors")
        (tmp_path / "run" / place / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StudyError, match=says):
        resolve(Origin(origin="folder", path=str(tmp_path / "run")))
