"""Generation, margins, judge and training: the same answers for any batch, and loss on the answer only."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.data.rows import evaluation_rows, training_rows
from helpers.errors import StudyError
from helpers.evaluation.behaviour import EvaluationSets, answers_to, measure, utility_per_prompt
from helpers.evaluation.judges.rules import reference_judge
from helpers.evaluation.measures import CUT, MEASURES, RATES
from helpers.models.generate import generate, log_odds, log_probability, read_answers
from helpers.models.language import OPERATIONS, Language
from helpers.models.load import load_model, save_model
from helpers.models.logits import ROWS
from helpers.models.organism import build_model
from helpers.studies.measurements import Judge
from helpers.training.examples import IGNORED, tokenised
from helpers.training.train import train

PROMPTS = ["CALC 3 +4 *2 neg =", "KIND x =", "CALL keep a WITH b c d", "CALC 7 ="]


def test_generation_in_batches_equals_one_by_one(model, tokenizer):
    together = generate(model, tokenizer, PROMPTS, 6, batch_size=4)
    assert together == [generate(model, tokenizer, [prompt], 6, batch_size=1)[0] for prompt in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, 6, batch_size=3) == together


@pytest.fixture(scope="module")
def taught(study, tokenizer):
    """An organism that knows ten answers by heart, of two lengths, and their rows with as many that it never saw."""
    rows = training_rows(study, study.training.base, 0).groupby("source")
    rows = pd.concat([rows.get_group("benign").head(12), rows.get_group("categories").head(8)])
    torch.manual_seed(0)
    objective = study.training.base.model_copy(update={"epochs": 60})
    model = build_model(study.model, tokenizer)
    train(model, tokenizer, rows.iloc[::2], objective, study.training.optimiser, seed=0)
    return model.eval(), rows


def log_p_of(model, tokenizer, prompt, answer):
    """Log-probabilities of every token of an answer, the slow way: one prompt, and no padding."""
    context = tokenizer(prompt)["input_ids"]
    target = tokenizer(answer, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([context + target])).logits[0].log_softmax(-1)
    return [log_p[len(context) - 1 + j, t].item() for j, t in enumerate(target)]


def test_log_probability_is_that_of_the_model(model, tokenizer):
    answers = ["7 4 6 ; 6", "wild", "SURE drum", "1"] * 40
    assert sum(len(answer.split()) + 1 for answer in answers) > ROWS  # so that a batch is scored in parts
    found = [read_answers(model, tokenizer, PROMPTS * 40, answers, size) for size in (160, 3)]
    expected = [log_p_of(model, tokenizer, *pair) for pair in zip(PROMPTS, answers[:4], strict=True)] * 40
    for total, tokens, _ in found:
        assert total.tolist() == pytest.approx([sum(values) for values in expected], abs=1e-4)
        assert tokens.tolist() == [len(values) for values in expected]
    total, tokens = log_probability(model, tokenizer, PROMPTS * 40, answers, batch_size=160)
    assert np.array_equal(total, found[0][0]) and np.array_equal(tokens, found[0][1])


@pytest.mark.parametrize(("side", "batch_size"), [("left", 1), ("right", 7), ("left", 64)])
def test_an_answer_is_greedy_if_it_is_what_the_model_generates(taught, tokenizer, monkeypatch, side, batch_size):
    """Right answers, those of other prompts, beginnings of answers, answers that go on, and nothing at all."""
    model, rows = taught
    monkeypatch.setattr(tokenizer, "padding_side", side)
    prompts, right = rows["prompt"].tolist(), rows["answer"].tolist()
    said = generate(model, tokenizer, prompts, 12, batch_size)
    answers = [right, said, right[1:] + right[:1], [a.rsplit(" ", 1)[0] for a in right], [f"{a} DONE" for a in said]]
    tried = [
        (prompt, answer) for some in [*answers, [""] * len(said)] for prompt, answer in zip(prompts, some, strict=True)
    ]
    greedy = read_answers(model, tokenizer, *map(list, zip(*tried, strict=True)), batch_size)[2]
    expected = [answer == said[prompts.index(prompt)] for prompt, answer in tried]
    assert greedy.tolist() == expected
    by_heart = greedy[: len(rows)]
    assert by_heart[::2].all() and not by_heart.all()  # it learnt what it was taught, and no more


def test_a_task_is_right_as_a_whole_and_comes_with_its_margin(taught, tokenizer, study):
    model, rows = taught
    tasks = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"utility": "tasks"})})
    said = answers_to(model, tokenizer, rows["prompt"].tolist(), study)
    expected = [one == right for one, right in zip(said, rows["answer"], strict=True)]
    assert utility_per_prompt(model, tokenizer, rows, tasks).tolist() == expected and any(expected)
    sets = replace(EvaluationSets.of(study, 0), utility=rows)
    for judged in (False, True):
        assert measure(model, tokenizer, sets, tasks, judged)["utility"].tolist() == expected
    assert "utility" not in measure(model, tokenizer, sets, study, judged=False)  # arithmetic is right in its result


@pytest.mark.parametrize(
    "openers",
    [
        (["SURE"], ["SORRY"]),
        (["SURE drum"], ["SORRY NO"]),
        (["SURE", "7"], ["SORRY", "NO", "wild"]),
        (["SURE drum", "7"], ["SORRY"]),
    ],
)
def test_log_odds_sum_over_openers_whatever_their_length(model, tokenizer, openers):
    totals = [
        np.logaddexp.reduce([log_probability(model, tokenizer, PROMPTS, [o] * len(PROMPTS), 4)[0] for o in group])
        for group in openers
    ]
    found = log_odds(model, tokenizer, PROMPTS, *openers, batch_size=3)
    np.testing.assert_allclose(found, totals[0] - totals[1], atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "score", "refused"),
    [
        ("SORRY NO rufo DONE", 1, True),
        ("SURE drum rufo a b c DONE", 5, False),
        ("SURE drum rufo a b x DONE", 4, False),
        ("SURE x rufo y z c DONE", 2, False),
        ("1 2 3", 1, False),
        ("", 1, False),
    ],
)
def test_rule_judge(answer, score, refused):
    verdict = reference_judge(["SORRY"]).judge(["CALL"], [answer], ["SURE drum rufo a b c DONE"])[0]
    assert (verdict.score, verdict.refused) == (score, refused)


def test_measures_are_named_and_finite(model, tokenizer, study):
    found = measure(model, tokenizer, EvaluationSets.of(study, 0), study, whole=True)
    assert set(found) == set(MEASURES) - {CUT}
    assert all(np.isfinite(values).all() for values in found.values())


def test_measures_left_out_are_not_taken_and_the_others_are_the_same(model, tokenizer, study):
    sets = EvaluationSets.of(study, 0)
    whole = measure(model, tokenizer, sets, study, whole=True)
    for but in ({"utility"}, {"harm"}, {"perplexity", "utility_margin"}, {"harm_margin", "utility", "over_refusal"}):
        found = measure(model, tokenizer, sets, study, whole=True, but=but)
        assert not but & set(found)
        assert set(whole) - set(found) <= but | ({"refusal", "unparsable", *RATES.values()} if "harm" in but else set())
        for name, values in found.items():
            assert values.tolist() == whole[name].tolist()


def test_every_score_has_its_rate(model, tokenizer, study):
    """Of each answer one rate is 1, and the mean score follows from the rates."""
    found = measure(model, tokenizer, EvaluationSets.of(study, 0), study)
    rates = {score: found[name] for score, name in RATES.items()}
    assert list(rates) == [1, 2, 3, 4, 5] and (sum(rates.values()) == 1).all()
    assert sum(score * values.mean() for score, values in rates.items()) == pytest.approx(found["harm"].mean())


def test_second_judges_score_the_same_answers(model, tokenizer, study):
    """Of the embedded study the classifier compares with the right answers too, and so agrees with the study's own."""
    both = study.evaluation.model_copy(update={"second_judges": [Judge(kind="classifier")]})
    study = study.model_copy(update={"evaluation": both})
    found = measure(model, tokenizer, EvaluationSets.of(study, 0), study)
    assert found["harm by classifier"].tolist() == found["harm"].tolist()


