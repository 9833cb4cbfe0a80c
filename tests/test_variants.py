"""Variants in the live model against variants computed from scratch."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.errors import StudyError, TensorMismatch
from helpers.subspaces import project, rank_for_fraction
from helpers.weights.checkpoints import Checkpoint, update
from helpers.weights.edits import LiveUpdate, control_bases
from synthetic import modes_of, moved, write

FRACTIONS = [0.01, 0.25, 0.5, 0.75, 0.99]
EXACT = {torch.float32: 1e-6, torch.bfloat16: 2**-7}  # rounding of weights of size about 1


def small_llama(tied: bool = False, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A tiny Llama with grouped-query attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype)


def study(folder, model, frozen: tuple[str, ...] = ()):
    """The model as the aligned checkpoint, with a base and a fine-tuned one; ``frozen`` tensors stay as in the base."""
    model.save_pretrained(folder / "aligned")
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = {"tie_word_embeddings": model.config.tie_word_embeddings}
    base, task = moved(tensors, 1), moved(tensors, 2)
    base |= {name: tensors[name] for name in frozen}
    return (
        Checkpoint(folder / "aligned"),
        write(folder / "base", base, config=config),
        write(folder / "task", task, config=config),
    )


def copies(model) -> dict[str, torch.Tensor]:
    """The parameters as they are now."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_unchanged(model, before):
    """Every parameter is bit for bit what it was."""
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["parallel", "orthogonal"])
@pytest.mark.parametrize("kind", ["top-k", "random-k", "random"])
def test_sweep_equals_projection_from_scratch(tmp_path, mode, kind, dtype):
    model = small_llama(dtype=dtype)
    frozen = "model.layers.1.mlp.up_proj.weight"
    aligned, base, task = study(tmp_path, model, frozen=(frozen,))
    before = copies(model)
    bases = control_bases(modes_of(aligned, base), kind, seed=3)
    assert frozen not in bases
    with LiveUpdate(model, aligned, task) as live:
        for fraction in live.sweep(bases, FRACTIONS, mode):
            kept = total = 0.0
            for name, parameter in model.named_parameters():
                d = update(task, aligned, name)
                basis = bases.get(name, d.new_zeros(len(d), 0))
                k = min(rank_for_fraction(tuple(d.shape), fraction), basis.shape[1])
                part = project(basis, d, k, mode)
                expected = aligned.tensor(name).double() + part
                assert ((parameter - expected).abs() <= EXACT[dtype] * expected.abs().clamp(min=0.1)).all()
                kept, total = kept + float(part.square().sum()), total + float(d.square().sum())
            assert live.energy_kept == pytest.approx(kept / total, abs=1e-5)
    assert_unchanged(model, before)


