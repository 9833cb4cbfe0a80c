"""LoRA adapters made and merged by PEFT itself: what is read upon the start is what merging gives."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from helpers.errors import StudyError
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import weight_geometry

SMALL = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
MAKE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)),
    "biased": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SMALL, num_key_value_heads=1, num_local_experts=3)),
    "gpt_oss": lambda: GptOssForCausalLM(
        GptOssConfig(**SMALL | {"num_hidden_layers": 1}, num_key_value_heads=1, head_dim=8, num_local_experts=3)
    ),
}
TWO = {"target_modules": ["q_proj", "down_proj"]}
KINDS = {
    "plain": ("llama", TWO),
    "rslora": ("llama", TWO | {"use_rslora": True}),
    "patterns": ("llama", TWO | {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 20}}),
    "dora": ("llama", TWO | {"use_dora": True}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "v_proj"]}),
    "tied embedding": ("tied", {"target_modules": ["embed_tokens", "v_proj"]}),
    "head": ("llama", TWO | {"modules_to_save": ["lm_head", "input_layernorm"]}),
    "all linear": ("llama", {"target_modules": "all-linear"}),
    "biases": ("biased", TWO | {"lora_bias": False, "bias": "lora_only"}),
    "bias of lora": ("biased", {"target_modules": ["q_proj"], "lora_bias": True}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "gpt2 dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True}),
    "router": ("mixtral", {"target_modules": ["q_proj", "gate"]}),  # which the files have under another name
    "experts": ("gpt_oss", {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]}),
    "experts and attention": (
        "gpt_oss",
        {
            "target_modules": ["q_proj"],
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_merging_gives(tmp_path, kind):
    family, options = KINDS[kind]
    torch.manual_seed(0)
    start = MAKE[family]()
    start.save_pretrained(tmp_path / "start")
    model = get_peft_model(start, LoraConfig(r=3, lora_alpha=7, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or (options.get("bias") and name.endswith("q_proj.bias")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload(safe_merge=True).save_pretrained(tmp_path / "merged")
    first, merged = Checkpoint(tmp_path / "start"), Checkpoint(tmp_path / "merged")
    read = Adapted(Checkpoint(tmp_path / "adapter"), first)
    assert read.names == merged.names
    for name in read.names:
        assert torch.allclose(read.tensor(name).double(), merged.tensor(name).double(), atol=2e-6), name
    changed = {name for name in read.names if not torch.equal(read.tensor(name).float(), first.tensor(name).float())}
    assert changed >= set(read.low_rank) | set(read.whole) - {n for n in read.whole if n.endswith("bias")}
    found = weight_geometry({"x": (Checkpoint(tmp_path / "adapter"), first)}, ["x"], ["x"], ["top-k"], [0.5], 1, 0)
    total = sum(float((merged.tensor(n).double() - first.tensor(n).double()).square().sum()) for n in merged.names)
    assert sum(found.total.values()) == pytest.approx(total, rel=1e-4)
    if kind in ("plain", "rslora", "experts"):
        assert {rank for key, rank in found.rank.items() if rank} == {3}


def test_experts_that_the_files_name_otherwise_are_told_so_and_can_be_merged(tmp_path):
    torch.manual_seed(0)
    start = MAKE["mixtral"]()
    start.save_pretrained(tmp_path / "start")
    first = Checkpoint(tmp_path / "start")
    kind = {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}
    model = get_peft_model(start, LoraConfig(r=3, lora_alpha=7, **kind))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    words = r"changes model.layers.0.mlp.experts, as transformers names all experts in memory, and .*start holds them "
    words += r"under other names \(model.layers.0.block_sparse_moe.experts.0.w1.weight\): give the model that merge_and"
    with pytest.raises(StudyError, match=words):
        Adapted(Checkpoint(tmp_path / "adapter"), first)
    model.merge_and_unload(safe_merge=True).save_pretrained(tmp_path / "merged")
    merged = Checkpoint(tmp_path / "merged")
    moved = {name for name in merged.names if not torch.equal(merged.tensor(name), first.tensor(name))}
    assert moved == {name for name in first.names if name.endswith(".w2.weight")}
