"""Models as people have them: in wrappers, with vision, as an adapter, with a tokenizer or files of an older kind."""

import copy
import json
import re
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.activations import capture, decoder_layers
from helpers.errors import StudyError
from helpers.models.generate import generate, log_odds
from helpers.models.load import load_model, load_tokenizer, save_model
from helpers.models.origins import from_gguf, resolve
from helpers.models.prompts import prompt_ids
from helpers.models.within import language_model
from helpers.studies.sections import Origin
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import weight_geometry
from pipeline.card.arguments import origin

PROMPTS = ["CALC 3 +4 *2 neg =", "CALL keep a WITH b c d"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "initializer_range": 0.3, "max_position_embeddings": 64, "pad_token_id": 0}


def under_an_adapter(model, **settings):
    """A model in PEFT's wrapper with an adapter that changes something."""
    torch.manual_seed(3)
    wrapped = get_peft_model(model, LoraConfig(**LORA | settings)).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return wrapped


def behaviour(model, tokenizer):
    """Activations, margins and answers of a model."""
    odds = log_odds(model, tokenizer, PROMPTS, ["SURE"], ["SORRY"], 2)
    return capture(model, tokenizer, PROMPTS), torch.tensor(odds), generate(model, tokenizer, PROMPTS, 4, 2)


def same(a, b):
    """Whether two models behave alike."""
    torch.testing.assert_close(a[:2], b[:2], rtol=1e-4, atol=1e-3)
    return a[2] == b[2]


class WithValue(nn.Module):
    """A language model beside a value head, as reinforcement learning keeps it."""

    def __init__(self, model):
        super().__init__()
        self.pretrained_model, self.v_head = model, nn.Linear(1, 1)


def test_an_adapter_in_memory_is_the_merged_model(model, tokenizer):
    wrapped = under_an_adapter(model)
    found = behaviour(wrapped, tokenizer)
    assert same(found, behaviour(copy.deepcopy(wrapped).merge_and_unload(), tokenizer))


@pytest.mark.parametrize("wrap", [torch.compile, WithValue, nn.DataParallel])
def test_a_wrapper_behaves_as_the_model_within(model, tokenizer, wrap):
    assert same(behaviour(wrap(model), tokenizer), behaviour(model, tokenizer))


def test_what_is_no_language_model_is_one_sentence(model):
    with pytest.raises(StudyError, match="Linear is no model of transformers"):
        language_model(nn.Linear(2, 2))
    prompt = get_peft_model(model, __import__("peft").PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(StudyError, match="adds virtual tokens to every prompt"):
        language_model(prompt)


def seeing(name, tokenizer):
    """A tiny vision-language model with as many blocks of either kind."""
    torch.manual_seed(1)
    text = {"vocab_size": len(tokenizer), **TEXT}
    if name == "gemma3":
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision |= {"image_size": 28, "patch_size": 14}
        config = tf.Gemma3Config(text_config={**text, "head_dim": 8}, vision_config=vision, mm_tokens_per_image=4)
        return tf.Gemma3ForConditionalGeneration(config).eval()
    if name == "qwen2_5_vl":
        vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
        config = tf.Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=vision)
        return tf.Qwen2_5_VLForConditionalGeneration(config).eval()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = tf.LlavaConfig(
        text_config={"model_type": "llama", **text}, vision_config={"model_type": "clip_vision_model", **vision}
    )
    return tf.LlavaForConditionalGeneration(config).eval()


@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl", "llava"])
def test_the_language_part_of_a_model_that_sees(tokenizer, tmp_path, name):
    model = seeing(name, tokenizer)
    assert "Vision" not in type(decoder_layers(model)[0]).__name__ and len(decoder_layers(model)) == 2
    found, odds, said = behaviour(model, tokenizer)
    for i, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            right = model(torch.tensor([tokenizer(prompt)["input_ids"]]), output_hidden_states=True)
        torch.testing.assert_close(found[0, i], right.hidden_states[1][0, -1], rtol=1e-4, atol=1e-4)
        after = right.logits[0, -1].double()
        yes, no = (after[tokenizer.convert_tokens_to_ids(word)] for word in ("SURE", "SORRY"))
        assert odds[i].item() == pytest.approx((yes - no).item(), abs=1e-3)
        assert said[i].split()[:1] == tokenizer.decode([int(after.argmax())], skip_special_tokens=True).split()[:1]
    save_model(model, tokenizer, tmp_path / "model")
    assert same(behaviour(load_model(tmp_path / "model", "cpu")[0], tokenizer), (found, odds, said))


