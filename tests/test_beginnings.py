"""The beginning that prompts share, computed once: what a model says is what it says without."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from helpers.models.beginnings import beginning_once
from helpers.models.logits import logits_at
from helpers.models.prompts import padded

SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = SMALL | {"num_key_value_heads": 2}
FAMILIES = {
    "llama": GROUPED,
    "gemma2": GROUPED | {"head_dim": 8, "sliding_window": 6},
    "mistral": GROUPED | {"sliding_window": 7},
    "gpt2": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
    "opt": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0, "eos_token_id": 2},
    "mpt": {
        "vocab_size": 96,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "max_seq_len": 64,
    },  # its biases count padding
    "mamba": {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "pad_token_id": 0},
}
BEGINNING = [5, 17, 40, 33, 9, 60, 21]
ROWS = [BEGINNING + [7 * i + k for k in range(1, 2 + i)] for i in range(11)]  # longest last, ends of 1 to 11 tokens


@pytest.fixture(params=FAMILIES)
def speaker(request):
    """A small model of a family with random weights."""
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[request.param](**FAMILIES[request.param])).eval()


def logits(model, side):
    """Of all tokens from the fifth on where padding is on the right, else of the last ones."""
    places = [slice(4, len(row)) if side == "right" else slice(-1, None) for row in ROWS]
    with torch.inference_mode():
        return torch.cat([*logits_at(model, ROWS, places, side)])


def greedy(model):
    """Input and six more tokens of every row."""
    inputs = padded(ROWS, "left", model.device)
    del inputs["position_ids"]
    asked = GenerationConfig(max_new_tokens=6, pad_token_id=0)
    with torch.inference_mode():
        return model.generate(**inputs, generation_config=asked)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_those_without(speaker, side):
    plain = logits(speaker, side)
    with beginning_once(speaker):
        shared = logits(speaker, side)
    torch.testing.assert_close(shared, plain, atol=2e-5, rtol=1e-4)


def test_answers_are_those_without(speaker):
    plain = greedy(speaker)
    with beginning_once(speaker):
        shared = greedy(speaker)
    new = slice(max(map(len, ROWS)), None)
    assert torch.equal(plain[:, new], shared[:, new])
    assert "generate" not in vars(speaker) and "forward" not in vars(speaker.base_model)


def test_the_beginning_goes_through_a_model_once():
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING["llama"](**GROUPED)).eval()
    seen = []
    model.model.embed_tokens.register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    with beginning_once(model):
        logits(model, "right")
        compared, _ = sum(seen), seen.clear()
        logits(model, "right")
    rest = sum(len(row) - len(BEGINNING) for row in ROWS)
    assert rest <= sum(seen) < rest + 40 < compared < sum(map(len, ROWS))  # the second time without the comparison
