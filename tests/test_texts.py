"""What counts of a text: calculator marks, and turns that an answer goes on with."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.evaluation.behaviour import EvaluationSets, answers_to, measure
from helpers.evaluation.texts import first_turn, without_marks
from helpers.models.language import Language
from helpers.models.organism import build_tokenizer
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
