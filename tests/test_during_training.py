"""Methods during training: each against a dense computation written here, and where they must change nothing or all."""

import pytest
import torch
from transformers import TrainerControl, TrainerState

from helpers.data.rows import training_rows
from helpers.errors import StudyError
from helpers.experiments.bench import MEASURES
from helpers.experiments.bench import Bench as Measured
from helpers.experiments.six_models import contaminated
from helpers.methods.calibration import benign, harmful, moments, refused
from helpers.methods.context import Context
from helpers.methods.door import training_named
from helpers.models.organism import build_model
from helpers.studies.doors import tenants
from helpers.studies.measurements import Bench
from helpers.studies.sections import Adapter
from helpers.training.course import Course, Taken, Until
from helpers.training.examples import tokenised
from helpers.training.train import train
from helpers.weights.checkpoints import update
from pipeline.results.tables import SCHEMAS
from test_bench import Unkept
from trained import assert_same_update, batch_of, uneven_rows

READER, WRITER = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"
TRAININGS = tenants("methods", "training")


@pytest.fixture
def short(context, study) -> Context:
    """The same, of a study whose contaminated fine-tuning has two steps."""
    parts = [part.model_copy(update={"rows": 32}) for part in study.training.contaminated.data]
    objective = study.training.contaminated.model_copy(update={"data": parts})
    training = study.training.model_copy(update={"contaminated": objective})
    return Context(study.model_copy(update={"training": training}), 0, context.checkpoints)


def course(name: str, context: Context, dial: float) -> Course:
    return training_named(name).make(context, dial)


def step(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def left(matrix: torch.Tensor, k: int) -> torch.Tensor:
    return torch.linalg.svd(matrix.double().reshape(len(matrix), -1))[0][:, :k]


def test_every_method_has_the_nulls_of_them_all_and_one_of_its_own_form():
    methods = [training_named(name) for name in TRAININGS if training_named(name).null]
    assert len(methods) >= 6
    for method in methods:
        assert {"decay", "early-stopping"} <= set(method.null)
        for null in map(training_named, method.null):
            assert not null.null and (null.dials == method.dials or null.name in ("decay", "early-stopping"))


@pytest.mark.parametrize("name", [name for name in TRAININGS if name != "early-stopping"])
def test_nothing_is_changed_at_zero(context, name):
    assert course(name, context, 0.0) == Course() and course("early-stopping", context, 1.0) == Course()


def test_a_course_that_changes_nothing_is_the_training_of_the_study_to_the_bit(short):
    found = contaminated(short, Course())
    network, tokenizer = short.model("aligned")
    objective, rule = short.study.training.contaminated, short.study.training.optimiser
    rows = training_rows(short.study, objective, 0, short.checkpoints["base"].folder)
    train(network, tokenizer, rows, objective, rule, 0)
    plain = {name: p.detach().cpu().double() for name, p in network.named_parameters()}
    start = short.checkpoints["aligned"]
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert not any(torch.equal(plain[name], start.tensor(name).double()) for name in (READER, EMBEDDING, NORM))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("contaminated.lora", Adapter(rank=2, alpha=4), "without lora"),
        ("contaminated.dpo", 0.1, "leave its dpo out"),
        ("optimiser.processes", 2, "processes: 1"),
    ],
)
def test_a_training_that_cannot_be_followed_is_one_sentence(short, path, value, words):
    """Its penalty would be left out without a word, its callbacks be those of another process, its names be others."""
    section, key = path.split(".")
    training = short.study.training
    changed = getattr(training, section).model_copy(update={key: value})
    study = short.study.model_copy(update={"training": training.model_copy(update={section: changed})})
    with pytest.raises(StudyError, match=words) as error:
        contaminated(Context(study, 0, short.checkpoints), Course())
    assert "\n" not in str(error.value)


def test_whole_rank_leaves_the_aligned_weights_and_the_same_seed_gives_the_same(short):
    start = short.checkpoints["aligned"]
    steps, inputs = (contaminated(short, course(name, short, 1.0)) for name in ("spf-random", "guardspace"))
    for name, (m, *n) in ((name, short.shape(name)) for name in short.names):
        moved = not torch.equal(steps[name], start.tensor(name).double())
        assert moved == (m > (n or [1])[0]), name  # else k = m directions are all of the output
        linear = name in moments(short, harmful(short))
        assert torch.equal(inputs[name], start.tensor(name).double()) == linear, name
    again = contaminated(short, course("spf-random", short, 1.0))
    assert all(torch.equal(again[name], steps[name]) for name in steps)


@pytest.mark.parametrize("name, kind", [("spf", refused), ("spf-benign", benign)])
def test_steps_lose_the_leading_directions_of_a_gradient(context, name, kind):
    network, tokenizer = context.model("aligned")
    rule = context.study.training.optimiser
    rows = tokenised(context.calibration(kind(context)), tokenizer, rule.max_length, rule.style)
    tensors = [dict(network.named_parameters())[tensor] for tensor in (WRITER, EMBEDDING, NORM)]
    loss = sum(network(**batch_of([row], network)).loss for row in rows)
    gradients = [gradient.cpu() for gradient in torch.autograd.grad(loss, tensors)]
    (taken,) = course(name, context, 0.25).taken
    for tensor, gradient in zip((WRITER, EMBEDDING, NORM), gradients, strict=True):
        k, given = max(1, round(0.25 * min(gradient.shape))) if gradient.ndim == 2 else 1, step(gradient.shape)
        u = left(gradient, k)
        assert torch.allclose(
            taken(tensor, given), (u @ u.T @ given.reshape(len(u), -1)).reshape(given.shape), atol=1e-4
        )


