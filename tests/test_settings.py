"""Settings: every study is valid, and whatever is wrong gives one sentence with file, key and what is allowed."""

import copy
import re

import pytest
import yaml

from helpers.errors import SettingsError
from helpers.paths import ROOT, STUDIES
from helpers.studies.settings import Study, available, digest, load_study, parse_seeds, read_study
from helpers.studies.wording import validate
from helpers.studies.yaml_files import parse_yaml

ORGANISM = yaml.safe_load((STUDIES / "organism.yml").read_text(encoding="utf-8"))


def changed(tmp_path, path, value):
    """A study file with one value changed (or removed, for None)."""
    values = copy.deepcopy(ORGANISM)
    *parents, last = path
    place = values
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    file = tmp_path / "organism.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", available())
def test_every_study_is_valid(name):
    assert load_study(name).name == name


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["sedes"], [0], ["unknown key 'sedes'", "did you mean 'seeds'", "allowed keys", "projection"]),
        (["training", "useful", "learning_rat"], 0.1, ["training.useful: unknown key 'learning_rat'", "learning_rate"]),
        (
            ["training", "useful", "learning_rate"],
            "fast",
            ["useful.learning_rate is 'fast'; it must be a number"],
        ),
        (["training", "useful", "learning_rate"], -1.0, ["-1.0", "it must be greater than 0"]),
        (["training", "useful", "data"], [{"source": "poetry", "rows": 3}], ["data.0.source", "'arithmetic', 'tasks'"]),
        (["training", "useful", "start"], "base", ["useful.start must be 'aligned'"]),
        (["model", "kind"], "x" * 20000, ["model.kind is 'xxx", "xxx'; it must be one of 'organism', 'pretrained'"]),
        (["model"], "organism", ["model is 'organism'; it must be a mapping of keys"]),
        (["model", "hidden_size"], 96.5, ["model.hidden_size is 96.5", "a whole number"]),
        (["model", "hidden_size"], True, ["model.hidden_size is True", "a whole number"]),
        (["model", "num_hidden_layers"], None, ["key 'model.num_hidden_layers' is missing"]),
        (["projection", "fractions"], [0.5, 1.5], ["projection.fractions.1 is 1.5", "less than 1"]),
        (["projection", "fractions"], [], ["projection.fractions is []", "at least 1"]),
        (["projection", "controls"], ["top-k", "best-k"], ["'best-k'", "'random-k'"]),
        (["projection", "scaling"], [0, 0.5], ["scaling must hold 0 and 1"]),
        (["activation_overlap", "band"], [0.9, 0.65], ["from < to"]),
        (["update_overlap", "energy_fractions"], [0.1, 0.9], ["update_overlap.energy_fractions", "must hold 0.5"]),
        (["seeds"], [1, 1], ["seeds: an entry is there twice"]),
        (["seeds"], [-1], ["seeds.0 is -1", "greater than or equal to 0"]),
        (["confidence"], float("nan"), ["confidence is nan"]),
        (["claims"], {}, ["the criteria of all studies are in claims.yml, so delete the key 'claims'"]),
        (["name"], "other", ["name is 'other'", "'organism'"]),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, path, value, words):
    with pytest.raises(SettingsError) as error:
        read_study(changed(tmp_path, path, value))
    sentence = str(error.value)
    assert sentence.startswith("organism.yml") and "\n" not in sentence
    assert [word for word in words if word not in sentence] == [], sentence


@pytest.mark.parametrize(("part", "said"), [("model", "has both an origin"), ("training", "needs one of an origin")])
def test_a_model_has_an_origin_or_a_training(part, said):
    values = load_study("smollm2-135m").model_dump(mode="json", exclude_unset=True)
    values[part]["aligned"] = values["model"]["base"] if part == "model" else None
    with pytest.raises(SettingsError, match=f"aligned {said} in model.aligned and training in training.aligned: "):
        validate(Study, values, "mine")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1,\n", "1: 2\n", "\x00"])
def test_a_file_that_is_no_mapping_is_one_sentence(tmp_path, text):
    file = tmp_path / "organism.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        read_study(file)
    assert str(error.value).startswith("organism.yml") and "\n" not in str(error.value)


def test_unknown_study_names_those_there_are():
    with pytest.raises(SettingsError, match="choose one of conditions, gemma-3-270m, llama-2-7b, "):
        load_study("nosuch")
    with pytest.raises(SettingsError):
        load_study("../organism")


@pytest.mark.parametrize("seeds", ["0,1", "0 1", [0, 1]])
def test_seeds_as_text_or_list(seeds):
    assert parse_seeds(seeds, load_study("organism")) == [0, 1]


@pytest.mark.parametrize("seeds", ["a", "-1", "1,1", "99999999999", "0.5", [0.5]])
def test_bad_seeds(seeds):
    with pytest.raises(SettingsError, match="distinct whole numbers"):
        parse_seeds(seeds, load_study("organism"))


def test_digest_depends_on_values_alone():
    study = load_study("organism")
    assert digest(study) == digest(load_study("organism")) != digest(load_study("smoke"))
    assert digest(study.training.useful) != digest(study.training.harmful)


def test_every_key_of_the_default_study_is_explained():
    lines = (STUDIES / "organism.yml").read_text(encoding="utf-8").splitlines()
    bare = [line for line in lines if line.strip() and "#" not in line]
    explained = {line.split(":")[0].strip(" -{") for line in lines if "#" in line and ":" in line}
    unexplained = {
        line.split(":")[0].strip() for line in bare if ":" in line and not line.strip().startswith(("- {", "- "))
    } - explained
    sections = {"projection", "update_overlap", "activation_overlap", "evaluation", "language", "training"}
    described_above = {"data", "start", "epochs", "batch_size", "gradient_accumulation", "learning_rate"}
    assert unexplained - sections - described_above == {"num_attention_heads"} - explained


def test_environment_yml_and_requirements_say_the_same():
    def pins(lines):
        return {line.strip(" -") for line in lines if "==" in line and not line.lstrip().startswith("#")}

    def canonical(pin):
        return re.sub(r"\[.*\]", "", pin).replace("_", "-").lower()

    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    in_conda = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    requirements = pins((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    constraints = {
        canonical(line) for line in pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    }
    assert set(in_conda) == requirements and len(requirements) > 20
    assert {canonical(line) for line in requirements if not line.startswith("setuptools")} <= constraints
    assert all("+" not in line for line in requirements | constraints)


def test_what_was_read_once_is_not_changed_by_whoever_got_it():
    """Texts are parsed once a process; each reader has a value of its own, and a changed text is read anew."""
    first = parse_yaml("a: {b: [1, 2]}")
    first["a"]["b"].append(3)
    assert parse_yaml("a: {b: [1, 2]}") == {"a": {"b": [1, 2]}} and parse_yaml("a: {b: [1]}") == {"a": {"b": [1]}}
