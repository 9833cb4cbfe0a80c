"""Models whose files do not hold every weight: the loader would fill them with random numbers, so they are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartModel, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from helpers.errors import MissingInput, StudyError
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
        (lambda t: {"base_model.model." + name: v for name, v in t.items()}, "carry the prefix 'base_model.model.'"),
        (lambda t: {"language_model." + name: v for name, v in t.items()}, "carry the prefix 'language_model.'"),
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


def test_a_folder_without_a_model_is_told_so_and_not_to_be_deleted(tmp_path):
    (tmp_path / "notes").mkdir()
    for folder, words in (
        (tmp_path / "nope", "there is no folder .*nope: correct the path, or make or download the model first"),
        (tmp_path / "notes", "notes holds no config.json, so it is no model's: give the folder of a model, or save"),
    ):
        with pytest.raises(MissingInput, match=words) as refused:
            load_model(folder, "cpu")
        assert "delete" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "brand_new"}, "of the type 'brand_new', which the installed transformers .* does not support"),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}},
            r"needs code of its own repository \(auto_map\), which is never run: give a model of a type",
        ),
        ({"model_type": "vit"}, r"is no language model \(vit\): give one that goes on with a text"),
    ],
)
def test_a_sound_model_of_a_kind_that_is_not_loaded_is_told_why(save, change, says):
    folder = save()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(StudyError, match=says) as refused:
        load_model(folder, "cpu")
    assert "\n" not in str(refused.value) and "fetch it again" not in str(refused.value)


@pytest.mark.parametrize(("family", "model"), [(T5Config, T5ForConditionalGeneration), (BartConfig, BartModel)])
def test_an_encoder_decoder_is_told_so(tokenizer, tmp_path, family, model):
    small = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2}
    small |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    save_model(model(family(vocab_size=len(tokenizer), **small)), tokenizer, tmp_path / "model")
    with pytest.raises(StudyError, match=r"model is an encoder-decoder \((t5|bart)\): give one that goes on with"):
        load_model(tmp_path / "model", "cpu")


def test_a_tokenizer_that_needs_code_is_told_so(save):
    file = save() / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["t.T", None]}, "tokenizer_class": "MyTokenizer"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    with pytest.raises(StudyError, match=r"the tokenizer in .* needs code of its own repository .*, which is never"):
        load_model(file.parent, "cpu")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {}}))  # as the sentence says
    assert load_model(file.parent, "cpu")


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