def test_steps_lose_modes_of_alignment_and_as_many_random_directions(context):
    (taken,), (drawn,) = (course(name, context, 0.25).taken for name in ("spf-alignment", "spf-random"))
    for tensor in (READER, WRITER, EMBEDDING, NORM):
        shape = context.shape(tensor)
        k, given = max(1, round(0.25 * min(shape))) if len(shape) == 2 else 1, step(shape)
        u = left(update(*context.updates["alignment"], tensor), k)
        assert torch.allclose(taken(tensor, given), (u @ u.T @ given.reshape(len(u), -1)).reshape(shape))
        once = drawn(tensor, given)
        assert torch.allclose(drawn(tensor, once), once) and torch.linalg.matrix_rank(once.reshape(len(u), -1)) == k


@pytest.mark.parametrize("name, kind", [("guardspace", harmful), ("guardspace-benign", benign)])
def test_steps_lose_what_acts_on_the_leading_inputs(context, name, kind):
    (taken,) = course(name, context, 0.25).taken
    given = step(context.shape(WRITER))
    v = torch.linalg.svd(moments(context, kind(context))[WRITER])[0][:, : round(0.25 * given.shape[1])]
    assert torch.allclose(taken(WRITER, given), given @ v @ v.T) and not taken(EMBEDDING, given).any()


def test_asft_weighs_what_leaves_its_matrix_and_decay_weighs_all(context):
    for tensor in (READER, WRITER, EMBEDDING, NORM):
        d_a = update(*context.updates["alignment"], tensor).double().reshape(context.shape(tensor)[0], -1)
        start = context.checkpoints["aligned"].tensor(tensor).double()
        parameter = (start + 0.1 * step(tuple(start.shape))).requires_grad_()
        moved = (parameter - start).reshape(len(d_a), -1)
        u = left(d_a, max(1, round(0.5 * min(d_a.shape))))
        for name, matrix in (("asft", d_a @ d_a.T / d_a.norm()), ("asft-projector", u @ u.T), ("decay", 0 * u @ u.T)):
            expected = 0.03 * (moved - matrix @ moved).square().sum()
            found = course(name, context, 0.03).penalty(tensor, parameter)
            gradients = (torch.autograd.grad(value, parameter, retain_graph=True)[0] for value in (found, expected))
            assert torch.allclose(found, expected) and torch.allclose(*gradients), (name, tensor)


def test_lox_begins_at_the_modes_of_alignment_and_its_null_as_far_away(context, model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert course("lox-before", context, 1.0).begin(model) == {"callbacks": [], "penalty": None}
    for name, parameter in model.named_parameters():
        d_a = update(*context.updates["alignment"], name)
        assert torch.allclose(parameter - before[name], d_a.float(), atol=1e-6)  # of full rank it is D_A
        added, noise = (course(f"lox-before{of}", context, 0.25).added(name) for of in ("", "-random"))
        if d_a.ndim == 2:
            u, s, v = torch.linalg.svd(d_a.double(), full_matrices=False)
            k = max(1, round(0.25 * len(s)))
            assert torch.allclose(added, u[:, :k] @ torch.diag(s[:k]) @ v[:k])
        assert torch.isclose(added.norm(), noise.norm()) and not torch.allclose(added, noise)


def test_what_one_function_leaves_of_a_step_is_what_the_next_one_sees(model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    halves = Taken(model, (lambda name, step: step / 2, lambda name, step: step / 2))
    for steps in (1, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1.0
        halves.on_step_end(None, None, None, model=model)
        assert all(torch.allclose(p, before[name] + steps / 4, atol=1e-6) for name, p in model.named_parameters())


def test_a_training_ends_after_its_share_of_the_steps():
    for done, stops in ((2, False), (3, True)):
        control = TrainerControl()
        Until(0.5).on_step_end(None, TrainerState(global_step=done, max_steps=6), control)
        assert control.should_training_stop == stops


def test_trained_models_are_measured_as_edited_ones_are(short, model, tokenizer):
    asked = Bench(of="smoke", during_training=["asft"], second_utility="tasks-1")
    bench = short.study.model_copy(update={"bench": asked})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = Measured(model, tokenizer, short.checkpoints, bench, 0, Unkept()).during_training()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    dials = found[found["split"] == "choose"].groupby("method")["dial"].apply(list).to_dict()
    assert dials == {name: [*training_named(name).dials] for name in bench.bench.with_nulls(["asft"])}
    assert {*found.columns, "seed"} == set(SCHEMAS["bench_training"]) and not found["utility"].isna().any()
    own, nulls = found[found["method"] == "asft"], found[found["method"] != "asft"]
    assert not own[MEASURES].isna().any().any() and nulls["harm"].isna().all()
    start, tuned = (short.checkpoints[name] for name in ("aligned", "contaminated"))
    moved = contaminated(short, course("decay", short, 0.03))
    kept, whole = (sum(float((of(n) - start.tensor(n).double()).square().sum()) for n in short.names)
                   for of in (moved.__getitem__, lambda n: tuned.tensor(n).double()))  # fmt: skip
    assert found.query("method == 'decay' and dial == 0.03")["energy_kept"].tolist() == pytest.approx(
        [kept / whole] * 2
    )


def test_a_penalty_weighs_the_same_however_the_rows_of_a_step_are_divided(study, tokenizer):
    found = []
    for size, passes in ((32, 1), (8, 4)):
        torch.manual_seed(0)
        network = build_model(study.model, tokenizer)
        chosen = study.training.harmful.model_copy(update={"batch_size": size, "gradient_accumulation": passes})
        change = Course(penalty=lambda name, parameter: 0.01 * parameter.square().sum()).begin(network)
        train(network, tokenizer, uneven_rows(study), chosen, study.training.optimiser, 0, **change)
        found.append(network)
    assert_same_update(study, tokenizer, *found)