@pytest.fixture
def start(model, tokenizer, tmp_path):
    """The folder of a model that adapters stand on."""
    save_model(model, tokenizer, tmp_path / "start")
    return tmp_path / "start"


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}],
)
def test_a_folder_with_an_adapter_is_merged_in_memory(start, tokenizer, tmp_path, settings):
    wrapped = under_an_adapter(load_model(start, "cpu")[0], **settings)
    wrapped.save_pretrained(tmp_path / "adapter")
    right = behaviour(wrapped.merge_and_unload(), tokenizer)
    found, its_tokenizer = load_model(tmp_path / "adapter", "cpu", starts=[start])
    assert type(found) is tf.LlamaForCausalLM and len(its_tokenizer) == len(tokenizer)
    assert same(behaviour(found, tokenizer), right)
    assert same(behaviour(load_model(tmp_path / "adapter", "cpu")[0], tokenizer), right)  # upon the one that it names


def test_an_adapter_without_its_start_or_upon_another_one_is_one_sentence(start, tokenizer, tmp_path):
    adapter = tmp_path / "adapter"
    under_an_adapter(load_model(start, "cpu")[0]).save_pretrained(adapter)
    config = tf.LlamaConfig(vocab_size=len(tokenizer), **TEXT | {"num_hidden_layers": 1})
    save_model(tf.LlamaForCausalLM(config), tokenizer, tmp_path / "other")
    with pytest.raises(StudyError, match="adapter"):
        load_model(adapter, "cpu", starts=[tmp_path / "other"])
    shutil.rmtree(start)
    with pytest.raises(StudyError, match=r"is an adapter upon .*start, which is not here: give .* starts="):
        load_model(adapter, "cpu")


def test_an_adapter_beside_full_weights_is_never_attached(start, tmp_path):
    under_an_adapter(load_model(start, "cpu")[0]).save_pretrained(tmp_path / "adapter")
    for file in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(file, start)
    with pytest.raises(StudyError, match="holds full weights .* and a LoRA adapter .* which are two models"):
        load_model(start, "cpu")


@pytest.mark.parametrize(
    "settings",
    [{"modules_to_save": ["embed_tokens", "lm_head"]}, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}],
)
def test_an_adapter_with_a_larger_vocabulary_brings_its_rows(start, tokenizer, tmp_path, settings):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<mine>"])
    larger = load_model(start, "cpu")[0]
    larger.resize_token_embeddings(len(own))
    wrapped = under_an_adapter(larger, **settings)
    wrapped.save_pretrained(tmp_path / "adapter")
    own.save_pretrained(tmp_path / "adapter")
    found, its = load_model(tmp_path / "adapter", "cpu", starts=[start])
    assert len(its) == len(own) == found.config.vocab_size
    assert same(behaviour(found, own), behaviour(wrapped.merge_and_unload(), own))


def test_an_adapter_on_the_embedding_of_a_gpt2_with_a_larger_vocabulary_brings_its_rows(tokenizer, tmp_path):
    config = tf.GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32)
    save_model(tf.GPT2LMHeadModel(config), tokenizer, tmp_path / "start")
    larger = load_model(tmp_path / "start", "cpu")[0]
    larger.resize_token_embeddings(len(tokenizer) + 2)
    wrapped = under_an_adapter(larger, target_modules=["wte", "c_attn"], fan_in_fan_out=True)
    wrapped.save_pretrained(tmp_path / "adapter")
    found = load_model(tmp_path / "adapter", "cpu", starts=[tmp_path / "start"])[0]
    words = torch.tensor([[5, len(tokenizer) + 1, 6]])
    with torch.no_grad():  # as it is, for merging would change the head too, which is the embedding before it
        torch.testing.assert_close(found(words).logits, wrapped.eval()(words).logits, atol=1e-5, rtol=0)


def test_an_adapter_without_the_heads_rows_of_new_tokens_is_refused(start, tokenizer, tmp_path):
    larger = load_model(start, "cpu")[0]
    larger.resize_token_embeddings(len(tokenizer) + 1)
    under_an_adapter(larger, target_modules=["q_proj", "embed_tokens"]).save_pretrained(tmp_path / "adapter")
    with pytest.raises(StudyError, match="for new tokens and none of the head") as error:
        load_model(tmp_path / "adapter", "cpu", starts=[start])
    assert "\n" not in str(error.value)


def test_tokenizer_model_alone_names_the_packages_that_it_takes(start, monkeypatch):
    monkeypatch.setattr("helpers.models.load.is_protobuf_available", lambda: False)
    for file in start.glob("tokenizer*"):
        file.unlink()
    (start / "tokenizer.model").write_bytes(b"")
    with pytest.raises(
        StudyError, match="tokenizer.model and no tokenizer.json, .*protobuf: run `pip install"
    ) as error:
        load_tokenizer(start)
    assert "\n" not in str(error.value)


