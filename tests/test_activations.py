"""Activation capture: the last real token whatever the padding, hooks always removed, memory bounded by the batch."""

import pandas as pd
import pytest
import torch

from helpers.activations import capture, decoder_layers
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.errors import StudyError
from helpers.experiments.overlap import (
    PAIRS,
    TOPICS,
    activation_overlaps,
    in_band,
    matched_overlaps,
    probe_accuracies,
    prompt_sets,
    set_activations,
)
from helpers.studies.settings import digest, load_study

PROMPTS = ["CALC 3 +4 *2 neg =", "KIND x =", "CALL keep a WITH b c d", "CALC 7 ="]


def no_hooks(model):
    """Whether no block of the model has a hook."""
    return all(not layer._forward_hooks for layer in decoder_layers(model))


@pytest.mark.parametrize("position", [-1, -2, 0, 1])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, tokenizer, side, position):
    alone = torch.cat([capture(model, tokenizer, [prompt], position) for prompt in PROMPTS], dim=1)
    together = capture(model, tokenizer, PROMPTS, position, padding_side=side)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_tokenizers_own_side_is_the_default_and_does_not_matter(model, tokenizer):
    right = capture(model, tokenizer, PROMPTS)
    tokenizer.padding_side = "left"
    try:
        torch.testing.assert_close(capture(model, tokenizer, PROMPTS), right, rtol=1e-5, atol=1e-5)
    finally:
        tokenizer.padding_side = "right"


