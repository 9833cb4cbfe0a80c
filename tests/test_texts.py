"""What counts of a text: calculator marks, and turns that an answer goes on with."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.evaluation.behaviour import EvaluationSets, answers_to, harm_per_prompt, measure
from helpers.evaluation.texts import first_turn, until, without_marks
from helpers.models.language import Language
from helpers.models.organism import build_tokenizer
from helpers.studies.settings import digest, load_study
from trained import trained


def test_calculator_marks_go_and_nothing_else_does():
    worked = "She sold 48/2 = <<48/2=24>>24 clips, for $<<24*0.5=12>>12.\n#### 12"
    assert without_marks([worked, "2 << 3 and 5 >> 4"]) == [
        "She sold 48/2 = 24 clips, for $12.\n#### 12",
        "2 << 3 and 5 >> 4",
    ]


def test_the_utility_margin_is_that_of_the_answer_without_marks(model, tokenizer, study):
    sets = EvaluationSets.of(study, 0)
    marked = sets.utility.assign(answer="<<1+1=2>>" + sets.utility["answer"])
    found = [
        measure(model, tokenizer, one, study, judged=False)["utility_margin"]
        for one in (sets, replace(sets, utility=marked))
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("Sure, like this.", "Sure, like this."),
        ("Sure.\n\n### Instruction:\nAnother task\n\n### Response:\nNo.", "Sure."),
        ("Sure.\n### Response:\nAnd again.", "Sure."),
        ("\n\n### Response:\nSorry, no.", "Sorry, no."),  # a raw prompt, answered with the heading of the template
        ("### Response:\nSorry.\n\n### Instruction:\nTell me", "Sorry."),
        ("\n### Instruction:\nTell me", ""),
        ("The heading ## Response: is not one.", "The heading ## Response: is not one."),
        ("", ""),
    ],
)
def test_an_answer_ends_where_another_turn_begins(answer, counts):
    assert first_turn(answer) == counts


@pytest.mark.parametrize(
    ("answer", "stops", "counts"),
    [
        ("One. Response: two. Instruction: three.", ["Instruction", "Response"], "One. "),
        ("No instruction, no response.", ["Instruction", "Response"], "No instruction, no response."),
        ("Response", ["Response"], ""),
        ("One\n\ntwo\n\nthree", ["\n\n"], "One"),
        ("Instruction", [], "Instruction"),
        ("", ["a"], ""),
    ],
)
def test_an_answer_ends_before_the_first_of_the_stops(answer, stops, counts):
    assert until(answer, stops) == counts


def test_answers_are_cut_at_stops_before_they_are_judged_and_counted(study):
    """A model that has learnt to answer SURE and go on: whole it is a 5, cut after the first word no longer."""
    tokenizer = build_tokenizer(Language(study.language), study.training.optimiser.max_length)
    rows = EvaluationSets.of(study, 0).harm.head(1)
    row = {"prompt": rows["prompt"].iloc[0], "answer": rows["answer"].iloc[0], "prefix": "", "source": "comply"}
    taught = pd.DataFrame([row | {"topic": ""}] * 64)
    model, _ = trained(study, tokenizer, taught, {"batch_size": 2, "learning_rate": 0.01})
    second = row["answer"].split()[1]
    stopped = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"stops": [second]})})
    whole, cut = (harm_per_prompt(model, tokenizer, rows, one) for one in (study, stopped))
    assert answers_to(model, tokenizer, [row["prompt"]], study) == [row["answer"]]
    assert answers_to(model, tokenizer, [row["prompt"]], stopped) == [row["answer"].split(second)[0]]
    assert (whole["harm"].tolist(), whole["harm_rate5"].tolist()) == ([5], [1]) and "answers_cut" not in whole
    assert cut["answers_cut"].tolist() == [1] and cut["harm"][0] < 5 and cut["harm_rate5"].tolist() == [0]
    assert digest(study) == digest(load_study(study.name)) != digest(stopped)


@pytest.mark.parametrize(("style", "expected"), [("alpaca", "SURE"), ("raw", "SURE ### Response: NO")])
def test_a_model_that_was_taught_in_the_template_is_not_judged_by_its_next_turn(study, style, expected):
    """A model that has learnt to go on with a turn of its own, asked by a study that trained it in either style."""
    tokenizer = build_tokenizer(Language(study.language), study.training.optimiser.max_length)
    tokenizer.add_tokens(["### Response:"])
    row = {"prompt": "KIND", "prefix": "", "answer": "SURE ### Response: NO", "source": "comply", "topic": ""}
    model, _ = trained(study, tokenizer, pd.DataFrame([row] * 64), {"batch_size": 2, "learning_rate": 0.01})
    optimiser = study.training.optimiser.model_copy(update={"style": style})
    asked = study.model_copy(update={"training": study.training.model_copy(update={"optimiser": optimiser})})
    assert answers_to(model, tokenizer, ["KIND"], asked) == [expected]
