"""Subspaces and edits through their doors, each against a dense computation on small matrices."""

import pytest
import torch

from helpers.errors import SettingsError, StudyError
from helpers.evaluation.behaviour import EvaluationSets
from helpers.methods.context import CALIBRATION, Context
from helpers.methods.door import Edit, Subspace, edit_named, subspace_named
from helpers.studies.doors import tenants
from helpers.studies.measurements import Projection
from helpers.studies.settings import digest, load_study
from helpers.studies.wording import validate
from helpers.subspaces import rank_for_fraction
from helpers.training.examples import collate, tokenised
from helpers.weights.checkpoints import update
from helpers.weights.edits import update_modes

MATRIX, VECTOR = "model.layers.1.mlp.down_proj.weight", "model.norm.weight"


def dense(matrix: torch.Tensor) -> torch.Tensor:
    """Left singular vectors by the full decomposition."""
    return torch.linalg.svd(matrix.reshape(len(matrix), -1), full_matrices=False)[0]


@pytest.mark.parametrize("name", ["alignment", "safety", "unrelated"])
def test_subspaces_are_those_of_the_updates(context, name):
    found = subspace_named(name)
    assert found.side == "output"
    for tensor in (MATRIX, VECTOR):
        expected = dense(update(*context.updates[name], tensor))
        cosines = (found.modes(tensor, context).vectors * expected).sum(0)
        assert torch.allclose(cosines.abs(), torch.ones_like(cosines))
    assert set(found.every_modes(context)) == set(context.names)


@pytest.mark.parametrize("dial", [0.25, 0.75, 1.0])
@pytest.mark.parametrize("tensor", [MATRIX, VECTOR])
def test_edits_equal_dense_computations(context, tensor, dial):
    weights = context.weights(tensor, "contaminated")
    start, change = (context.checkpoints[n].tensor(tensor).double() for n in ("aligned", "contaminated"))
    change = change - start
    u = dense(update(*context.updates["alignment"], tensor))[:, : rank_for_fraction(tuple(change.shape), dial)]
    inside = (u @ (u.T @ change.reshape(len(change), -1))).reshape(change.shape)
    expected = {"scaling": dial * change, "parallel": inside, "orthogonal": change - inside}
    for name, part in expected.items():
        assert torch.allclose(edit_named(name).edited(weights, context, dial), start + part, atol=1e-12)


def test_scaling_and_whole_rank_are_the_special_cases(context):
    weights = context.weights(MATRIX, "useful")
    assert torch.equal(edit_named("scaling").edited(weights, context, 0.0), weights.aligned)
    whole = {name: edit_named(name).edited(weights, context, 1.0) for name in ("scaling", "parallel", "orthogonal")}
    rows, columns = weights.update.shape
    assert rows <= columns  # so that the modes of any update of full rank span all outputs
    assert torch.allclose(whole["scaling"], weights.tuned) and torch.allclose(whole["parallel"], weights.tuned)
    assert torch.allclose(whole["orthogonal"], weights.aligned)


def test_activations_are_those_of_the_last_token_at_both_ends_of_a_map(context, model, tokenizer):
    inputs, outputs = (context.activations("harmful", side)[MATRIX] for side in ("input", "output"))
    weight = dict(model.named_parameters())[MATRIX].detach().double()
    assert inputs.shape == (CALIBRATION, weight.shape[1]) and outputs.shape == (CALIBRATION, weight.shape[0])
    assert torch.allclose(inputs @ weight.T, outputs, atol=1e-5)
    prompt = context.calibration("harmful")["prompt"][3]
    with torch.no_grad():
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        hidden = model(**ids, output_hidden_states=True).hidden_states
        first = model.model.layers[0].input_layernorm(hidden[0][0, -1])
    entering = context.activations("harmful")["model.layers.0.self_attn.q_proj.weight"]
    assert torch.allclose(entering[3].float(), first, atol=1e-5)
    assert torch.allclose(context.residual("harmful")[0, 3], hidden[1][0, -1], atol=1e-5)
    assert not any(module._forward_hooks for module in context.loaded[0].modules())


