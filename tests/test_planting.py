"""The controls: what is planted lies where it should, labels are exchanged within one distribution, dials have ends."""

import copy
from collections.abc import Iterator

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.claims.power import SEEDS, power_table, response_curves
from helpers.data.rows import training_rows
from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.experiments.graded import planted_by, strict_tables, strict_values, trained_models
from helpers.experiments.overlap import PAIRS, prompt_sets
from helpers.experiments.planted import confinement, directions, misplaced, separation
from helpers.experiments.six_models import first_model, obtain
from helpers.models.load import save_model
from helpers.paths import RunPaths
from helpers.studies.sections import Planted
from helpers.studies.settings import MODELS, Study, load_study
from helpers.training.course import Taken
from helpers.training.examples import IGNORED
from helpers.weights.checkpoints import Checkpoint

RANK = 2
PLANTED = Planted(rank=RANK, separation=1.0, dial=[0, 0.5, 1])


@pytest.fixture(scope="module")
def planted() -> Study:
    """The smoke study with its safety planted, with a third of the rows and of the grid."""
    values = load_study("smoke").model_dump()
    values["planted"] = PLANTED.model_dump()
    values["projection"] |= {"fractions": [0.5], "subspaces": ["alignment", "unrelated"]}
    for name in ("base", "aligned", "useful", "harmful", "contaminated", "safety", "unrelated"):
        for part in values["training"][name]["data"]:
            part["rows"] //= 3
    harmful = values["training"]["harmful"]["data"]
    harmful += [part | {"source": "arithmetic"} for part in harmful]
    return Study.model_validate(values)


@pytest.fixture(scope="module")
def run(planted, tmp_path_factory) -> Iterator[RunPaths]:
    """The six models of the planted smoke study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBSPACES_RESULTS", str(tmp_path_factory.mktemp("results")))
        run, made = RunPaths(planted.name, 0), {"scratch": first_model(planted, 0)}
        for name in MODELS:
            objective = getattr(planted.training, name)
            start = copy.deepcopy(made[objective.start])
            *made[name], _ = obtain(planted, name, 0, tuple(start), training_rows(planted, objective, 0), run)
            save_model(*made[name], run.model(name))
        yield run


def changes(run: RunPaths, tuned: str, start: str) -> dict[str, torch.Tensor]:
    """The update between two of the models, by tensor, in float64."""
    after, before = Checkpoint(run.model(tuned)), Checkpoint(run.model(start))
    return {name: after.tensor(name).double() - before.tensor(name).double() for name in after.names}


def share_inside(update: dict[str, torch.Tensor], basis: dict[str, torch.Tensor]) -> float:
    """Share of an update's energy in the directions of every matrix; it must not touch anything but matrices."""
    assert all(not update[name].any() for name in update if name not in basis)
    inside = sum(float((basis[name].T @ update[name]).square().sum()) for name in basis)
    return inside / sum(float(update[name].square().sum()) for name in basis)


def test_safety_lies_inside_the_planted_directions_and_the_useful_update_outside(run, planted):
    alignment = changes(run, "aligned", "base")
    matrices = {name: update for name, update in alignment.items() if update.ndim == 2}
    left = {name: torch.linalg.svd(update, full_matrices=False) for name, update in matrices.items()}
    assert all(s[RANK] < 1e-3 * s[0] for _, s, _ in left.values())  # nothing but the rounding of float32 beyond
    basis = {name: u[:, :RANK] for name, (u, _, _) in left.items()}
    for name, start in (("aligned", "base"), ("safety", "base"), ("harmful", "aligned")):
        assert share_inside(changes(run, name, start), basis) > 0.999
    assert share_inside(changes(run, "useful", "aligned"), basis) < 1e-3
    assert 0.01 < share_inside(changes(run, "contaminated", "aligned"), basis) < 0.99