def test_is_the_hidden_state_of_transformers(model, tokenizer):
    inputs = tokenizer(PROMPTS[0], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    found = capture(model, tokenizer, PROMPTS[:1])
    for layer in range(len(found) - 1):  # transformers applies the final norm to the last one
        torch.testing.assert_close(found[layer, 0], hidden[layer + 1][0, -1])
    torch.testing.assert_close(model.model.norm(found[-1, 0]), hidden[-1][0, -1])


def test_shape_batches_and_training_mode(model, tokenizer):
    model.train()
    whole = capture(model, tokenizer, PROMPTS * 3)
    split = capture(model, tokenizer, PROMPTS * 3, batch_size=5)
    assert whole.shape == (model.config.num_hidden_layers, 12, model.config.hidden_size)
    torch.testing.assert_close(whole, split, rtol=1e-5, atol=1e-5)
    assert model.training and no_hooks(model)


def test_hooks_are_removed_after_an_exception(model, tokenizer, monkeypatch):
    calls = []

    def fail(*_):
        calls.append(no_hooks(model))
        raise RuntimeError("stop")

    handle = decoder_layers(model)[-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop"):
        capture(model, tokenizer, PROMPTS)
    handle.remove()
    assert calls == [False] and no_hooks(model)


def test_bad_prompts_are_one_sentence(model, tokenizer):
    with pytest.raises(StudyError, match="at least one"):
        capture(model, tokenizer, [])
    with pytest.raises(StudyError, match=r"are one string, of which each letter .* pass a list, \[prompt\]"):
        capture(model, tokenizer, "SURE DONE")
    with pytest.raises(StudyError, match="none at position -50"):
        capture(model, tokenizer, PROMPTS, position=-50)


def test_prompt_sets_are_disjoint_where_they_must_be(study):
    sets = prompt_sets(study, seed=0)
    present = {pair: names for pair, names in PAIRS.items() if "toxic" not in names}  # the language has no such set
    assert {name for pair in present.values() for name in pair} | set(TOPICS.values()) == set(sets)
    for a, b in [*present.values(), ("benign-topics-1", "benign"), ("benign-topics-2", "benign")]:
        assert not set(sets[a]) & set(sets[b])
    for name in ("harmful", "benign"):
        topics = [{prompt.split()[2] for prompt in sets[f"{name}-topics-{i}"]} for i in (1, 2)]
        assert topics[0] and topics[1] and not topics[0] & topics[1]


def test_overlaps_have_every_pair_and_mark_the_band(model, tokenizer, study):
    activations = {name: capture(model, tokenizer, prompts) for name, prompts in prompt_sets(study, 0).items()}
    table = activation_overlaps(activations, study)
    assert len(table) == 4 * (len(PAIRS) - 1) * len(study.activation_overlap.energy_fractions)
    in_band_of_five = {3}  # hidden states: floor(0.65 * 5) = 3 up to, not with, floor(0.9 * 5) = 4
    assert set(table.loc[table["in_band"], "layer"]) == in_band_of_five
    assert table["mso"].between(0, 1 + 1e-9).all()


def test_the_band_counts_hidden_states_as_the_released_code_does():
    organism, real = load_study("organism"), load_study("smollm2-135m")
    assert [layer for layer in range(1, 7) if in_band(layer, 6, organism)] == [4, 5]
    assert [layer for layer in range(1, 31) if in_band(layer, 30, real)] == list(range(20, 27))


@pytest.mark.parametrize(("centred", "expected"), [(False, 1.0), (True, 0.0)])
def test_centring_takes_off_what_two_sets_share(study, centred, expected):
    """Two sets around one far mean that vary in directions of their own: uncentred they are one, centred nothing."""
    steps = torch.tensor([-1.0, 1.0, -2.0, 2.0])
    useful, harmful = torch.zeros(1, 4, 8), torch.zeros(1, 4, 8)  # (layers, prompts, width)
    useful[..., 0], harmful[..., 0] = 100.0, 100.0
    useful[0, :, 1], harmful[0, :, 2] = steps, steps
    grid = study.activation_overlap.model_copy(update={"centred": centred, "energy_fractions": [0.5]})
    asked = study.model_copy(update={"activation_overlap": grid})
    table = activation_overlaps({"useful": useful, "harmful-a": harmful}, asked)
    assert table["mso"].tolist() == pytest.approx([expected], abs=1e-6)


def test_settings_that_change_nothing_are_the_same_as_ever(study):
    grid = study.activation_overlap
    assert not {"centred", "position"} & set(grid.model_dump())
    assert digest(grid) != digest(grid.model_copy(update={"centred": True}))
    assert digest(grid) != digest(grid.model_copy(update={"position": -2}))


@pytest.mark.parametrize("position", [-1, -3, 0])
def test_the_study_says_at_which_token(study, model, tokenizer, position):
    """Against a forward pass of each prompt alone, whose hidden states are read off at that token."""
    grid = study.activation_overlap.model_copy(update={"position": position})
    sets = {"benign": prompt_sets(study, 0)["benign"][:6]}
    found = set_activations(model, tokenizer, sets, study.model_copy(update={"activation_overlap": grid}))
    for i, prompt in enumerate(sets["benign"]):
        with torch.no_grad():
            states = model(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True).hidden_states
        torch.testing.assert_close(found["benign"][0, i], states[1][0, position], atol=1e-5, rtol=1e-4)


def drawn(seed: int, directions: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """Activations (4 layers, 400 prompts, 32) that vary along some directions (32, r), far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.randn(4, 400, directions.shape[1], generator=generator) @ directions.T
    noise = 0.1 * torch.randn(4, 400, 32, generator=generator)
    centre = 20 * torch.ones(32) + shift * torch.eye(32)[0]
    return along + noise + centre


def strictly(study, harmful: torch.Tensor, benign: torch.Tensor) -> tuple[float, float]:
    """The strict statistic of C4 and the probe's accuracy, of activations of two sets of one form."""
    sets = {"harmful-matched": harmful, "benign": benign}
    found = {"matched_activations": matched_overlaps(sets, study), "probe": probe_accuracies(sets, study)}
    r = SeedResults(**{name: found.get(name, pd.DataFrame()) for name in TABLES})
    return STATISTICS["activation_within_above_across"](r), STATISTICS["probe_accuracy"](r)


def test_matched_sets_of_one_distribution_differ_in_nothing_and_a_shift_of_the_mean_is_the_probes(study):
    """Far from the origin the uncentred overlap of any two sets is almost 1: a cosine of two means."""
    basis = torch.linalg.qr(torch.randn(32, 12, generator=torch.Generator().manual_seed(0)))[0]
    first, second = basis[:, :6], basis[:, 6:]
    alike, chance = strictly(study, drawn(1, first), drawn(2, first))
    shifted, seen = strictly(study, drawn(1, first), drawn(2, first, shift=3.0))
    apart, _ = strictly(study, drawn(1, first), drawn(2, second))
    assert abs(alike) < 0.03 and abs(shifted) < 0.03 and apart > 0.5
    assert 0.4 < chance < 0.6 and seen > 0.95
