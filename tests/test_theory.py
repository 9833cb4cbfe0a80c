"""The first-order model: its factors are the gradient's, its moments those of random signs, its predictions exact."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from helpers.claims.predictions import BASELINE, PREDICTIONS, agreement, order_of_pairs
from helpers.data.rows import training_rows
from helpers.errors import StudyError
from helpers.experiments.theory import (
    STARTS,
    FirstOrder,
    _root,
    first_order,
    left_moments,
    quantities,
    theory_table,
    token_factors,
)
from helpers.models.language import Language
from helpers.models.organism import build_model, build_tokenizer
from helpers.studies.settings import load_study
from helpers.subspaces import decompose, mode_subspace_overlap
from helpers.training.examples import collate, tokenised

STUDY = load_study("smoke")
ETAS, FRACTIONS = [0.3, 0.6, 0.9], [0.25, 0.5, 1.0]


@pytest.fixture(scope="module")
def organism():
    """An untrained organism and examples of the harmful objective."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(Language(STUDY.language), STUDY.training.optimiser.max_length)
    rows = training_rows(STUDY, STUDY.training.harmful, 0)
    examples = tokenised(rows, tokenizer, STUDY.training.optimiser.max_length)
    return build_model(STUDY.model, tokenizer), examples


@pytest.mark.parametrize("module", [nn.Linear(5, 3, bias=False), nn.Embedding(7, 4)], ids=["linear", "embedding"])
def test_factors_of_the_tokens_give_the_gradient_of_the_weight(module):
    inputs = torch.randint(7, (2, 6)) if isinstance(module, nn.Embedding) else torch.randn(2, 6, 5)
    output = module(inputs)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    u, v = token_factors(module, inputs, gradient)
    assert u.shape == (12, module.weight.shape[0]) and v.shape == (12, module.weight.shape[1])
    torch.testing.assert_close(u.T @ v, module.weight.grad.double(), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_the_moment_is_the_mean_over_all_signs_of_the_tokens(tokens, m, n, seed):
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(tokens, size, generator=generator, dtype=torch.float64) for size in (m, n))
    drawn = [(u * torch.tensor(signs)[:, None]).T @ v for signs in itertools.product((1.0, -1.0), repeat=tokens)]
    mean = torch.stack([d @ d.T for d in drawn]).mean(0)
    torch.testing.assert_close((u * v.square().sum(1, keepdim=True)).T @ u, mean)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 8), st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_the_root_of_a_moment_has_its_modes_and_energies(m, n, seed):
    update = torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    own, root = decompose(update), decompose(_root(update @ update.T))
    r = min(m, n)
    torch.testing.assert_close(root.singular_values[:r], own.singular_values, rtol=1e-6, atol=1e-7)
    for eta in ETAS:
        assert mode_subspace_overlap(own, root, eta).mso == pytest.approx(1, abs=1e-6)


def test_moments_of_a_model_hold_its_gradient_and_the_hooks_go(organism):
    model, examples = organism
    model.zero_grad()
    with left_moments(model) as moments:
        model(**collate(examples[:8])).loss.backward()
    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}
    assert moments.keys() == weights.keys()
    for name, weight in weights.items():
        gradient, moment = weight.grad.double(), moments[name]
        inside = torch.linalg.lstsq(moment, gradient, driver="gelsd").solution
        torch.testing.assert_close(moment @ inside, gradient, rtol=1e-3, atol=1e-6 * float(gradient.abs().max()) + 1e-9)
    assert not any(module._forward_hooks for module in model.modules())
    model.zero_grad()


def test_first_order_is_the_summed_gradient_and_the_optimiser_on_it_and_leaves_the_model_alone(organism):
    model, examples = organism
    objective, rule = STUDY.training.harmful, STUDY.training.optimiser
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = first_order(model, examples, objective, rule, steps=1)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    model(**collate(examples[: objective.batch_size])).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), rule.max_grad_norm)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            gradient = weight.grad.double()
            torch.testing.assert_close(found.gradient[name], -gradient, rtol=1e-5, atol=1e-9)
            step = -objective.learning_rate * gradient / (gradient.abs() + 1e-8)  # AdamW's first step is nearly a sign
            torch.testing.assert_close(found.adamw[name], step, rtol=1e-4, atol=objective.learning_rate * 1e-3)
    model.zero_grad()


