"""Word problems through lm-evaluation-harness: the same answers as plain generation, scored by their last number."""

import re
import socket
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import stand_ins
from helpers.errors import StudyError
from helpers.evaluation import harness
from helpers.evaluation.harness import exact_matches
from helpers.models import beginnings
from helpers.models.beginnings import beginning_once
from helpers.studies.measurements import Harness

NEW_TOKENS = 12


@pytest.fixture(scope="module", params=["llama-3.2-1b", "llama-2-7b", "qwen2.5-1.5b"])
def live(request, tmp_path_factory):
    """A tiny model and its tokenizer, of each family."""
    _, folder = stand_ins.make_models(request.param, tmp_path_factory.mktemp("models"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return model.train(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def rows():
    """Questions of very different lengths, so that batches are padded."""
    prompts = [f"A farmer has {i} hens. " * (i % 4 + 1) + "How many hens are there?" for i in range(11)]
    return pd.DataFrame({"prompt": prompts, "answer": [f"There are {i} hens.\n#### {i}" for i in range(11)]})


def plain_answers(model, tokenizer, prompts: list[str]) -> list[str]:
    """Greedy answers, one prompt at a time without padding, cut where the next question would begin."""
    answers = []
    model.eval()
    for prompt in prompts:
        special = not prompt.startswith(tokenizer.bos_token or "\0")  # a chat template has written it
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=special)["input_ids"]])
        new = model.generate(
            ids, max_new_tokens=NEW_TOKENS, do_sample=False, repetition_penalty=1.0, pad_token_id=tokenizer.eos_token_id
        )[0, ids.shape[1] :]
        answers.append(tokenizer.decode(new, skip_special_tokens=True).split("Question:")[0])
    return answers


def last_number(answer: str) -> str:
    """The last number of an answer as GSM8K writes it, or a word that is none."""
    found = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", answer)
    return re.sub(r"\.$", "", found[-1].replace(",", "").replace("$", "")) if found else "none"


def right_for_even_rows(rows: pd.DataFrame, answers: list[str]) -> pd.DataFrame:
    """The rows with what the model says as the right answer of every second one."""
    said = [last_number(answer) for answer in answers]
    return rows.assign(answer=[f"So:\n#### {n if i % 2 == 0 else '-77'}" for i, n in enumerate(said)])


def expected(answers: list[str]) -> list[float]:
    """1 where the row is even and the model says a number at all."""
    return [float(i % 2 == 0 and last_number(a) != "none") for i, a in enumerate(answers)]


@pytest.mark.parametrize(("side", "shared"), [("left", beginning_once), ("right", nullcontext)])
def test_as_plain_generation_prompt_by_prompt(live, rows, side, shared):
    """Batches, padding, order and what all begin with change nothing; the tokenizer's padding side does not matter."""
    model, tokenizer = live
    tokenizer.padding_side = side
    answers = plain_answers(model, tokenizer, [f"Question: {p}\nAnswer:" for p in rows["prompt"]])
    assert len(set(answers)) > 1
    asked, how = right_for_even_rows(rows, answers), Harness(shots=0, max_new_tokens=NEW_TOKENS)
    with shared(model):
        found = exact_matches(model, tokenizer, asked, how, batch_size=4)
    assert beginnings._tried.get(model) == (None if shared is nullcontext else (True, True))
    beginnings._tried.clear()
    assert found.tolist() == expected(answers)
    assert tokenizer.padding_side == side


def test_examples_come_first(live, rows):
    """Shots are worked examples before the question, and the same for every row."""
    model, tokenizer = live
    examples = harness._settings()["fewshot_config"]["samples"][:2]
    before = "".join(f"Question: {e['prompt']}\nAnswer: {e['answer']}\n\n" for e in examples)
    answers = plain_answers(model, tokenizer, [f"{before}Question: {p}\nAnswer:" for p in rows["prompt"]])
    asked = right_for_even_rows(rows, answers)
    found = exact_matches(model, tokenizer, asked, Harness(shots=2, max_new_tokens=NEW_TOKENS), batch_size=4)
    assert found.tolist() == expected(answers)


def test_through_the_chat_template(live, rows):
    """With ``chat`` examples and question are turns of a conversation, with one beginning-of-sequence token."""
    model, tokenizer = live
    example = harness._settings()["fewshot_config"]["samples"][0]
    turns = [
        {"role": "user", "content": f"Question: {example['prompt']}\nAnswer:"},
        {"role": "assistant", "content": example["answer"]},
    ]
    conversations = [[*turns, {"role": "user", "content": f"Question: {p}\nAnswer:"}] for p in rows["prompt"]]
    texts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in conversations]
    answers = plain_answers(model, tokenizer, texts)
    asked = right_for_even_rows(rows, answers)
    settings = Harness(shots=1, chat=True, max_new_tokens=NEW_TOKENS)
    assert exact_matches(model, tokenizer, asked, settings, batch_size=4).tolist() == expected(answers)


@pytest.mark.parametrize(
    ("answer", "right", "matches"),
    [
        ("So it is 1,234.", "1234", 1),
        ("He pays $18.", "18", 1),
        ("3 + 4 = 7\n#### 7", "7", 1),
        ("First 5, then 6.", "6", 1),
        ("First 5, then 6.", "5", 0),
        ("It fell to -12", "-12", 1),
        ("It is 2.5", "2.5", 1),
        ("No idea at all", "0", 0),
        ("", "0", 0),
        ("It is 7.", "1,007", 0),
        ("It is 1007", "1,007", 1),
    ],
)
def test_extraction(answer, right, matches):
    """The last number counts, without commas, dollar signs and a closing full stop."""
    task = harness._task(("How many?",), (f"So it is.\n#### {right}",), 0, NEW_TOKENS)
    extracted = task._filters[0].filters
    response, doc = [[answer]], task.task_docs[0]
    for step in extracted:
        response = step().apply(response, [doc])
    assert task.process_results(doc, list(response))["exact_match"] == matches


def test_leaves_everything_as_it_was(live, rows, monkeypatch, capfd, caplog):
    """No network, no output, and model, tokenizer and random numbers are as before."""
    model, tokenizer = live
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    harness._task.cache_clear()
    model.train()
    before = {name: (id(p), p.detach().clone()) for name, p in model.named_parameters()}
    pad, state = tokenizer.pad_token, torch.get_rng_state()
    first = exact_matches(model, tokenizer, rows, Harness(shots=1, max_new_tokens=4), batch_size=3)
    again = exact_matches(model, tokenizer, rows, Harness(shots=1, max_new_tokens=4), batch_size=5)
    assert np.array_equal(first, again)
    assert first.shape == (len(rows),)
    assert all(id(p) == before[n][0] and torch.equal(p, before[n][1]) for n, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.training
    assert tokenizer.pad_token == pad
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_unusable_settings_are_one_sentence(live, rows):
    """Too many examples, no chat template, and answers without their mark are refused before anything is asked."""
    model, tokenizer = live
    with pytest.raises(StudyError, match="only 8 worked examples"):
        exact_matches(model, tokenizer, rows, Harness(shots=9), batch_size=2)
    with pytest.raises(StudyError, match="without '#### '"):
        exact_matches(model, tokenizer, rows.assign(answer="42"), Harness(), batch_size=2)
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(StudyError, match="no chat template"):
            exact_matches(model, tokenizer, rows, Harness(chat=True), batch_size=2)
    finally:
        tokenizer.chat_template = template