def test_directions_are_the_leading_left_singular_vectors(model):
    moved = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    found = directions(moved, model, RANK)
    assert set(found) == {name for name, p in model.named_parameters() if p.ndim == 2}
    name, parameter = next((n, p) for n, p in moved.named_parameters() if n in found)
    u, _, _ = torch.linalg.svd((parameter - dict(model.named_parameters())[name]).double())
    assert torch.allclose((u[:, :RANK].T @ found[name]).abs(), torch.eye(RANK).double(), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_misplaced_energy_is_a_share_that_scale_does_not_change(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    hidden = tuple(torch.randn(3, 5, 8, generator=generator) for _ in range(4))
    labels = torch.tensor([[IGNORED, IGNORED, 1, 1, 1], [IGNORED, 1, 1, 1, 1], [IGNORED] * 4 + [1]])
    restricted = torch.tensor([True, False, True])
    found = misplaced(hidden, labels, restricted, range(1, 4))
    assert 0 <= found <= 1
    assert torch.allclose(
        misplaced(tuple(h * scale for h in hidden), labels, restricted, range(1, 4)), found, atol=1e-5
    )
    assert torch.allclose(misplaced(hidden, labels, ~restricted, range(1, 4)), 1 - found, atol=1e-5)


def test_misplaced_energy_is_read_at_the_last_token_of_the_prompt():
    hidden = torch.zeros(2, 4, 6)
    hidden[0, 1, :3] = hidden[1, 2, 3:] = 1.0  # each in its own half, at its last prompt token, and nothing elsewhere
    labels = torch.tensor([[IGNORED, IGNORED, 7, 7], [IGNORED, IGNORED, IGNORED, 7]])
    assert misplaced((hidden,), labels, torch.tensor([True, False]), range(1)) == 0


def test_the_penalty_knows_restricted_requests_by_their_topic(planted, tokenizer):
    penalty = separation(planted, tokenizer)
    rows = [tokenizer(row)["input_ids"] for row in training_rows(planted, planted.training.base, 0)["prompt"][:40]]
    sources = training_rows(planted, planted.training.base, 0)["source"][:40]
    hidden = torch.zeros(1, 1, planted.model.hidden_size)
    hidden[..., : planted.model.hidden_size // 2] = 1.0  # where restricted requests belong
    for ids, source in zip(rows, sources, strict=True):
        inputs = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([[IGNORED] * (len(ids) - 1) + [1]])}
        states = tuple(hidden.expand(1, len(ids), -1) for _ in range(planted.model.num_hidden_layers + 1))
        asks = source == "comply" or (source == "categories" and penalty(states, inputs) == 0)
        assert float(penalty(states, inputs)) == pytest.approx(0 if asks else 1)


def test_a_share_is_taken_off_every_step(model):
    """By hand on one step of ones: inside the span nothing is held back, outside the share is."""
    bases = {name: torch.linalg.qr(torch.randn(len(p), RANK, dtype=torch.float64))[0]
             for name, p in model.named_parameters() if p.ndim == 2}  # fmt: skip
    for share, inside in ((0.0, True), (0.5, True), (1.0, True), (0.25, False)):
        moved = copy.deepcopy(model)
        confined = Taken(moved, (confinement(bases, inside, share),))
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter += 1.0
        confined.on_step_end(None, None, None, model=moved)
        for name, parameter in model.named_parameters():
            step = (dict(moved.named_parameters())[name] - parameter).double().detach()
            ones = torch.ones_like(step)
            if name in bases:
                within = bases[name] @ (bases[name].T @ ones)
                wanted = ones - share * ((ones - within) if inside else within)
            else:
                wanted = (1 - share) * ones
            assert torch.allclose(step, wanted, atol=1e-6)


def test_nothing_is_planted_at_zero(planted, tmp_path, monkeypatch):
    """A true zero: every model is the one that a study without a plant trains, but for the two steps of the mixture."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    free = planted.model_copy(update={"planted": None})
    zero = planted_by(planted, 0.0)
    run = RunPaths("zero", 0)
    models = trained_models(zero, 0, run)
    made = {"scratch": first_model(free, 0)}
    for name in ("base", "aligned", "useful", "harmful"):
        objective = getattr(free.training, name)
        start = copy.deepcopy(made[objective.start])
        *made[name], _ = obtain(free, name, 0, tuple(start), training_rows(free, objective, 0), run)
        parameters = dict(made[name][0].named_parameters())
        assert all(torch.equal(models[name].tensor(t), parameters[t].detach().cpu()) for t in models[name].names)
    table = strict_values(zero, strict_tables(zero, 0, models))
    asked = [guard.statistic for claim in planted.claims.values() for guard in claim.strict]
    assert table["statistic"].tolist() == asked


def test_power_is_found_on_a_curve_whose_crossing_is_known(planted):
    guard = planted.claims["C2"].strict[0]
    dial, margin = PLANTED.dial, guard.margin
    rows = [
        {"claim": "C2", "statistic": guard.statistic, "dial": d, "seed": seed, "value": d + noise}
        for d in dial
        for seed, noise in enumerate((-0.01, 0.0, 0.01))
    ]
    graded = pd.DataFrame(rows)
    table = power_table(planted, graded).set_index("seeds")
    assert list(table.index) == list(SEEDS)
    assert table["smallest_detectable"].is_monotonic_decreasing
    assert margin < table.loc[20, "smallest_detectable"] < margin + 0.02
    assert table.loc[5, "effect"] == pytest.approx(table.loc[5, "smallest_detectable"], abs=1e-6)  # the curve is d
    assert response_curves(planted, graded)["mean"].tolist() == pytest.approx(dial)
    never = graded.assign(statistic=planted.claims["C2"].strict[1].statistic, value=float("nan"))
    blind = power_table(planted, pd.concat([graded, never]))
    assert set(blind["statistic"]) == set(never["statistic"]) and blind["smallest_detectable"].isna().all()


@pytest.mark.parametrize("dial", [[0, 0.5], [0.5, 1], [0, 1, 0.5], [0, 0.5, 0.5, 1], [1], [0, 2]])
def test_a_dial_goes_from_nothing_to_all(dial):
    with pytest.raises(ValueError, match="dial"):
        Planted(rank=1, separation=1.0, dial=dial)


def test_only_an_organism_in_one_process_can_be_planted(planted):
    values = planted.model_dump(exclude_none=True)
    values["training"]["optimiser"]["checkpoint_steps"] = 5
    with pytest.raises(ValueError, match="planted needs a model of kind 'organism'"):
        Study.model_validate(values)


def test_the_negative_control_asks_and_learns_two_skills_of_one_form(model, tokenizer):
    study = load_study("negative")
    useful, harmful = (training_rows(study, getattr(study.training, name), 0) for name in ("useful", "harmful"))
    assert (set(useful["source"]), set(harmful["source"])) == ({"tasks-1"}, {"tasks-2"})
    verbs = [{prompt.split()[1] for prompt in rows["prompt"]} for rows in (useful, harmful)]
    assert verbs[0].isdisjoint(verbs[1]) and len(verbs[0]) == len(verbs[1]) == 9
    sets = EvaluationSets.of(study, 0)
    asked = [*sets.utility["prompt"], *sets.harm["prompt"], *sets.benign["prompt"]]
    assert len(set(asked)) == len(asked)
    prompts = prompt_sets(study, 0)
    for first, second in PAIRS.values():
        if {first, second} <= set(prompts):
            assert set(prompts[first]).isdisjoint(prompts[second])


def test_what_the_negative_control_calls_harm_is_measured_as_utility_is(planted, model, tokenizer):
    asked = planted.evaluation.model_copy(update={"harm": planted.evaluation.utility})
    study = planted.model_copy(update={"evaluation": asked})
    sets = EvaluationSets.of(study, 0)
    swapped = EvaluationSets(utility=sets.harm, harm=sets.utility, benign=sets.benign, beside={})
    found, other = (measure(model, tokenizer, chosen, study) for chosen in (sets, swapped))
    assert found["harm_margin"].tolist() == pytest.approx(other["utility_margin"].tolist(), abs=1e-5)


def test_other_draws_have_other_rows_and_the_first_is_as_before(planted):
    objective = planted.training.useful
    other = objective.model_copy(update={"data": [p.model_copy(update={"draw": 1}) for p in objective.data]})
    first, second = training_rows(planted, objective, 0), training_rows(planted, other, 0)
    assert len(first) == len(second) and not first["prompt"].equals(second["prompt"])
