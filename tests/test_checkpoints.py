"""Checkpoints are matched by name, and nothing that does not match goes unnoticed."""

import pytest
import torch

from helpers.errors import MissingInput, StudyError, TensorMismatch
from helpers.weights.checkpoints import Checkpoint, layer_of, matched, module_of, update
from helpers.weights.matching import agree
from synthetic import llama_shapes, moved, random_tensors, write


@pytest.fixture
def tensors():
    return random_tensors(llama_shapes(), 0)


def test_single_and_sharded_are_read_alike(tmp_path, tensors):
    one, many = write(tmp_path / "one", tensors), write(tmp_path / "many", tensors, shards=3)
    assert one.names == many.names
    assert one.names[0] == "model.embed_tokens.weight" and one.names[-1] == "model.norm.weight"
    for name, tensor in tensors.items():
        assert torch.equal(one.tensor(name), tensor) and torch.equal(many.tensor(name), tensor)
        assert one.shape(name) == tuple(tensor.shape)
    assert len(many.files()) == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_update_is_the_exact_difference(tmp_path, tensors, dtype):
    stored = {name: t.to(dtype) for name, t in tensors.items()}
    after = moved(stored, 1)
    a, b = write(tmp_path / "a", stored), write(tmp_path / "b", after)
    for name in a.names:
        assert torch.equal(update(b, a, name), after[name].double() - stored[name].double())


def test_modules_and_layers():
    assert module_of("model.layers.3.self_attn.q_proj.weight") == "q_proj"
    assert module_of("model.layers.3.self_attn.q_proj.bias") == "q_proj"
    assert (module_of("lm_head.weight"), layer_of("lm_head.weight")) == ("lm_head", -1)
    assert layer_of("model.layers.13.input_layernorm.weight") == 13


def sentence(tmp_path, first, second, **options):
    """The error of matching two sets of tensors."""
    a, b = write(tmp_path / "a", first), write(tmp_path / "b", second)
    with pytest.raises(TensorMismatch) as error:
        matched((a, b), **options)
    text = str(error.value)
    assert "\n" not in text and str(tmp_path / "a") in text and str(tmp_path / "b") in text
    return text


def test_missing_extra_and_renamed(tmp_path, tensors):
    fewer = {name: t for name, t in tensors.items() if name != "model.norm.weight"}
    assert "model.norm.weight of shape (12,)" in sentence(tmp_path / "1", tensors, fewer)
    assert "model.norm.weight of shape (12,)" in sentence(tmp_path / "2", fewer, tensors)
    renamed = {f"transformer.{name}" if name == "lm_head.weight" else name: t for name, t in tensors.items()}
    assert "has transformer.lm_head.weight of that shape: rename it" in sentence(tmp_path / "3", tensors, renamed)
    up = "model.layers.1.mlp.up_proj.weight"
    in_layer = {"model.layers.1.mlp.w3.weight" if name == up else name: t for name, t in tensors.items()}
    found = sentence(tmp_path / "4", tensors, in_layer)
    assert up in found and "has model.layers.1.mlp.w3.weight of that shape: rename it" in found
    elsewhere = {"model.layers.9.mlp.up_proj.weight" if name == up else name: t for name, t in tensors.items()}
    assert "compare models of one architecture" in sentence(tmp_path / "5", tensors, elsewhere)


def test_transposed_and_resized(tmp_path, tensors):
    name = "model.layers.0.mlp.up_proj.weight"
    text = sentence(tmp_path / "1", tensors, tensors | {name: tensors[name].T})
    assert name in text and "(20, 12)" in text and "(12, 20)" in text and "transpose" in text
    other = tensors | {name: tensors[name][:9]}
    assert "(9, 12)" in sentence(tmp_path / "2", tensors, other, vocabulary="intersection")


def test_resized_vocabulary_needs_the_intersection(tmp_path, tensors):
    resized = tensors | {
        n: torch.cat([tensors[n], tensors[n][:3]]) for n in ("lm_head.weight", "model.embed_tokens.weight")
    }
    assert "ask for `vocabulary: intersection`" in sentence(tmp_path, tensors, resized)
    a, b = Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b")
    common = matched((a, b), vocabulary="intersection")
    assert common["lm_head.weight"] == (37, 12)
    with pytest.raises(TensorMismatch):
        update(b, a, "lm_head.weight")


def test_tied_head_counts_once(tmp_path, tensors):
    tied = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    stored_twice = write(tmp_path / "twice", tied, config={"tie_word_embeddings": True})
    stored_once = write(tmp_path / "once", {n: t for n, t in tied.items() if n != "lm_head.weight"})
    assert "lm_head.weight" not in stored_twice
    assert [*matched((stored_twice, stored_once))] == stored_once.names
    with pytest.raises(TensorMismatch, match="differ although config.json ties them"):
        write(tmp_path / "wrong", tensors, config={"tie_word_embeddings": True})