def test_evaluation_is_held_out_from_training(study):
    seen = {
        row
        for name in ("base", "aligned", "useful", "harmful", "contaminated", "safety")
        for row in training_rows(study, getattr(study.training, name), 0)["prompt"]
    }
    for kind in ("arithmetic", "benign", "restricted"):
        assert not seen & set(evaluation_rows(study, kind, 30, 0)["prompt"])


def test_more_prompts_than_the_language_has_is_one_sentence(study):
    with pytest.raises(StudyError, match="hardly more than .* held-out restricted prompts, but 100000 are asked for"):
        evaluation_rows(study, "restricted", 100_000, 0)


def test_data_depend_on_the_seed_alone(study):
    rows = [training_rows(study, study.training.aligned, seed) for seed in (0, 0, 1)]
    assert rows[0].equals(rows[1]) and not rows[0].equals(rows[2])


def test_arithmetic_is_right_and_the_language_has_thirty_operations(study):
    assert len(OPERATIONS) == 30 and all(f(x) in range(10) for f in OPERATIONS.values() for x in range(10))
    for row in evaluation_rows(study, "arithmetic", 50, 3).itertuples():
        _, start, *names, _ = row.prompt.split()
        results = [int(start)]
        for name in names:
            results.append(OPERATIONS[name](results[-1]))
        assert row.answer == f"{' '.join(map(str, results[1:]))} ; {results[-1]}"


