"""The paper's five studies, end to end on stand-ins: only the downloads and the sizes differ from the real thing."""

import copy
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import stand_ins
import toy
from helpers.data.public import evaluation_split
from helpers.data.rows import evaluation_rows
from helpers.experiments.conditions import condition_values
from helpers.paths import STUDIES, RunPaths, cache_root
from helpers.studies.settings import MODELS, OBJECTIVES, Study, load_study
from helpers.studies.wording import validate
from helpers.weights.checkpoints import Checkpoint
from pipeline.runs.stages import CHAPTERS, PER_SEED, of_study
from stand_in_data import make_data
from synthetic_report import NOTHING, judged

NAMES = sorted(stand_ins.MODELS)
WITH_REPORT = "llama-3.2-1b"
SWEPT = "qwen2.5-1.5b"  # whose file shows a sweep
SEED = 42
CLONED = (*toy.COPIED, "notebooks", "book", "_config.yml", "_toc.yml", "CITATION.cff")
ROWS = {"metamath": 40, "beavertails-unsafe": 16, "beavertails-safe": 16}
SIZES = {
    "utility_prompts": 4,
    "harm_prompts": 4,
    "benign_prompts": 4,
    "beside_prompts": 4,
    "batch_size": 8,
    "max_new_tokens": 6,
}


def shrunk(values: dict, models: tuple[Path, Path], data: dict) -> dict:
    """A study's settings with local origins, few rows and prompts, and answers judged by rules."""
    values = copy.deepcopy(values)
    base, aligned = ({"origin": "folder", "path": str(folder)} for folder in models)
    values["model"] |= {"base": base, "aligned": aligned}
    values["data"] = data
    for objective in OBJECTIVES:
        values["training"][objective]["gradient_accumulation"] = 4
        for part in values["training"][objective]["data"]:
            part["rows"] = ROWS[part["source"]]
    values["evaluation"] |= SIZES | {"judge": {"kind": "rule"}}
    values["evaluation"]["harness"]["max_new_tokens"] = 6
    values["projection"] |= {"fractions": [0.25, 0.75], "scaling": [0, 0.5, 1]}
    values["update_overlap"]["energy_fractions"] = [0.1, 0.5, 0.9]
    values["activation_overlap"] |= {"prompts": 8, "matched_prompts": 6, "energy_fractions": [0.1, 0.5]}
    return values