def test_gradients_are_means_over_the_calibration_rows(context, model, tokenizer, study):
    found = context.gradients("useful")[MATRIX]
    rule = study.training.optimiser
    examples = tokenised(context.calibration("useful"), tokenizer, rule.max_length, rule.style)
    losses = torch.stack([model(**collate([example])).loss for example in examples])
    (expected,) = torch.autograd.grad(losses.mean(), dict(model.named_parameters())[MATRIX])
    assert torch.allclose(found.float(), expected, atol=1e-6) and expected.any()
    assert context.gradients("useful")[MATRIX] is found  # taken once


def test_calibration_prompts_are_never_scored_and_may_be_of_one_source(context, study):
    sets = EvaluationSets.of(study, 0)
    scored = {prompt for name in ("utility", "harm", "benign") for prompt in getattr(sets, name)["prompt"]}
    for kind in ("harmful", "useful", "safety/benign"):
        rows = context.calibration(kind)
        assert len(rows) == CALIBRATION and not scored & set(rows["prompt"])
    assert set(context.calibration("safety/benign")["source"]) == {"benign"}
    for wrong, words in (("spicy", "choose one of useful, harmful"), ("safety/comply", "safety/refuse, safety/benign")):
        with pytest.raises(StudyError, match=words):
            context.calibration(wrong)


def test_modes_that_are_kept_are_the_same_and_of_one_update(context, study, monkeypatch):
    keeping, made = Context(study, 0, context.checkpoints, keeps_modes=True), []
    decomposed = update_modes
    monkeypatch.setattr("helpers.methods.context.update_modes", lambda *of: made.append(of) or decomposed(*of))
    for label in ("alignment", "contaminated", "contaminated", "alignment"):
        for tensor in context.names[:3]:
            assert torch.equal(
                keeping.modes(label, tensor).vectors, decomposed(*context.updates[label], tensor).vectors
            )
    assert len(made) == 3 * 3  # the second time of the same update is not made; of an update before it, again


def test_draws_are_the_same_whatever_ran_before(context):
    one = torch.rand(3, generator=context.generator("mine", MATRIX))
    context.generator("other", MATRIX)
    assert torch.equal(one, torch.rand(3, generator=context.generator("mine", MATRIX)))
    assert not torch.equal(one, torch.rand(3, generator=context.generator("mine", VECTOR)))


def test_what_a_method_gives_wrongly_is_one_sentence(context):
    rows = context.shape(MATRIX)[0]
    for basis in (torch.ones(rows, 2), torch.eye(rows + 1)[:, :2], torch.ones(rows)):
        with pytest.raises(StudyError, match="orthonormal columns: return Q of its QR") as error:
            Subspace("mine", lambda tensor, context, b=basis: b, "output").modes(MATRIX, context)
        assert "\n" not in str(error.value)
    weights = context.weights(MATRIX, "useful")
    for wrong in (weights.aligned.T, weights.aligned * float("nan")):
        with pytest.raises(StudyError, match="'mine' with dial 1 .* return finite weights of the same shape"):
            Edit("mine", lambda weights, context, dial, w=wrong: w, (1.0,)).edited(weights, context, 1.0)
    assert Subspace("mine", lambda tensor, context: None, "output").every_modes(context) == {}
    with pytest.raises(StudyError, match="edit 'spicy' does not exist: choose one of .*scaling, parallel, orthogonal"):
        edit_named("spicy")


def test_settings_know_the_names_and_an_unused_door_changes_no_digest():
    grid = load_study("organism").projection
    values = grid.model_dump()
    assert "edits" not in values and digest(validate(Projection, values, "x")) == digest(grid)
    assert digest(validate(Projection, values | {"edits": ["scaling"]}, "x")) != digest(grid)
    for key, names in (
        ("subspaces", ".*'alignment', 'safety', 'unrelated'"),
        ("edits", ".*'scaling', 'parallel', 'orthogonal', "),
    ):
        with pytest.raises(SettingsError, match=f"{key}.0 is 'spicy'; it must be one of {names}"):
            validate(Projection, values | {key: ["spicy"]}, "x")
    assert all(tenant.summary for kind in ("subspace", "edit") for tenant in tenants("methods", kind).values())
