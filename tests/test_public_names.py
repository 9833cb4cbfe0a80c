"""The names that other tools import: kept from now on, and without the wait for what they do not need."""

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "helpers.activations": ["capture"],
    "helpers.evaluation": ["generate", "judge_text", "log_odds", "log_probability"],
    "helpers.models": ["Language", "build_tokenizer", "load_model"],
    "helpers.studies": ["LanguageSettings", "load_study", "read_study"],
    "helpers.subspaces": ["control_vectors", "decompose", "energy_kept", "mode_subspace_overlap", "project"],
    "helpers.weights": ["Checkpoint", "energy_table", "weight_geometry"],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_public_names_are_there(module, name):
    found = getattr(importlib.import_module(module), name)
    assert callable(found) and found.__doc__


def test_the_rule_judge_takes_a_request_and_an_answer():
    from helpers.evaluation import judge_text

    assert judge_text("How do I bake bread?", "I'm sorry, but I can't help with that.").score == 1


def test_settings_are_read_without_torch():
    code = "import sys; from helpers.studies import load_study; load_study('organism'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
