"""``autocast: auto``: bfloat16 only where it is clearly faster, measured at once, said once, used everywhere."""

import os
import subprocess
import sys
import time

import pytest
import torch
import yaml

from helpers.models import precision
from helpers.models.generate import as_speaker, computing
from helpers.paths import ROOT, STUDIES
from helpers.studies.settings import available, load_study, read_study

REAL = ["gemma-3-270m", "smollm2-135m", "llama-3.2-1b", "llama-2-7b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b"]
REAL += ["smollm2-135m-alignment", "smollm2-135m-bench"]
WITHOUT_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
MEASURE = """
import time
from helpers.models import precision
assert precision.chosen() == {}
begun = time.perf_counter()
assert precision.resolved("float32") == "float32" and precision.resolved("bfloat16") == "bfloat16"
assert precision.chosen() == {}
precision.resolved("auto"); taken = time.perf_counter() - begun
precision.resolved("auto")
print(taken, precision.chosen()["autocast"])
"""


@pytest.fixture
def found():
    """The precision of this machine; what was measured before is measured again, and what this test measures goes."""
    precision._measured.cache_clear()
    yield precision.resolved("auto")
    precision._measured.cache_clear()


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(83, 0.9, "float32"), (83, 83, "float32"), (83, 99, "float32"), (83, 100, "bfloat16"), (60, 900, "bfloat16")],
)
def test_bfloat16_only_where_it_is_clearly_faster(float32, bfloat16, expected):
    assert precision.faster(float32, bfloat16) == expected


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so_once_within_a_second():
    environment = {**os.environ, **WITHOUT_BFLOAT16, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", MEASURE], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, chosen = done.stdout.split()
    assert chosen == "float32" and float(seconds) < 1
    assert done.stderr.count("autocast auto: float32") == 1 and "GFLOP/s in bfloat16" in done.stderr


def test_this_machine_is_measured_within_a_second(found, capsys):
    precision._measured.cache_clear()
    begun = time.perf_counter()
    assert precision.resolved("auto") == found in ("float32", "bfloat16")
    assert time.perf_counter() - begun < 1
    assert precision.chosen()["autocast"] == found
    if not torch.cuda.is_available():
        numbers = precision.chosen()
        assert precision.faster(numbers["float32_gflops"], numbers["bfloat16_gflops"]) == found


def test_models_compute_and_speak_in_what_was_chosen(found, model):
    with computing(model, "auto"):
        assert torch.is_autocast_enabled(model.device.type) == (found == "bfloat16")
    assert as_speaker(model, "auto").dtype == getattr(torch, found)


@pytest.mark.parametrize("name", available())
def test_real_models_compute_in_auto_and_the_embedded_one_in_float32(name):
    study = load_study(name)
    settings = [study.evaluation, *([study.training.optimiser] if hasattr(study, "training") else [])]
    expected = "float32" if study.embedded else "auto"
    assert {section.autocast for section in settings} == {expected} and study.embedded == (name not in REAL)


def test_real_models_compute_in_auto_where_a_study_names_nothing(tmp_path):
    values = yaml.safe_load((STUDIES / "smollm2-135m.yml").read_text(encoding="utf-8"))
    del values["training"]["optimiser"]["autocast"], values["evaluation"]["autocast"]
    (tmp_path / "smollm2-135m.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    study = read_study(tmp_path / "smollm2-135m.yml")
    assert (study.training.optimiser.autocast, study.evaluation.autocast) == ("auto", "auto")
    values = yaml.safe_load((STUDIES / "own-models.yml").read_text(encoding="utf-8"))
    del values["language"], values["evaluation"]["autocast"]
    values["evaluation"] |= {"utility": "gsm-symbolic", "harm": "advbench"}
    (tmp_path / "own-models.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert read_study(tmp_path / "own-models.yml").evaluation.autocast == "auto"
