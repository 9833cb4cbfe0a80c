"""Models whose files do not hold every weight: the loader would fill them with random numbers, so they are refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.errors import StudyError
from helpers.models.load import load_model, save_model

SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def save(tokenizer, tmp_path):
    """A function that saves a small Llama, after a change of the tensors in its file, and returns the folder."""

    def make(change=dict, tied=False):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, **SMALL)
        save_model(LlamaForCausalLM(config), tokenizer, tmp_path / "model")
        file = tmp_path / "model" / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})
        return tmp_path / "model"

    return make


def without(*parts):
    """A change that drops the tensors whose names hold one of some parts."""
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(UP), f"does not hold {UP}, which would be filled with random numbers: save the model again"),
        (without(".mlp."), "up_proj.weight and 3 more"),
        (
            without("lm_head"),
            "output head lm_head.weight, and its config.json does not tie it: set tie_word",
        ),
        (lambda t: {"_orig_mod." + name: v for name, v in t.items()}, "carry the prefix '_orig_mod.'"),
        (lambda t: {"module." + name: v for name, v in t.items()}, "carry the prefix 'module.'"),
        (lambda t: {n.replace("1.mlp", "1._orig_mod.mlp"): v for n, v in t.items()}, "carry the prefix '_orig_mod.'"),
        (
            lambda t: {n.replace("up_proj", "up_proj.base_layer"): v for n, v in t.items()},
            "a LoRA adapter that is not merged",
        ),
        (lambda t: t | {UP: t[UP][:-1].clone()}, rf"{UP} is \(15, 8\) but must be \(16, 8\): correct config.json"),
        (lambda t: t | {UP: torch.zeros(0)}, r"is \(0,\) but must be .* gather what ZeRO-3 has divided"),
    ],
)
def test_a_weight_that_the_file_does_not_hold_is_refused(save, change, says, capfd):
    folder = save(change)
    with pytest.raises(StudyError, match=says) as refused:
        load_model(folder, "cpu")
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_a_head_that_is_the_embedding_need_not_be_stored(save):
    folder = save(tied=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model, _ = load_model(folder, "cpu")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    again, _ = load_model(folder, "cpu")
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())


def test_a_tensor_without_a_place_in_the_model_is_said_and_left_out(save, capfd):
    plain = load_model(save(), "cpu")[0].state_dict()
    folder = save(lambda t: t | {"v_head.summary.weight": torch.ones(1, 8), "mtp.norm.weight": torch.ones(8)})
    capfd.readouterr()
    model, _ = load_model(folder, "cpu")
    said = capfd.readouterr().err.strip().splitlines()
    assert [line for line in said if "mtp.norm.weight, v_head.summary.weight" in line] == said[-1:]
    assert all(torch.equal(t, plain[name]) for name, t in model.state_dict().items())


def test_experts_of_which_one_is_missing_are_named(tokenizer, tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(vocab_size=len(tokenizer), num_local_experts=4, num_key_value_heads=2, **SMALL)
    save_model(MixtralForCausalLM(config), tokenizer, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file(without("0.block_sparse_moe.experts.1.w1")(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(StudyError, match="not hold all parts of .*experts.gate_up_proj"):
        load_model(tmp_path / "model", "cpu")
