"""Profiles: those there are, one of your own, and what is said of one that cannot be used."""

import pytest
import yaml

from helpers import paths
from helpers.errors import SettingsError
from pipeline import build
from pipeline.runs import profiles


def test_those_that_the_project_brings():
    assert {"local", "slurm"} <= set(profiles.available())
    assert {name: profiles.load(name).executor for name in ("local", "slurm")} == {
        "local": "local",
        "slurm": "slurm",
    }


def test_an_unknown_profile_is_one_sentence_that_lists_them(capsys):
    assert build.main(["smoke", "--profile", "slrm"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "profile 'slrm' does not exist: choose one of local, slurm" in said


def test_a_folder_of_your_own_is_a_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(yaml.safe_dump({"jobs": 3}), encoding="utf-8")
    mine = profiles.load("mine")
    assert profiles.available() == ["mine"] and mine.folder == tmp_path / "mine" and mine.executor == "local"
    mine.check()


@pytest.mark.parametrize("text", ["- a list", "executor: [", "\x00"])
def test_a_profile_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, text):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^profiles/mine/config.yaml cannot be read"):
        profiles.load("mine")


def test_what_a_profile_lacks_is_named_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"needs snakemake-executor-plugin-nosuch: install it with"):
        profiles.Profile(tmp_path, {"executor": "nosuch"}).check()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(profiles.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(SettingsError, match="needs the program sbatch, which is not here"):
        profiles.Profile(tmp_path, {"executor": "slurm"}).check()
