"""Greedy answers follow no other settings; openers are counted once; a prompt is the same for everyone, every day."""

import copy
import datetime as dates

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig
from transformers.utils import chat_template_utils

from helpers.activations import capture
from helpers.errors import SettingsError, StudyError
from helpers.models import prompts
from helpers.models.generate import generate, log_odds, log_probability
from helpers.models.prompts import around, prompt_ids
from helpers.studies.measurements import Margins
from helpers.studies.wording import validate

PROMPTS = ["CALC 3 +4 *2 neg =", "CALL keep a WITH b c d"]
DATED = "{{ bos_token }} CALL {{ strftime_now('%Y-%m-%d') }} {% for m in messages %}{{ m['content'] }}{% endfor %} ="


def by_argmax(model, tokenizer, prompt, tokens):
    """The answer by a plain loop."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    while len(ids) < start + tokens and ids[-1] != tokenizer.eos_token_id:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.fixture
def own(tokenizer):
    """A copy of the tokenizer that a test may change."""
    return copy.deepcopy(tokenizer)


def test_no_setting_of_generation_acts_in_greedy_answers(model, tokenizer):
    right = [by_argmax(model, tokenizer, prompt, 8) for prompt in PROMPTS]
    banned = [tokenizer(right[0].split()[0], add_special_tokens=False)["input_ids"][0]]
    for settings in (
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": banned, "begin_suppress_tokens": banned, "bad_words_ids": [banned]},
        {"forced_bos_token_id": banned[0], "forced_eos_token_id": 2, "min_new_tokens": 8, "min_length": 30},
        {"stop_strings": [right[0].split()[0]], "max_time": 1e-4, "max_length": 3},
        {"sequence_bias": [[banned, -50.0]], "encoder_repetition_penalty": 1.5, "guidance_scale": 3.0},
        {"num_beams": 3, "num_return_sequences": 3, "prompt_lookup_num_tokens": 3},
    ):
        model.generation_config = given = GenerationConfig(eos_token_id=2, **settings)
        assert generate(model, tokenizer, PROMPTS, 8, 2) == right, settings
        assert model.generation_config is given


def test_every_end_of_the_models_own_settings_ends_an_answer(model, tokenizer):
    model.generation_config = GenerationConfig()
    first = by_argmax(model, tokenizer, PROMPTS[0], 8).split()[0]
    model.generation_config = GenerationConfig(eos_token_id=[2, tokenizer.convert_tokens_to_ids(first)])
    assert generate(model, tokenizer, PROMPTS[:1], 8, 1) == [first]


def test_the_end_that_training_teaches_ends_an_answer_whatever_the_settings_name(model, tokenizer):
    """A base model's settings often keep another end than its tokenizer, whose end is what fine-tuning is taught."""
    taught = copy.deepcopy(tokenizer)
    taught.eos_token = by_argmax(model, tokenizer, PROMPTS[0], 8).split()[1]
    model.generation_config = GenerationConfig(eos_token_id=2)
    assert generate(model, taught, PROMPTS[:1], 8, 1) == [by_argmax(model, tokenizer, PROMPTS[0], 8).split()[0]]


def test_an_opener_that_another_one_begins_adds_nothing(model, tokenizer):
    once = log_odds(model, tokenizer, PROMPTS, ["SURE drum"], ["SORRY"], 2)
    again = log_odds(model, tokenizer, PROMPTS, ["SURE drum", "SURE drum bell"], ["SORRY", "SORRY NO", "SORRY "], 2)
    np.testing.assert_array_equal(once, again)
    p = [log_probability(model, tokenizer, PROMPTS, [opener] * 2, 2)[0] for opener in ("SURE drum", "SORRY")]
    np.testing.assert_allclose(once, p[0] - p[1], atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ((["Sure"], ["SORRY"]), "opener 'Sure' is not in the vocabulary"),
        ((["SURE"], ["SORRY I-cannot"]), "opener 'SORRY I-cannot' is not in the vocabulary"),
        ((["SURE"], [""]), "gives it no token"),
        ((["SORRY"], ["SORRY NO"]), "opener 'SORRY' begins 'SORRY NO' of the other group"),
    ],
)
def test_openers_that_tell_nothing_are_one_sentence(model, tokenizer, groups, says):
    with pytest.raises(StudyError, match=says) as refused:
        log_odds(model, tokenizer, PROMPTS, *groups, 2)
    assert "\n" not in str(refused.value)


def test_an_end_that_the_tokenizer_appends_is_left_out_and_said_once(model, tokenizer, own, capsys):
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    assert own("KIND =")["input_ids"][-1] == 2 and around(own) == (["<bos>"], ["<eos>"])
    prompts._say_once.cache_clear()
    assert prompt_ids(own, [*PROMPTS, ""], "raw") == tokenizer([*PROMPTS, ""])["input_ids"]
    torch.testing.assert_close(capture(model, own, PROMPTS), capture(model, tokenizer, PROMPTS))
    for asked in (
        lambda t: log_probability(model, t, PROMPTS, ["7 ; 7"] * 2, 2)[0],
        lambda t: generate(model, t, PROMPTS, 4, 2),
    ):
        np.testing.assert_array_equal(asked(own), asked(tokenizer))
    assert capsys.readouterr().err.count("ends every text with") == 1
    with prompts.appending_nothing(own):
        assert own(PROMPTS)["input_ids"] == tokenizer(PROMPTS)["input_ids"]
    assert own("KIND =")["input_ids"][-1] == 2


def test_a_prompt_is_the_same_on_every_day_and_its_date_is_recorded(own, monkeypatch):
    own.chat_template, own.model_max_length = DATED, 64
    texts = {style: prompts.styled(own, "KIND x", style) for style in ("chat", "chat 2025-01-31")}
    assert "2024-07-26" in texts["chat"] and "2025-01-31" in texts["chat 2025-01-31"]
    assert {"2024-07-26", "2025-01-31"} <= set(prompts.dated()["date_in_prompts"].split(", "))
    assert chat_template_utils.datetime is dates.datetime


def test_a_template_without_a_beginning_gets_the_tokenizers(own):
    own.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} ="
    without = prompt_ids(own, ["KIND x"], "chat")
    own.chat_template = "{{ bos_token }} " + own.chat_template
    assert without == prompt_ids(own, ["KIND x"], "chat") == own(["KIND x ="])["input_ids"]


@pytest.mark.parametrize("style", ["chats", "raw 2025-01-31", "chat 2025-02-31", "chat today", "chat "])
def test_a_style_that_does_not_exist_is_one_sentence(style):
    asked = {"utility_prompts": 2, "harm_prompts": 2, "batch_size": 1, "compliance_openers": ["a"]}
    with pytest.raises(SettingsError, match="must be one of 'raw', 'alpaca', 'chat', or as in 'chat 2025-01-31'"):
        validate(Margins, asked | {"refusal_openers": ["b"], "style": style}, "study")
    assert validate(Margins, asked | {"refusal_openers": ["b"], "style": "chat 2024-02-29"}, "study").style
