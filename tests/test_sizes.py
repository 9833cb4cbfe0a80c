"""Sizes from ``config.json`` alone: near those that the makers of 30 families give, as the plan needs them."""

import pytest

from pipeline.plan.sizes import near

Q, KV = "num_attention_heads", "num_key_value_heads"
PUBLISHED = {  # numbers of config.json -> billions of parameters, and of those that a token is multiplied with
    "Llama-3.1-70B": ((8192, 80, 28672, 128256), {Q: 64, KV: 8}, 70.6, 69.5),
    "Qwen3-0.6B": ((1024, 28, 3072, 151936), {Q: 16, KV: 8, "head_dim": 128, "tie_word_embeddings": True}, 0.6, 0.6),
    "Gemma-2B": ((2048, 18, 16384, 256000), {Q: 8, KV: 1, "head_dim": 256, "tie_word_embeddings": True}, 2.5, 2.5),
    "Gemma-2-9B": ((3584, 42, 14336, 256000), {Q: 16, KV: 8, "head_dim": 256, "tie_word_embeddings": True}, 9.2, 9.2),
    "Gemma-3-4B": ((2560, 34, 10240, 262208), {Q: 8, KV: 4, "head_dim": 256, "tie_word_embeddings": True}, 3.9, 3.9),
    "Mistral-7B": ((4096, 32, 14336, 32000), {Q: 32, KV: 8}, 7.2, 7.1),
    "Phi-3-mini": ((3072, 32, 8192, 32064), {Q: 32, KV: 32}, 3.8, 3.7),
    "Phi-2": ((2560, 32, 10240, 51200), {Q: 32}, 2.8, 2.6),
    "Command-R": ((8192, 40, 22528, 256000), {Q: 64, KV: 64, "tie_word_embeddings": True}, 35.0, 35.0),
    "Pythia-1.4B": ((2048, 24, 8192, 50304), {Q: 16}, 1.4, 1.3),
    "SmolLM3-3B": ((2048, 36, 11008, 128256), {Q: 16, KV: 4, "tie_word_embeddings": True}, 3.1, 3.1),
    "StarCoder2-3B": ((3072, 30, 12288, 49152), {Q: 24, KV: 2, "tie_word_embeddings": True}, 3.0, 3.0),
    "Mamba-130M": ((768, 24, 1536, 50280), {"tie_word_embeddings": True}, 0.13, 0.13),
    "Mixtral-8x7B": (
        (4096, 32, 14336, 32000),
        {Q: 32, KV: 8, "num_local_experts": 8, "num_experts_per_tok": 2},
        46.7,
        12.8,
    ),
    "Qwen3-30B-A3B": (
        (2048, 48, 6144, 151936),
        {Q: 32, KV: 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
        30.5,
        3.0,
    ),
    "gpt-oss-20b": (
        (2880, 24, 2880, 201088),
        {Q: 64, KV: 8, "head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4},
        20.9,
        3.0,
    ),
    "OLMoE-1B-7B": ((2048, 16, 1024, 50304), {Q: 16, KV: 16, "num_experts": 64, "num_experts_per_tok": 8}, 6.9, 1.2),
    "DeepSeek-V3": (
        (7168, 61, 18432, 129280),
        {Q: 128, KV: 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "moe_intermediate_size": 2048}
        | {"n_routed_experts": 256, "num_experts_per_tok": 8},
        671,
        36,
    ),
    "DeepSeek-V2-Lite": (
        (2048, 27, 10944, 102400),
        {Q: 16, KV: 16, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "moe_intermediate_size": 1408}
        | {"n_routed_experts": 64, "num_experts_per_tok": 6},
        15.7,
        2.2,
    ),
    "Llama-4-Scout": (
        (5120, 48, 8192, 202048),
        {Q: 40, KV: 8, "head_dim": 128, "num_local_experts": 16, "num_experts_per_tok": 1},
        108,
        16,
    ),
    "Jamba-v0.1": (
        (4096, 32, 14336, 65536),
        {Q: 32, KV: 8, "num_experts": 16, "num_experts_per_tok": 2, "expert_layer_period": 2},
        51.6,
        12,
    ),
}
OTHERWISE = {  # families that name their numbers otherwise
    "GPT-2": ({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "tie_word_embeddings": True}, 0.124),
    "GPT-2 XL": ({"n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257}, 1.56),
    "GPT-J-6B": ({"n_embd": 4096, "n_layer": 28, "n_head": 16, "vocab_size": 50400}, 6.05),
    "GPT-Neo-1.3B": ({"hidden_size": 2048, "num_layers": 24, "num_heads": 16, "vocab_size": 50257}, 1.32),
    "OPT-1.3B": ({"hidden_size": 2048, "num_hidden_layers": 24, Q: 32, "ffn_dim": 8192, "vocab_size": 50272}, 1.32),
    "BLOOM-560M": ({"hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880}, 0.56),
    "MPT-7B": ({"d_model": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 50432}, 6.65),
    "Falcon-7B": (
        {"hidden_size": 4544, "num_hidden_layers": 32, Q: 71, "vocab_size": 65024, "multi_query": True},
        6.92,
    ),
}


def config(numbers, more):
    """The content of a ``config.json``."""
    return (
        dict(zip(("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"), numbers, strict=True)) | more
    )


@pytest.mark.parametrize(("name", "told"), PUBLISHED.items())
def test_parameters_are_near_those_that_are_published(name, told):
    numbers, more, billions, multiplied = told
    factor = 3 if "num_experts_per_tok" in more else 2
    for content in (config(numbers, more), {"text_config": config(numbers, more), "vision_config": {"hidden_size": 8}}):
        found = near(content)
        assert 1 / 2 < found.parameters / billions / 1e9 < 2, found
        assert 1 / factor < found.multiplied / multiplied / 1e9 < factor, found
        assert (found.hidden, found.layers) == numbers[:2]


@pytest.mark.parametrize(("name", "told"), OTHERWISE.items())
def test_families_that_name_their_numbers_otherwise_are_counted(name, told):
    content, billions = told
    assert 1 / 2 < near(content).parameters / billions / 1e9 < 2


def test_keys_and_values_are_those_of_the_heads_that_are_kept():
    assert near(config((4544, 32, 18176, 65024), {Q: 71, "multi_query": True})).key_value == 64
    later = {Q: 128, "num_kv_heads": 8, "multi_query": True, "new_decoder_architecture": True}
    assert near(config((8192, 60, 32768, 65024), later)).key_value == 8 * 64
    assert near(config((2560, 34, 10240, 262208), {Q: 8, KV: 4, "head_dim": 256})).key_value == 4 * 256