def test_a_tied_head_with_nan_is_told_of_the_nan(tmp_path, tensors):
    table = tensors["model.embed_tokens.weight"].clone()
    table[20, 3] = float("nan")
    broken = tensors | {"lm_head.weight": table, "model.embed_tokens.weight": table.clone()}
    found = write(tmp_path / "twice", broken, config={"tie_word_embeddings": True})
    assert "lm_head.weight" not in found
    with pytest.raises(TensorMismatch, match="embed_tokens.weight of shape .* holds NaN or infinity .1 values"):
        update(found, write(tmp_path / "start", tensors), "model.embed_tokens.weight")
    eight = {
        name: one.to(torch.float8_e4m3fn) if name in ("lm_head.weight", "model.embed_tokens.weight") else one
        for name, one in broken.items()
    }
    assert "lm_head.weight" not in write(tmp_path / "eight", eight)
    other = broken | {"lm_head.weight": tensors["lm_head.weight"]}
    with pytest.raises(TensorMismatch, match="differ although config.json ties them"):
        write(tmp_path / "wrong", other, config={"tie_word_embeddings": True})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_names_the_file(tmp_path, tensors, value):
    broken = {name: t.clone() for name, t in tensors.items()}
    broken["model.layers.1.mlp.down_proj.weight"][3, 4] = value
    a, b = write(tmp_path / "a", tensors), write(tmp_path / "b", broken)
    with pytest.raises(
        TensorMismatch, match=r"down_proj.weight of shape \(12, 20\) in .*/b/model.safetensors holds NaN"
    ):
        update(b, a, "model.layers.1.mlp.down_proj.weight")


def test_damaged_folders_are_refused(tmp_path, tensors):
    with pytest.raises(MissingInput, match="does not exist"):
        Checkpoint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInput, match="neither model.safetensors nor"):
        Checkpoint(tmp_path / "empty")
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(StudyError, match="pytorch_model.bin and no safetensors"):
        Checkpoint(tmp_path / "empty")
    file = write(tmp_path / "cut", tensors).file("lm_head.weight")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TensorMismatch, match="truncated"):
        Checkpoint(tmp_path / "cut")
    shards = write(tmp_path / "shards", tensors, shards=2).files()
    index = tmp_path / "shards" / "model.safetensors.index.json"
    kept = index.read_bytes()
    index.unlink()
    with pytest.raises(MissingInput, match=r"holds model-00001-of-00002.safetensors, .* but no .*index.json, which"):
        Checkpoint(tmp_path / "shards")
    index.write_bytes(kept)
    write(tmp_path / "other", tensors).file("lm_head.weight").rename(tmp_path / "other" / "weights.safetensors")
    with pytest.raises(MissingInput, match=r"holds weights.safetensors but neither .*: rename what holds the whole"):
        Checkpoint(tmp_path / "other")
    with pytest.raises(MissingInput, match="the files in .*none hold no weights: save the model there again"):
        write(tmp_path / "none", {})
    (tmp_path / "none" / "model.safetensors").unlink()
    (tmp_path / "none" / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(MissingInput, match="hold no weights"):
        Checkpoint(tmp_path / "none")
    shards[1].unlink()
    with pytest.raises(TensorMismatch, match="does not exist"):
        Checkpoint(tmp_path / "shards")


def test_integer_tensors_are_refused(tmp_path, tensors):
    with pytest.raises(StudyError, match="stored as I64"):
        write(tmp_path, tensors | {"model.layers.0.step.weight": torch.ones(3, dtype=torch.int64)})


def test_broken_settings_are_refused(tmp_path, tensors):
    write(tmp_path, tensors)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(StudyError, match="is not JSON"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(StudyError, match=r"config.json holds no keys but '\[\]': copy or save"):
        Checkpoint(tmp_path)


def test_settings_of_a_text_model_that_are_empty_are_none(tmp_path, tensors):
    config = {"model_type": "llama", "text_config": None}
    first = write(tmp_path / "a", tensors | {"model.layers.0.mlp.experts.up": torch.ones(2, 12, 5)}, config=config)
    headless = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    second = write(tmp_path / "b", headless, config=config)
    with pytest.raises(TensorMismatch, match="holds no output head, others of these models do"):
        agree({"x": (first, second)})
    with pytest.raises(TensorMismatch, match="save the model again"):
        matched((first, second))


def test_the_remedy_is_true_of_both_models(tmp_path, tensors):
    name, config = "model.layers.0.mlp.up_proj.weight", {"model_type": "llama", "hidden_size": 12}
    first = write(tmp_path / "a", tensors, config=config)
    second = write(tmp_path / "b", tensors | {name: torch.ones(5, 3)}, config=config)
    with pytest.raises(TensorMismatch, match="although the config.json of both asks for the same: save the model"):
        matched((first, second))
    other = write(tmp_path / "c", tensors | {name: torch.ones(5, 3)}, config=config | {"hidden_size": 3})
    with pytest.raises(TensorMismatch, match=r"compare models of one architecture .hidden_size is 12 in one and 3 in"):
        matched((first, other))