def test_weights_in_shards_with_a_trainers_files_beside_load_as_they_are(start, tokenizer, tmp_path):
    model = load_model(start, "cpu")[0]
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    torch.save({"state": {}}, tmp_path / "shards" / "optimizer.pt")
    save_file({"x": torch.ones(1)}, tmp_path / "shards" / "consolidated.safetensors")
    found = load_model(tmp_path / "shards", "cpu")[0].state_dict()
    right = load_file(start / "model.safetensors")
    assert all(torch.equal(found[name], right[name]) for name in right)
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert np.isfinite(index["metadata"]["total_size"])


def packed(file: Path, kind: gguf.GGMLQuantizationType | None = None) -> np.ndarray:
    """Write a GGUF file of a small Llama with a tokenizer; returns its rows of the embedding, (tokens, width).

    With ``kind`` its matrices are rounded to that type of numbers.
    """
    generator = np.random.default_rng(0)
    tokens = ["<unk>", "<s>", "</s>", "ab", *(chr(33 + i) for i in range(90))]
    width, inner, blocks = 32, 64, 2
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(blocks)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    square, up, down = (width, width), (inner, width), (width, inner)
    maps = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    maps |= {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    shapes = {f"blk.{i}.{name}.weight": shape for i in range(blocks) for name, shape in maps.items()}
    shapes |= {f"blk.{i}.{name}.weight": (width,) for i in range(blocks) for name in ("attn_norm", "ffn_norm")}
    shapes |= {"output_norm.weight": (width,), "token_embd.weight": (len(tokens), width)}
    shapes |= {"output.weight": (len(tokens), width)}
    tensors = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if kind is None or tensor.ndim == 1:
            writer.add_tensor(name, tensor)
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors["token_embd.weight"]


@pytest.mark.parametrize("place", [".", "mine.gguf"])
def test_a_gguf_file_and_a_folder_with_nothing_but_one_are_models(tmp_path, monkeypatch, place):
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()
    rows = packed(tmp_path / "given" / "mine.gguf")
    given = origin(str(tmp_path / "given" / place))
    folder = resolve(Origin(**given))
    model, tokenizer = load_model(folder, "cpu")
    np.testing.assert_array_equal(model.get_input_embeddings().weight.detach().numpy(), rows)
    assert tokenizer("ab")["input_ids"][-1] == 3
    (tmp_path / "given" / "second.gguf").touch()
    with pytest.raises(StudyError, match="holds 2 GGUF files: say which one by its path"):
        resolve(Origin(origin="folder", path=str(tmp_path / "given")))


@pytest.mark.parametrize(
    ("kind", "said"), [(None, ""), ("F16", ""), ("Q4_0", r"Q4_0 \(4.5 bits a weight\): an update")]
)
def test_what_was_quantised_in_a_gguf_file_is_said(tmp_path, monkeypatch, kind, said):
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path / "cache"))
    packed(tmp_path / "plain.gguf")
    packed(tmp_path / "mine.gguf", kind and gguf.GGMLQuantizationType[kind])
    start, base = (Checkpoint(from_gguf(tmp_path / name)) for name in ("plain.gguf", "mine.gguf"))
    found = weight_geometry({"alignment": (start, base)}, ["alignment"], [], ["top-k"], [0.5], 1, 0)
    remarks = [remark for remark in found.remarks if "dequantised" in remark]
    assert len(remarks) == bool(said) and all(re.search(said, remark) for remark in remarks)
    (base.folder / "dequantised.json").unlink()  # as an older version left its cache
    assert not any("dequantised" in remark for remark in Checkpoint(base.folder).remarks)
    assert from_gguf(tmp_path / "mine.gguf") == base.folder and Checkpoint(base.folder).remarks == remarks


def test_a_gguf_file_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mine.gguf"
    packed(file)
    whole = file.read_bytes()
    for content in (b"nonsense", b"", b"GGUF" + bytes(50), whole[: len(whole) // 2], whole[:100]):
        file.write_bytes(content)
        with pytest.raises(StudyError, match=r"mine.gguf cannot be read \(.+\): fetch it again") as error:
            from_gguf(file)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{% for m in messages %}{{ m }", "{{ a.b.c }}"])
def test_a_chat_template_that_cannot_be_used_is_one_sentence(tokenizer, template):
    own = copy.deepcopy(tokenizer)
    own.chat_template = template
    with pytest.raises(StudyError, match=r"cannot write a prompt \(.+\): correct chat_template in") as error:
        prompt_ids(own, PROMPTS, "chat")
    assert "\n" not in str(error.value)


def test_a_tokenizer_model_alone_is_read_as_its_own_library_reads_it(tmp_path):
    text = tmp_path / "text"
    text.write_text("\n".join(f"model {i} answers a request about topic {i % 7}" for i in range(300)))
    prefix = str(tmp_path / "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=prefix, vocab_size=90, model_type="bpe", minloglevel=2
    )
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False}
    config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    right = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    found = load_tokenizer(tmp_path)
    for said in ("a request about topic 3", "model answers"):
        assert found(said)["input_ids"] == [right.bos_id(), *right.encode(said)]
