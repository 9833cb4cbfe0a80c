"""Variants in the live model against variants computed from scratch."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.checkpoints import update
from helpers.subspaces import project, rank_for_fraction
from helpers.variants import LiveUpdate, control_bases
from synthetic import moved, write

FRACTIONS = [0.01, 0.25, 0.5, 0.75, 0.99]


def small_llama(tied=False) -> LlamaForCausalLM:
    """A tiny Llama with grouped-query attention."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=37,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )


def study(folder, model):
    """The model as aligned checkpoint, with a base and a fine-tuned one."""
    model.save_pretrained(folder / "aligned")
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = {"tie_word_embeddings": model.config.tie_word_embeddings}
    from helpers.checkpoints import Checkpoint

    aligned = Checkpoint(folder / "aligned")
    return (
        aligned,
        write(folder / "base", moved(tensors, 1), config=config),
        write(folder / "task", moved(tensors, 2), config=config),
    )


@pytest.mark.parametrize("mode", ["parallel", "orthogonal"])
@pytest.mark.parametrize("kind", ["top-k", "random-k", "random"])
def test_sweep_equals_projection_from_scratch(tmp_path, mode, kind):
    model = small_llama()
    aligned, base, task = study(tmp_path, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    bases = control_bases((aligned, base), kind, seed=3)
    with LiveUpdate(model, aligned, task) as live:
        for fraction in live.sweep(bases, FRACTIONS, mode):
            kept = total = 0.0
            for name, parameter in model.named_parameters():
                d = update(task, aligned, name)
                k = rank_for_fraction(tuple(d.shape), fraction)
                part = project(bases[name], d, k, mode)
                expected = aligned.tensor(name).double() + part
                assert (parameter - expected).abs().max() < 1e-6
                kept, total = kept + float(part.square().sum()), total + float(d.square().sum())
            assert live.energy_kept == pytest.approx(kept / total, abs=1e-5)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
