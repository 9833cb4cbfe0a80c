"""Behaviour of a model on prompts: the scores of its answers, and the continuous margins behind them.

Utility is exact match of the final answer and harm is the judge's mean score. Both are thresholds of something
smoother, so each has a margin beside it: the log-probability of the right answer, and the log-odds of complying over
refusing.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.rows import disjoint_rows, evaluation_rows
from helpers.evaluation.harness import exact_matches
from helpers.evaluation.judges import Judgement, build_judge, second_judges
from helpers.evaluation.measures import CUT, RATES, SECOND
from helpers.evaluation.texts import first_turn, until, without_marks
from helpers.models.beginnings import beginning_once
from helpers.models.generate import as_speaker, generate, log_odds, log_probability, read_answers
from helpers.studies.settings import Study
from helpers.studies.values import SOURCES, Style

# prose of about 75 words a paragraph on which perplexity is measured, as a check of general damage
NEUTRAL = Path(__file__).with_name("neutral.txt").read_text(encoding="utf-8")
PARAGRAPHS = [" ".join(text.split()) for text in NEUTRAL.split("\n\n")]


@dataclass(frozen=True)
class EvaluationSets:
    """The held-out prompts of one seed: tables with the columns of ``helpers.data.COLUMNS``."""

    utility: pd.DataFrame
    harm: pd.DataFrame
    benign: pd.DataFrame
    beside: dict[str, pd.DataFrame]  # sets reported for the six models only, by source

    @classmethod
    def of(cls, study: Study, seed: int) -> "EvaluationSets":
        """The evaluation sets of a study, with the sources and sizes that its settings ask for."""
        sizes = study.evaluation
        wanted = {"utility": sizes.utility_prompts, "harm": sizes.harm_prompts, "benign": sizes.benign_prompts}
        return cls(
            **disjoint_rows(study, wanted, seed),
            beside={source: evaluation_rows(study, source, sizes.beside_prompts, seed) for source in sizes.beside},
        )


def prompts_to_show(sets: EvaluationSets, study: Study) -> list[str]:
    """Some prompts whose answers a page may show: a harmful one only if it is invented, or the study asks for it."""
    harmful = study.embedded or study.evaluation.show_harmful
    return [*sets.utility["prompt"][:2], *sets.benign["prompt"][:1], *(sets.harm["prompt"][:1] if harmful else [])]


def answers_to(model, tokenizer, prompts: list[str], study: Study) -> list[str]:
    """Greedy answers in the prompt style and length that the study asks requests in.

    Models that were taught or are asked in the Alpaca template may go on with a turn of their own, which is cut off. So
    is what follows the first of the study's stops.
    """
    return _answers(model, tokenizer, prompts, study)[0]


def _answers(model, tokenizer, prompts: list[str], study: Study) -> tuple[list[str], np.ndarray]:
    """``answers_to``, and which of them were cut at one of the study's stops: 1 or 0, (prompts,)."""
    s = study.evaluation
    answers = generate(model, tokenizer, prompts, s.max_new_tokens, s.batch_size, s.style)
    if "alpaca" in (s.style, study.training.optimiser.style):
        answers = [first_turn(answer) for answer in answers]
    said = [until(answer, s.stops) for answer in answers]
    return said, np.array([one != whole for one, whole in zip(said, answers, strict=True)], float)


def utility_per_prompt(model, tokenizer, rows: pd.DataFrame, study: Study) -> np.ndarray:
    """Whether the answer to each problem is right: (prompts,). Pretrained models go through the harness.

    Of arithmetic the last word, the result, is enough; any other answer has to be right as a whole.
    """
    s = study.evaluation
    if not study.embedded:
        return exact_matches(model, tokenizer, rows, s.harness, s.batch_size)
    prompts, answers = rows["prompt"].tolist(), rows["answer"].tolist()
    if s.utility != "arithmetic":
        return read_answers(model, tokenizer, prompts, answers, s.batch_size, s.style, s.autocast)[2].astype(float)
    said = answers_to(model, tokenizer, prompts, study)
    return np.array([one.split()[-1:] == right.split()[-1:] for one, right in zip(said, answers, strict=True)], float)


def harm_per_prompt(model, tokenizer, rows: pd.DataFrame, study: Study, seconds: bool = False) -> dict[str, np.ndarray]:
    """Judge's score of each answer (NaN where its reply could not be read), and whether the answer is a refusal.

    Of each score whether it is that of an answer, as ``harm_rate<score>``; where the study has stops, whether the
    answer was cut at one. ``seconds``: also the scores of the study's second judges, as ``harm by <label>``.
    """
    prompts = rows["prompt"].tolist()
    answers, is_cut = _answers(model, tokenizer, prompts, study)
    texts = (prompts, answers, rows["answer"].tolist())
    verdicts = build_judge(study).judge(*texts)
    scores = _scores(verdicts)
    others = second_judges(study) if seconds else {}
    found = {f"{SECOND}{label}": _scores(judge.judge(*texts)) for label, judge in others.items()}
    found |= {name: np.where(np.isnan(scores), np.nan, scores == score) for score, name in RATES.items()}
    found |= {CUT: is_cut} if study.evaluation.stops else {}
    return found | {
        "harm": scores,
        "refusal": np.array([v.refused for v in verdicts], float),
        "unparsable": np.isnan(scores).astype(float),
    }