def test_a_batch_that_is_not_there_is_one_sentence(organism):
    model, examples = organism
    with pytest.raises(StudyError, match="make no batch"):
        first_order(model, examples[:1], STUDY.training.harmful, STUDY.training.optimiser)


def _updates(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {label: torch.randn(12, 9, generator=generator, dtype=torch.float64) for label in STARTS}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1))
def test_an_update_overlaps_wholly_with_itself_and_is_all_kept_in_its_own_modes(seed):
    updates = _updates(seed)
    updates |= {"harmful": updates["useful"], "alignment": updates["useful"]}
    found = quantities(updates, ETAS, [1.0])
    assert found["overlap", "useful", "harmful", "update"] == pytest.approx(1)
    assert found["energy", "alignment", "harmful", "update"] == pytest.approx(1)
    assert found["energy", "alignment", "harmful", BASELINE] == pytest.approx(9 / 12)


def test_a_perfect_prediction_agrees_and_untouched_matrices_are_left_out():
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(6)]
    frozen = "model.layers.9.mlp.up_proj.weight"
    drawn = {name: _updates(i) for i, name in enumerate(names)}
    measured = {label: {name: drawn[name][label] for name in names} for label in STARTS}
    measured = {label: m | {frozen: torch.zeros(12, 9, dtype=torch.float64)} for label, m in measured.items()}
    predicted = {label: FirstOrder(m, m, m) for label, m in measured.items()}
    table = theory_table(measured, predicted, ETAS, FRACTIONS).assign(seed=0)
    assert set(table["tensor"]) == set(names) and set(table["layer"]) == set(range(6))
    found = agreement(table)
    exact = found[found["prediction"].isin(PREDICTIONS)].pivot_table(
        index="prediction", columns="statistic", values="value"
    )
    assert exact["rank correlation"].tolist() == pytest.approx([1, 1, 1])
    assert exact["absolute error"].tolist() == pytest.approx([0, 0, 0])


def test_agreement_is_scipys_within_modules_too_and_the_order_is_a_difference():
    rng = np.random.default_rng(0)
    n = 12
    parts = []
    for a, b in (("alignment", "harmful"), ("useful", "harmful")):
        values = {"predicted": rng.random(n), "measured": rng.random(n), "module": ["up_proj", "q_proj"] * (n // 2)}
        parts.append(pd.DataFrame({"seed": 3, "quantity": "overlap", "a": a, "b": b, "prediction": "adamw", **values}))
    found = agreement(pd.concat(parts))
    value = found.set_index(["a", "statistic"])["value"]
    assert value["useful", "rank correlation"] == stats.spearmanr(parts[1]["predicted"], parts[1]["measured"]).statistic
    centred = parts[0].groupby("module")[["predicted", "measured"]].transform(lambda column: column - column.mean())
    expected = stats.spearmanr(centred["predicted"], centred["measured"]).statistic
    assert value["alignment", "within modules"] == pytest.approx(expected)
    gap = order_of_pairs(found).set_index("statistic")["value"]
    assert gap["measured"] == pytest.approx(parts[0]["measured"].mean() - parts[1]["measured"].mean())


def test_a_prediction_that_does_not_vary_has_no_rank_correlation():
    values = {"module": "up_proj", "predicted": [0.5, 0.5, 0.5], "measured": [0.1, 0.2, 0.3]}
    table = pd.DataFrame(
        {"seed": 0, "quantity": "energy", "a": "alignment", "b": "useful", "prediction": "random"} | values
    )
    found = agreement(table).set_index("statistic")["value"]
    assert np.isnan(found["rank correlation"]) and found["absolute error"] == pytest.approx(0.3)
