"""The loss of answers computed only where it must be: the same training as by the model's own loss, up to rounding."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, Trainer, TrainingArguments
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from helpers.training import answers
from helpers.training.answers import AnswerTrainer, beginning, of_similar_length
from helpers.training.examples import IGNORED, collate

SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MAMBA = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "pad_token_id": 0}
FAMILIES = {
    "llama": SMALL,
    "gemma3_text": SMALL
    | {"head_dim": 16, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": SMALL | {"logits_scaling": 3.0},
    "gpt2": {
        "vocab_size": 96,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "resid_pdrop": 0,
        "embd_pdrop": 0,
        "attn_pdrop": 0,
    },
    "mamba": MAMBA,
}
TURN = [1, 17, 40, 33, 9, 60, 21]
PROMPTS = [[3 + i, *range(30, 30 + 3 * i % 11)] for i in range(8)]
EXAMPLES = [
    {"input_ids": TURN + p + [70 + i, 71, 2], "labels": [IGNORED] * (len(TURN) + len(p)) + [70 + i, 71, 2]}
    for i, p in enumerate(PROMPTS)
]


def trained(kind, trainer, tmp_path, seen=None, **arguments):
    """Weights and losses after two epochs of two steps, each of two passes of two rows."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**FAMILIES[kind]))
    if seen is not None:
        model.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    asked = asked_of(tmp_path, **arguments)
    run = trainer(model=model, args=asked, train_dataset=EXAMPLES, data_collator=collate)
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return torch.cat([w.detach().flatten() for w in model.parameters()]), losses, run


def asked_of(tmp_path, passes=2):
    return TrainingArguments(
        output_dir=tmp_path, num_train_epochs=2, per_device_train_batch_size=4 // passes, learning_rate=0.01,
        gradient_accumulation_steps=passes, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [name for name in FAMILIES if name != "mamba"])
def test_training_is_that_by_the_models_own_loss(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "ROWS", 2)
    own, losses, _ = trained(kind, Trainer, tmp_path, passes=1)
    found, same, run = trained(kind, AnswerTrainer, tmp_path, passes=1)
    assert run.works and run.shares
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-3)
    assert same == pytest.approx(losses, rel=1e-3)


def test_passes_of_a_step_count_by_their_tokens(tmp_path):
    own, losses, _ = trained("llama", Trainer, tmp_path)
    found, same, _ = trained("llama", AnswerTrainer, tmp_path)
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-3)
    assert same == pytest.approx(losses, rel=1e-3)


def test_fewer_tokens_go_through_the_model(tmp_path):
    (all_tokens, few) = [], []
    trained("llama", Trainer, tmp_path, all_tokens)
    trained("llama", AnswerTrainer, tmp_path, few)
    assert sum(few[-8:]) < 0.75 * sum(all_tokens[-8:])


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_a_model_whose_cache_cannot_go_on_computes_whole_rows(kind, tmp_path, monkeypatch):
    """Llama's is emptied here; the other has none that attention could go on from."""
    if kind == "llama":
        monkeypatch.setattr(answers, "_of_all", lambda model, cache, rows: DynamicCache(config=model.config))
    own, _, _ = trained(kind, Trainer, tmp_path)
    found, _, run = trained(kind, AnswerTrainer, tmp_path)
    assert run.works and not run.shares
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-3)


def test_a_model_whose_states_are_not_enough_trains_by_its_own_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "after_body", lambda m, body, states: m.get_output_embeddings()(states) * 3)
    own, _, _ = trained("llama", Trainer, tmp_path)
    found, _, run = trained("llama", AnswerTrainer, tmp_path)
    assert not run.works and torch.equal(found, own)


def test_a_beginning_holds_no_answer_and_nothing_that_an_answer_follows():
    batch = collate(EXAMPLES)
    assert beginning(batch) == len(TURN)
    twins = collate([EXAMPLES[0], EXAMPLES[0]])  # alike to the end
    assert beginning(twins) == len(TURN) + len(PROMPTS[0]) - 1
    assert beginning(collate(EXAMPLES[:1])) == 0
    parts = [*of_similar_length(batch)]
    assert sum(len(part["input_ids"]) for part in parts) == len(EXAMPLES)
    assert all(part["attention_mask"].sum(1).max() == part["input_ids"].shape[1] for part in parts)
