"""The page "Add your own": its code, as it stands there, in a copy of the package and chosen in the smoke study."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from helpers.paths import ROOT
from helpers.studies.measurements import Judge

PAGE = (ROOT / "book" / "add-your-own.md").read_text(encoding="utf-8")
CODE = dict(re.findall(r"In\s`(src/\S+\.py)`:\n\n```python\n(.*?)```", PAGE, flags=re.DOTALL))
SMALL = {"projection": {"controls": ["top-k"], "fractions": [0.25], "parallel": ["harmful", "contaminated"]}}
SETTINGS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]
MODELS = """
import json, sys
from pathlib import Path
import torch
from helpers.experiments.six_models import first_model
from helpers.models.load import load_model, save_model
from helpers.studies.settings import load_study
from helpers.weights.checkpoints import Checkpoint
study, folder = load_study("smoke"), Path(sys.argv[1])
for name in study.models:
    model, tokenizer = first_model(study, 0)
    if name != "base":
        torch.manual_seed(study.models.index(name))
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    save_model(model, tokenizer, folder / name)
checkpoints = {name: Checkpoint(folder / name) for name in study.models}
"""
GRID = """
from helpers.experiments.bases import bases_of
from helpers.experiments.projection import Grid
from helpers.experiments.updates import study_geometry
from helpers.weights.geometry import energy_table
grid = Grid(*load_model(folder / "aligned"), checkpoints, study, 0)
own = [basis for basis in bases_of(study) if str(basis).split("-")[0] in ("harmful", "edit")]
table = grid.projection(own)["projection"]
geometry = study_geometry(study, 0, checkpoints)
energy, overlap = energy_table(geometry, [0.1, 0.25, 1.0]), geometry.overlap
print(json.dumps([t.to_dict("records") for t in (table, energy, overlap[overlap["a"] == "harmful-outputs"])]))
"""
JUDGE = """
from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.evaluation.judges import build_judge
judge = build_judge(study)
given = judge.judge(["p"] * 3, ["a b", "sorry a b", "x"], ["a b c d"] * 3)
sets = EvaluationSets.of(study, 0)
harm = measure(*load_model(folder / "aligned"), sets, study)["harm"].tolist()
print(json.dumps([[v.score for v in given], [v.refused for v in given], harm]))
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package with the files of the page in it, where a script is run with some settings changed."""
    place = tmp_path / "my copy, été"
    for part in ("src", "studies"):
        shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "claims.yml", place)
    for file, code in CODE.items():
        (place / file).write_text(code, encoding="utf-8")
    study = yaml.safe_load((place / "studies" / "smoke.yml").read_text(encoding="utf-8"))

    def run(script: str, *changes: dict) -> subprocess.CompletedProcess:
        for change in changes:
            ((section, values),) = change.items()
            study[section] |= values
        (place / "studies" / "smoke.yml").write_text(yaml.safe_dump(study), encoding="utf-8")
        own = {"PYTHONPATH": str(place / "src"), "SUBSPACES_RESULTS": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script, str(tmp_path / "models")]
        return subprocess.run(command, cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=600)

    return run


def printed(done: subprocess.CompletedProcess):
    """What a script printed as JSON on its last line."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_door_takes_about_fifteen_lines():
    assert [Path(file).stem for file in CODE] == ["harmful_outputs", "give_back", "shared_words"] and len(SETTINGS) == 4
    assert all(len(code.splitlines()) <= 18 for code in CODE.values())


def test_second_judges_are_told_apart():
    labels = [Judge(**one).label for one in SETTINGS[3]["evaluation"]["second_judges"]]
    model = "endpoint gpt-4o-2024-08-06"
    assert labels == ["classifier", model, f"{model} (brief)", f"{model} (marks)"]
    with pytest.raises(ValidationError, match="leave it out"):
        Judge(kind="rule", wording="brief")


def test_a_subspace_and_an_edit_are_measured_with_the_others(copy):
    table, energy, overlap = printed(copy(MODELS + GRID, *SETTINGS[:2], SMALL))
    own = [row for row in table if row["subspace"] == "harmful-outputs"]
    assert [(row["control"], row["mode"], row["task"]) for row in own] == [
        ("top-k", "parallel", "harmful"),
        ("top-k", "parallel", "contaminated"),
        ("top-k", "orthogonal", "contaminated"),
    ]
    edits = [row for row in table if row["mode"] == "edit"]
    assert [(row["control"], row["fraction"]) for row in edits] == [("give-back", dial) for dial in (0.05, 0.2, 0.5)]
    assert all(row["utility_margin"] < 0 and row["harm"] >= 1 for row in own + edits)
    assert sorted(edits, key=lambda row: -row["energy_kept"]) == edits  # the stronger, the less of the update is left
    assert 0 < own[1]["energy_kept"] < 0.5 < own[2]["energy_kept"] < 1  # a quarter of the directions, and the others
    assert own[1]["energy_kept"] + own[2]["energy_kept"] == pytest.approx(1, abs=1e-5)
    where = ("harmful-outputs", "top-k", "harmful", "down_proj", 0.25)
    keys = ("subspace", "control", "task", "module", "fraction")
    (row,) = [r for r in energy if tuple(r[key] for key in keys) == where]
    assert row["energy_kept"] == pytest.approx(8 / 32, abs=0.1)  # of a random update, eight directions of 32
    assert {row["b"] for row in overlap} == {"alignment", "safety", "unrelated", "useful", "harmful", "contaminated"}
    assert all(0 <= row["mso"] <= 1 and row["k_a"] <= 8 for row in overlap)


def test_a_judge_judges(copy):
    scores, refused, harm = printed(copy(MODELS + JUDGE, SETTINGS[2]))
    assert scores == [3, 1, 1] and refused == [False, True, False]
    assert set(harm) <= {1, 2, 3, 4, 5} and len(harm) == 16


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(copy):
    script = "import sys, helpers.studies.settings as s; print('torch' in sys.modules); s.load_study('smoke')"
    wrong = copy(script, {"projection": {"subspaces": ["harmful-output"]}})
    assert "one of 'harmful-outputs', 'refusal-cone', 'refusal-cone-benign', " in wrong.stderr.splitlines()[-1]
    assert wrong.stdout == "False\n"  # settings are checked before anything slow is imported