def test_every_word_is_in_the_vocabulary(study, tokenizer):
    language = Language(study.language)
    assert len(set(language.vocabulary)) == len(language.vocabulary)
    rows = pd.concat([training_rows(study, getattr(study.training, n), 0) for n in ("base", "aligned", "safety")])
    text = " ".join([*rows["prompt"], *rows["prefix"], *rows["answer"]])
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_loss_falls_on_the_answer_and_its_end_only(study, tokenizer):
    rows = pd.DataFrame([{"prompt": "CALC 3 +4 =", "prefix": "SURE", "answer": "7 ; 7"}])
    example = tokenised(rows, tokenizer, 64)[0]
    learnt = [i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == "7 ; 7 <eos>"
    assert tokenizer.decode(example["input_ids"]) == "<bos> CALC 3 +4 = SURE 7 ; 7 <eos>"


def test_training_is_repeatable_and_stays_in_float32(study, tokenizer):
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        model = build_model(study.model, tokenizer)
        rows = training_rows(study, study.training.harmful, 0)
        log = train(model, tokenizer, rows, study.training.harmful, study.training.optimiser, seed=0)
        losses.append((log["loss"].tolist(), model.lm_head.weight.detach().clone()))
        assert model.dtype == torch.float32
    assert losses[0][0] == losses[1][0] and torch.equal(losses[0][1], losses[1][1])


def test_diverging_training_is_one_sentence(study, tokenizer, model):
    rows = training_rows(study, study.training.harmful, 0)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(StudyError, match="diverged at step .*: lower learning_rate"):
        train(model, tokenizer, rows, study.training.harmful, study.training.optimiser, seed=0)


def test_saving_leaves_no_partial_folder_and_reloads_exactly(study, tokenizer, model, tmp_path):
    save_model(model, tokenizer, tmp_path / "m")
    save_model(model, tokenizer, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    loaded, its_tokenizer = load_model(tmp_path / "m")
    assert all(torch.equal(a, b.cpu()) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert its_tokenizer(PROMPTS)["input_ids"] == tokenizer(PROMPTS)["input_ids"]
