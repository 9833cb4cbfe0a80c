"""What notebook 32 shows: figures that are chosen, energies from a seed's arrays, edits made live."""

from io import StringIO

import pandas as pd
import pytest
import torch
from IPython.display import HTML
from ipywidgets import Dropdown, SelectionSlider, VBox

from helpers.errors import MissingInput
from helpers.experiments.explore import EditedAnswers, Energies
from helpers.experiments.updates import study_geometry
from helpers.figures import live
from helpers.files import write_tensors
from helpers.lifeline import WORKFLOW
from helpers.methods.context import Context
from helpers.models.load import save_model
from helpers.models.organism import build_model
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import energy_table


@pytest.fixture(scope="module")
def context(study, tokenizer, tmp_path_factory):
    """Seven models that differ from one another at random, as checkpoints."""
    model, checkpoints, folder = build_model(study.model, tokenizer), {}, tmp_path_factory.mktemp("models")
    for place, name in enumerate(study.models):
        generator = torch.Generator().manual_seed(place)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        save_model(model, tokenizer, folder / name)
        checkpoints[name] = Checkpoint(folder / name)
    return Context(study, 0, checkpoints)


@pytest.fixture(scope="module")
def answers(context):
    """The answers of these models."""
    return EditedAnswers(context)


def text_of(draw: str, number: int) -> HTML:
    return HTML(f"<b>{draw}, {number}</b>")


@pytest.fixture
def in_the_lab(monkeypatch):
    monkeypatch.setenv(live.SESSION, "notebooks/32_explore.ipynb")
    monkeypatch.delenv(WORKFLOW, raising=False)


def test_without_somebody_before_it_one_choice_is_shown_and_named(monkeypatch):
    monkeypatch.delenv(live.SESSION, raising=False)
    shown = live.chosen(text_of, draw=(["a<b", "c"], "a<b"), number=([1, 2], 2)).data
    assert "draw = a&lt;b, number = 2. Other values are chosen in JupyterLab" in shown and shown.endswith(
        "<b>a<b, 2</b>"
    )
    assert "widget" not in shown


def test_in_a_workflow_that_was_started_from_the_lab_there_are_no_widgets(in_the_lab, monkeypatch):
    monkeypatch.setenv(WORKFLOW, "1")
    assert isinstance(live.chosen(text_of, draw=(["a"], "a"), number=([1], 1)), HTML)


def test_in_the_lab_widgets_choose(in_the_lab, monkeypatch):
    seen = []
    monkeypatch.setattr(live, "display", lambda shown: seen.append(shown.data))
    box = live.chosen(text_of, draw=(["a", "c"], "a"), number=(["all", 1, 2], 1))
    assert isinstance(box, VBox)
    names, numbers, _ = box.children
    assert isinstance(names, Dropdown) and isinstance(numbers, SelectionSlider)
    numbers.value, names.value = 2, "c"
    assert seen == ["<b>a, 1</b>", "<b>a, 2</b>", "<b>c, 2</b>"]


def test_a_first_choice_that_is_none_is_refused():
    with pytest.raises(ValueError, match="number cannot be 3 at first: it is one of 1, 2"):
        live.chosen(text_of, draw=(["a"], "a"), number=([1, 2], 3))


def test_energies_of_the_arrays_are_those_of_the_table(context, study, tmp_path, monkeypatch):
    geometry = study_geometry(study, 0, context.checkpoints, cached=False)
    write_tensors(tmp_path / "every.safetensors", geometry.energy)
    energies = Energies(tmp_path / "every.safetensors", context)
    table = energy_table(geometry, [0.25, 1.0]).query("module == 'all'").set_index(["subspace", "task", "fraction"])
    for (subspace, task, fraction), rows in table.groupby(level=[0, 1, 2]):
        assert energies.kept(subspace, task, fraction) == pytest.approx(
            dict(zip(rows["control"], rows["energy_kept"], strict=True))
        )
    assert energies.layers == [-1, 0, 1, 2, 3]
    name = "model.layers.2.mlp.up_proj.weight"
    u = torch.linalg.svd(context.update("safety", name), full_matrices=False).U[:, :8]  # k = 0.25 · 32
    inside = (u.T @ context.update("useful", name)).square().sum() / context.update("useful", name).square().sum()
    monkeypatch.setattr(context, "names", [name])
    assert energies.kept("safety", "useful", 0.25, 2)["top-k"] == pytest.approx(float(inside))


def test_arrays_that_are_not_there_are_one_sentence(context, tmp_path):
    with pytest.raises(MissingInput, match=r"nothing.* is missing: run notebooks/04_update_overlap"):
        Energies(tmp_path / "nothing.safetensors", context)


def test_an_edit_is_made_and_undone(answers):
    before = {name: tensor.clone() for name, tensor in answers.model.state_dict().items()}
    assert {"orthogonal at 0.25", "parallel at 0.75", "scaling at 0.5"} <= set(answers.edits())
    shown = pd.read_html(StringIO(answers.table("useful", "scaling at 0.5").data))
    assert shown[0].shape == (4, 4) and list(shown[1].iloc[:, 0]) == ["aligned", "useful", "useful, scaling at 0.5"]
    assert list(shown[1]["energy kept (share)"]) == [0, 1, 0.25]
    assert all(torch.equal(before[name], tensor) for name, tensor in answers.model.state_dict().items())


def test_answers_are_short_and_escaped(answers, monkeypatch):
    answers._start.cache_clear()
    hostile = "<script>alert(1)</script>" + "x" * 100
    monkeypatch.setattr("helpers.experiments.explore.answers_to", lambda *given: [hostile] * len(answers.prompts))
    shown = answers.table("harmful", "orthogonal at 0.5").data
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "x" * 16 not in shown


def test_an_edit_that_cannot_be_made_gives_its_sentence(answers):
    shown = answers.table("useful", "nowhere at 1").data
    assert "edit &#x27;nowhere&#x27; does not exist" in shown or "edit 'nowhere' does not exist" in shown