@dataclass(frozen=True)
class Clone:
    """A copy of the project whose paper studies are shrunk to stand-ins."""

    folder: Path

    def run(self, *command: str) -> None:
        """Run Python in the copy, without a network, and fail with what it said."""
        environment = os.environ | {
            "PYTHONPATH": str(self.folder / "src"),
            "SUBSPACES_RESULTS": str(self.folder / "results"),
            "SUBSPACES_CACHE": str(cache_root()),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def tables(self, name: str) -> dict[str, pd.DataFrame]:
        """All tables of a study, of the seed and over seeds."""
        return {p.stem: pd.read_csv(p) for p in (self.folder / "results" / name).rglob("*.csv")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """The copy, with a folder of stand-in weights for each study and one of stand-in data for all."""
    folder = tmp_path_factory.mktemp("clone")
    toy.copy(folder, CLONED)
    data = make_data(folder / "data")
    for name in NAMES:
        file = folder / "studies" / f"{name}.yml"
        models = stand_ins.make_models(name, folder / "weights" / name)
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        file.write_text(yaml.safe_dump(shrunk(values, models, data)), encoding="utf-8")
    return Clone(folder)


@pytest.mark.parametrize("name", NAMES)
def test_as_committed(name):
    """The study loads, names pinned commits, and keeps the paper's recipe and sizes."""
    study = load_study(name)
    origins = [study.model.base, study.model.aligned, *study.data.values()]
    assert all(len(origin.revision) == 40 for origin in origins if origin.origin == "hub")
    optimiser, training = study.training.optimiser, study.training
    assert (optimiser.beta2, optimiser.warmup_ratio, optimiser.max_length) == (0.999, 0.02, 512)
    assert (optimiser.schedule, optimiser.style, study.evaluation.style) == ("cosine", "alpaca", "raw")
    for objective in OBJECTIVES:
        run = getattr(training, objective)
        assert (run.epochs, run.batch_size, run.gradient_accumulation, run.learning_rate) == (1, 1, 32, 1e-5)
    rows = {objective: [part.rows for part in getattr(training, objective).data] for objective in OBJECTIVES}
    assert rows == {"useful": [20000], "harmful": [4000], "contaminated": [20000, 4000], "safety": [4000]}
    assert (study.evaluation.utility_prompts, study.evaluation.harm_prompts) == (1319, 520)
    beside, n = study.evaluation.beside, study.evaluation.beside_prompts
    assert beside == ["harmbench", "strongreject"]  # from pinned packages, which have so many
    assert [len(evaluation_rows(study, name, n, SEED)) for name in beside] == [200, 200]
    assert evaluation_split(study, "advbench") == "all"  # nothing is trained on it, so all 520 goals are asked
    assert study.projection.fractions == [0.01, 0.25, 0.5, 0.75, 0.99]
    assert study.seeds == [SEED]


def test_they_differ_in_their_models_only():
    """One recipe for all five: they differ in models, batches and memory, and in nothing that changes a result."""
    found = []
    for name in NAMES:
        values = yaml.safe_load((STUDIES / f"{name}.yml").read_text(encoding="utf-8"))
        del values["name"], values["title"], values["model"], values["evaluation"]["batch_size"]
        del values["training"]["optimiser"]["gradient_checkpointing"]
        found.append(values)
    assert all(values == found[0] for values in found)


def sweep(file: Path) -> dict:
    """The settings in a study's file with the sweep that its last lines show as a comment."""
    text = file.read_text(encoding="utf-8")
    start = text.index("# conditions:")
    return yaml.safe_load(text[:start] + re.sub("^# ?", "", text[start:], flags=re.MULTILINE))


def test_the_sweep_that_a_study_file_shows_turns_the_share_of_harmful_rows():
    values = sweep(STUDIES / f"{SWEPT}.yml")
    study = validate(Study, values, SWEPT)
    (condition,) = study.conditions
    for place in condition.places:
        useful, harmful = (part.rows for part in study.changed(place.changes).training.contaminated.data)
        assert useful == 20000 and harmful / (useful + harmful) == pytest.approx(place.at, abs=1e-3)
    assert list(of_study(PER_SEED | CHAPTERS, study)) == ["09_conditions", "23_conditions"]


def test_a_sweep_trains_the_contaminated_model_of_real_ones_at_each_place(tmp_path, monkeypatch):
    """On stand-ins: base and aligned are taken as they are, what the places share is made once, and all is measured."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    values = sweep(STUDIES / f"{SWEPT}.yml")
    values = shrunk(values, stand_ins.make_models(SWEPT, tmp_path / "weights"), make_data(tmp_path / "data"))
    values["projection"]["controls"] = ["top-k", "random"]
    for place, rows in zip(values["conditions"][0]["places"][::2], (8, 12), strict=True):
        for part, n in zip(place["changes"]["training.contaminated.data"], (40, rows), strict=True):
            part["rows"] = n
    study = validate(Study, values, SWEPT)
    run = RunPaths(SWEPT, apart=f"seed-{SEED}/scratch/conditions")
    places = [study.changed(place.changes) for place in study.conditions[0].places[:2]]
    found = [condition_values(place, SEED, run)["conditions"] for place in places]
    names = {guard.statistic for claim in study.claims.values() for guard in claim.strict}
    assert all(set(table["statistic"]) == names | set(study.claims["C0"].gate) for table in found)
    folders = [path.name.split("-")[0] for path in run.model("").glob("*")]
    assert sorted(folders) == sorted([*MODELS, "contaminated"])
    for model, given in zip(("base", "aligned"), (study.model.base, study.model.aligned), strict=True):
        own = Checkpoint(next(run.model("").glob(f"{model}-*")))
        start = Checkpoint(Path(given.path))
        assert all(torch.equal(own.tensor(name).float(), start.tensor(name).float()) for name in start.names)


@pytest.mark.parametrize("name", NAMES)
def test_not_tested_before_it_runs(name):
    """Without results every claim is "not tested"."""
    study = load_study(name)
    found = judged(study, NOTHING)["verdicts"]
    assert set(found["stated"]) == {"not tested"} and set(found["strict"]) == {"not tested", ""}


@pytest.mark.parametrize("name", NAMES)
def test_stand_ins_are_like_the_models(name, tmp_path):
    """Sharded bfloat16, grouped-query attention, biases on q, k and v in Qwen2, tied or untied as the real one."""
    base, aligned = (Checkpoint(folder) for folder in stand_ins.make_models(name, tmp_path))
    stand_in = stand_ins.MODELS[name]
    assert base.names == aligned.names and len(base.files()) > 1
    assert {base.dtype(tensor) for tensor in base.names} == {torch.bfloat16}
    assert any(not torch.equal(base.tensor(tensor), aligned.tensor(tensor)) for tensor in base.names)
    assert ("lm_head.weight" in base) != stand_in.tied
    biased = {tensor.split(".")[-2] for tensor in base.names if tensor.endswith("bias")}
    assert biased == ({"q_proj", "k_proj", "v_proj"} if name.startswith("qwen") else set())
    rows, width = base.shape("model.layers.0.self_attn.k_proj.weight")
    assert rows * 4 == stand_in.key_value_heads * width


def check(clone: Clone, name: str) -> None:
    """A run left all models, finite measures, a value for every criterion and a verdict for every claim."""
    tables = clone.tables(name)
    assert set(tables["behaviour"]["model"]) == set(MODELS)
    for table in ("behaviour", "projection", "scaling", "energy", "update_overlap", "activation_overlap"):
        numbers = tables[table].select_dtypes("number")
        assert len(numbers) and numbers.notna().all(axis=None), table
    measured = tables["claim_statistics"].set_index("statistic")["value"]
    claims = load_study(name).claims
    own = {name for claim in ("C1", "C2", "C4") for name in claims[claim].statistics}
    assert set(measured.index[measured.isna()]) <= own  # random weights may gain no utility, and span one direction
    assert measured[[one for one in own if "energy" in one and "unrelated" not in one]].notna().all()
    assert set(tables["verdicts"]["claim"]) == {"C0", "C1", "C2", "C3", "C4"}
    assert tables["verdicts"]["stated"].notna().all()


@pytest.mark.slow
@pytest.mark.soak
def test_end_to_end_with_report(clone):
    """One study as ``make book STUDY=…`` runs it, to the report."""
    clone.run("-m", "pipeline.build", WITH_REPORT, "--report", str(clone.folder / "_build"))
    check(clone, WITH_REPORT)
    assert (clone.folder / "_build" / "html" / "index.html").exists()


REPEATS = [name for name in NAMES if name not in (SWEPT, WITH_REPORT, "qwen2.5-3b")]  # of three of one family, one


@pytest.mark.slow
@pytest.mark.parametrize("name", [SWEPT, *(pytest.param(name, marks=pytest.mark.soak) for name in REPEATS)])
def test_end_to_end(clone, name):
    """From stand-ins of the weights to the verdicts: one in every run of the tests, the other families in the soak."""
    toy.keep(clone.folder, (*PER_SEED, "15_verdict"))
    clone.run("-c", toy.RUN, name, str(SEED), "2", "local")
    check(clone, name)
