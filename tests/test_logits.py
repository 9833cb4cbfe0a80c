"""Margins are those of the model's own logits, whatever a family does after its head, and memory stays bounded."""

import numpy as np
import pytest
import torch
import transformers as tf

from helpers.models import logits
from helpers.models.generate import as_speaker, generate, log_odds, log_probability, read_answers
from helpers.models.logits import computing, logits_at

PROMPTS = ["CALC 3 +4 *2 neg =", "KIND x =", "CALL keep a WITH b c d"]
ANSWERS = ["7 4 6 ; 6", "wild", "SURE drum DONE"]
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "initializer_range": 0.5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
KINDS = {  # what is done after the head
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 3.0},  # capped
    "Cohere": {"logit_scale": 0.03},  # scaled
    "Granite": {"logits_scaling": 17.0},  # divided
    "MiniCPM3": {
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
    },
    "Phi": {},  # biased
    "Llama": {},  # nothing
}
KINDS = {name: extra for name, extra in KINDS.items() if hasattr(tf, f"{name}Config")}


def built(name, tokenizer):
    """A tiny random model of a family."""
    torch.manual_seed(1)
    config = getattr(tf, f"{name}Config")(vocab_size=len(tokenizer), **(SMALL | KINDS[name]))
    model = getattr(tf, f"{name}ForCausalLM")(config).eval()
    if (bias := getattr(model.get_output_embeddings(), "bias", None)) is not None:
        torch.nn.init.normal_(bias)
    return model


def by_a_plain_loop(model, tokenizer, prompt, answer):
    """Log-probabilities of an answer's tokens by the model alone, and the logits after the prompt."""
    context = tokenizer(prompt)["input_ids"]
    target = tokenizer(answer, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        found = model(torch.tensor([context + target])).logits[0].double()
    log_p = found.log_softmax(-1)
    return sum(log_p[len(context) - 1 + i, token].item() for i, token in enumerate(target)), found[len(context) - 1]


@pytest.mark.parametrize("name", KINDS)
def test_margins_are_those_of_the_models_own_logits(tokenizer, name, monkeypatch):
    monkeypatch.setattr(logits, "ROWS", 5)  # so that the logits come in several parts
    model = built(name, tokenizer)
    right = [by_a_plain_loop(model, tokenizer, p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    total, tokens = log_probability(model, tokenizer, PROMPTS, ANSWERS, batch_size=3)
    np.testing.assert_allclose(total, [one for one, _ in right], atol=1e-4)
    groups = (["SURE", "7"], ["SORRY"])
    ids = [[tokenizer.convert_tokens_to_ids(o) for o in group] for group in groups]
    odds = [(after[ids[0]].logsumexp(0) - after[ids[1]].logsumexp(0)).item() for _, after in right]
    np.testing.assert_allclose(log_odds(model, tokenizer, PROMPTS, *groups, batch_size=2), odds, atol=1e-4)


@pytest.mark.parametrize("name", ["Gemma2", "Llama"])
def test_logits_are_computed_in_float32_under_autocast(tokenizer, name):
    """They move by the rounding of the body's bfloat16, and take values that bfloat16 has not."""
    model, ids = built(name, tokenizer), [tokenizer(PROMPTS[0])["input_ids"]]
    with computing(model, "bfloat16"):
        found = next(logits_at(model, ids, [slice(None)], "right"))
    exact = next(logits_at(model.requires_grad_(False), ids, [slice(None)], "right"))
    assert found.dtype == torch.float64 and (found.bfloat16().double() != found).float().mean() > 0.9
    assert (found - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_model_is_as_it_was_and_its_body_runs_once_a_batch(model, tokenizer, monkeypatch):
    monkeypatch.setattr(logits, "ROWS", 3)
    passes = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    read_answers(model, tokenizer, PROMPTS, ANSWERS, batch_size=3)
    handle.remove()
    assert len(passes) == 1 and "forward" not in vars(model.model)


def test_a_family_whose_head_asks_the_decoder_within_its_body(tokenizer):
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "init_std": 0.5}
    config = tf.OPTConfig(vocab_size=len(tokenizer), word_embed_proj_dim=16, max_position_embeddings=64, **sizes)
    model = tf.OPTForCausalLM(config).eval()
    right = [by_a_plain_loop(model, tokenizer, p, a)[0] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    np.testing.assert_allclose(log_probability(model, tokenizer, PROMPTS, ANSWERS, 3)[0], right, atol=1e-4)


@pytest.mark.parametrize("name", ["Llama", "Gemma2"])
def test_under_bfloat16_what_speaks_is_what_transformers_loads_in_bfloat16(tokenizer, tmp_path, name):
    """Late positions too: the frequencies of rotary embeddings are no weights, and are not rounded."""
    model = built(name, tokenizer)
    model.save_pretrained(tmp_path)
    loaded = tf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    before, ids = model.state_dict(), torch.arange(400)[None] % len(tokenizer)
    with torch.inference_mode():
        assert torch.equal(as_speaker(model, "bfloat16")(ids).logits, loaded(ids).logits)
    assert all(torch.equal(kept, before[at]) for at, kept in model.state_dict().items())
    assert model.dtype == torch.float32 and as_speaker(model, "float32") is model


def test_no_head_is_copied_for_every_prompt_of_a_batch(tokenizer):
    """torch does so for a head that is frozen, as PEFT leaves it, where the states it reads are a slice of others."""
    model = as_speaker(built("Llama", tokenizer), "bfloat16").requires_grad_(False)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        answers = generate(model, tokenizer, PROMPTS * 8, 2, len(PROMPTS) * 8)
    largest = max(event.self_cpu_memory_usage for event in seen.events())
    assert len(answers) == 24 and 0 < largest < 24 * model.lm_head.weight.nbytes
    assert not model.lm_head._forward_pre_hooks