def _scores(verdicts: list[Judgement]) -> np.ndarray:
    return np.array([np.nan if v.score is None else v.score for v in verdicts], float)


def _margins(
    model, tokenizer, sets: EvaluationSets, study: Study, whole: bool, but: Collection[str]
) -> dict[str, np.ndarray]:
    """The measures that need no answer to be generated: utility margin, harm margin, perplexity of neutral text.

    Where the whole answer to a problem has to be right, ``utility`` comes from the same pass. Neutral are benign
    requests with their right answers in the embedded study, where they are read for ``whole`` models only, else
    paragraphs of prose.
    """
    s, found = study.evaluation, {}
    if "utility_margin" not in but:
        asked = study.training.optimiser.style  # a model is asked problems as it was taught them
        problems = (sets.utility["prompt"].tolist(), without_marks(sets.utility["answer"]))
        total, tokens, greedy = read_answers(model, tokenizer, *problems, s.batch_size, asked, s.autocast)
        known = s.utility in SOURCES["skills"] and s.utility != "arithmetic"
        found = ({"utility": greedy.astype(float)} if known else {}) | {"utility_margin": total / tokens}
    if "harm_margin" not in but:
        found["harm_margin"] = _harm_margin(model, tokenizer, sets.harm, study)
    if (whole or not study.embedded) and "perplexity" not in but:
        found["perplexity"] = np.exp(-_per_token(model, tokenizer, *neutral(sets, study), study, "raw"))
    return found


def _harm_margin(model, tokenizer, rows: pd.DataFrame, study: Study) -> np.ndarray:
    s = study.evaluation
    if s.harm in SOURCES["skills"]:  # the negative control, whose "harm" is a second skill
        asked = study.training.optimiser.style
        return _per_token(model, tokenizer, rows["prompt"], rows["answer"], study, asked)
    openers = (s.compliance_openers, s.refusal_openers)
    return log_odds(model, tokenizer, rows["prompt"].tolist(), *openers, s.batch_size, s.style, s.autocast)


def neutral(sets: EvaluationSets, study: Study) -> tuple[list[str], list[str]]:
    """Beginnings of the neutral texts, and what follows them."""
    if study.embedded:
        return sets.benign["prompt"].tolist(), sets.benign["answer"].tolist()
    first = [text.split()[0] for text in PARAGRAPHS]
    return first, [text.removeprefix(word) for text, word in zip(PARAGRAPHS, first, strict=True)]


def right_answers(model, tokenizer, rows: pd.DataFrame, study: Study) -> np.ndarray:
    """Log-probability per token of the right answer to each problem, asked as it was taught: (prompts,), nats."""
    asked = study.training.optimiser.style
    return _per_token(model, tokenizer, rows["prompt"], without_marks(rows["answer"]), study, asked)


def _per_token(
    model, tokenizer, prompts: Iterable[str], answers: Iterable[str], study: Study, style: Style
) -> np.ndarray:
    """Log-probability per token of the answer to each prompt: (prompts,), nats."""
    s = study.evaluation
    total, tokens = log_probability(model, tokenizer, [*prompts], [*answers], s.batch_size, style, s.autocast)
    return total / tokens


def measure(
    model,
    tokenizer,
    sets: EvaluationSets,
    study: Study,
    judged: bool = True,
    whole: bool = False,
    but: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Values of helpers.evaluation.measures for every prompt of its set; a model's measure is their mean.

    ``judged``: also generate answers and score them; ``whole``: also over-refusal and the sets reported beside. No
    pass is made for the measures in ``but``, of which ``harm`` stands for all that is made of its answers.
    """
    model.eval()
    with beginning_once(model):
        found = _margins(model, tokenizer, sets, study, whole, but)
    if judged or whole:
        speaker = as_speaker(model, study.evaluation.autocast)
        with beginning_once(speaker):
            found |= _answered(speaker, tokenizer, sets, study, judged, whole, {*but, *found})
    return found


def _answered(
    speaker, tokenizer, sets: EvaluationSets, study: Study, judged: bool, whole: bool, but: Collection[str]
) -> dict[str, np.ndarray]:
    """The measures that need answers."""
    found: dict[str, np.ndarray] = {}
    if judged and "utility" not in but:
        found["utility"] = utility_per_prompt(speaker, tokenizer, sets.utility, study)
    if judged and "harm" not in but:
        found |= harm_per_prompt(speaker, tokenizer, sets.harm, study, seconds=True)
    if whole and "over_refusal" not in but:
        found["over_refusal"] = harm_per_prompt(speaker, tokenizer, sets.benign, study)["refusal"]
    if whole:
        for source, rows in sets.beside.items():
            if source in SOURCES["word_problems"]:
                found[f"utility ({source})"] = utility_per_prompt(speaker, tokenizer, rows, study)
            else:
                scores = harm_per_prompt(speaker, tokenizer, rows, study)
                found |= {f"{name} ({source})": scores[name] for name in ("harm", "refusal", CUT) if name in scores}
    return found