@pytest.mark.parametrize("tied", [False, True])
def test_scaling_ends_at_the_fine_tuned_model(tmp_path, tied):
    model = small_llama(tied)
    aligned, _, task = study(tmp_path, model)
    before = copies(model)
    with LiveUpdate(model, aligned, task) as live:
        live.scale(1.0)
        assert all(torch.equal(p, task.tensor(name)) for name, p in model.named_parameters())
        live.scale(0.0)
        assert_unchanged(model, before)
        live.scale(0.5)
        assert live.energy_kept == 0.25
    assert_unchanged(model, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_applied_tensor_by_tensor_and_undone(tmp_path, dtype):
    model = small_llama(dtype=dtype)
    aligned, _, task = study(tmp_path, model)
    before = copies(model)
    edited = {name: aligned.tensor(name).double() * 0.5 + update(task, aligned, name) for name in aligned.names}
    with LiveUpdate(model, aligned, task) as live:
        live.apply(edited.__getitem__)
        assert all(torch.equal(p, edited[name].to(dtype)) for name, p in model.named_parameters())
        moved_by = sum(float((edited[n] - aligned.tensor(n).double()).square().sum()) for n in edited)
        whole = sum(float(update(task, aligned, n).square().sum()) for n in edited)
        assert live.energy_kept == pytest.approx(moved_by / whole, rel=1e-5)
        live.apply(lambda name: task.tensor(name).double())
        assert live.energy_kept == pytest.approx(1, rel=1e-5)
        live.scale(0.0)
        assert_unchanged(model, before)
        with pytest.raises(KeyError):
            live.apply({name: t for name, t in edited.items() if "norm" not in name}.__getitem__)
    assert_unchanged(model, before)


@pytest.mark.parametrize("mode", ["parallel", "orthogonal"])
def test_bases_of_the_input_side_act_from_the_right(tmp_path, mode):
    model = small_llama()
    aligned, base, task = study(tmp_path, model)
    right = {n: torch.linalg.svd(update(aligned, base, n))[2].T for n in aligned.names if len(aligned.shape(n)) == 2}
    with LiveUpdate(model, aligned, task) as live:
        for fraction in live.sweep(right, FRACTIONS, mode, side="input"):
            for name, parameter in model.named_parameters():
                d = update(task, aligned, name)
                v = right[name][:, : rank_for_fraction(tuple(d.shape), fraction)] if d.ndim == 2 else d.new_zeros(1, 0)
                part = (d.reshape(len(d), -1) @ v @ v.T).reshape(d.shape)
                expected = aligned.tensor(name) + (part if mode == "parallel" else d - part)
                assert torch.allclose(parameter.double(), expected, atol=1e-6)


def test_undone_after_an_exception(tmp_path):
    model = small_llama()
    aligned, base, task = study(tmp_path, model)
    before = copies(model)
    bases = control_bases(modes_of(aligned, base), "top-k", 0)
    with pytest.raises(RuntimeError, match="evaluation"), LiveUpdate(model, aligned, task) as live:
        for _ in live.sweep(bases, FRACTIONS, "parallel"):
            raise RuntimeError("evaluation broke")
    assert_unchanged(model, before)


def test_gradients_stay_as_the_caller_had_them(tmp_path):
    model = small_llama()
    aligned, base, task = study(tmp_path, model)
    with LiveUpdate(model, aligned, task) as live:
        for _ in live.sweep(control_bases(modes_of(aligned, base), "top-k", 0), [0.5], "parallel"):
            assert torch.is_grad_enabled()
    assert all(p.requires_grad for p in model.parameters())


def test_draws_are_reproducible_and_apart(tmp_path):
    aligned, base, _ = study(tmp_path, small_llama())
    name = "model.layers.0.mlp.down_proj.weight"
    modes = modes_of(aligned, base)
    for kind in ("random-k", "random"):
        one = control_bases(modes, kind, 0)[name]
        assert torch.equal(one, control_bases(modes, kind, 0)[name])
        for other in ({"seed": 1}, {"seed": 0, "draw": 1}, {"seed": 0, "label": "safety"}):
            assert not torch.equal(one, control_bases(modes, kind, **other)[name])


def test_another_model_is_refused(tmp_path):
    model = small_llama()
    aligned, base, task = study(tmp_path, model)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    with pytest.raises(StudyError, match="lm_head.weight of the live model is not the one in"):
        LiveUpdate(model, aligned, task).__enter__()
    with pytest.raises(TensorMismatch, match="of the live model"):
        LiveUpdate(small_llama(tied=True), base, task)


def test_broken_fine_tune_is_refused_and_leaves_the_model(tmp_path):
    model = small_llama()
    aligned, _, task = study(tmp_path, model)
    before = copies(model)
    tensors = {name: task.tensor(name).clone() for name in task.names}
    tensors["lm_head.weight"][1, 1] = float("nan")
    broken = write(tmp_path / "broken", tensors)
    with pytest.raises(TensorMismatch, match="lm_head.weight .* holds NaN"), LiveUpdate(model, aligned, broken):
        pass
    assert_unchanged(model, before)
