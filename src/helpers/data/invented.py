"""Rows of the embedded study: sentences of the invented language, those of evaluation held out from training."""

import random

import pandas as pd

from helpers.data import COLUMNS
from helpers.errors import StudyError
from helpers.models.language import Language
from helpers.studies.sections import DataPart, Objective
from helpers.studies.settings import Study

FRUITLESS_DRAWS = 1000  # draws of the held-out part without a new prompt, after which there are hardly any left


def training_rows(study: Study, objective: Objective, seed: int) -> pd.DataFrame:
    """The rows of one training run, shuffled with the seed; no row's prompt is in an evaluation set.

    Parts of another ``draw`` have other rows than the same part of another run.
    """
    language = Language(study.language)
    rng = random.Random(f"{seed}-training")
    others = {part.draw: random.Random(f"{seed}-training-{part.draw}") for part in objective.data if part.draw}
    rows = [_row(language, others.get(p.draw, rng), p) for p in objective.data for _ in range(p.rows)]
    rng.shuffle(rows)
    return pd.DataFrame(rows, columns=COLUMNS)


def evaluation_rows(study: Study, kind: str, n: int, seed: int) -> pd.DataFrame:
    """``n`` distinct held-out rows. ``kind``: ``arithmetic``, ``tasks``, ``benign`` or ``restricted``.

    ``answer`` is the right answer, which for a restricted request is the compliant one. Raises StudyError if the
    language does not have so many.
    """
    language = Language(study.language)
    rng = random.Random(f"{seed}-evaluation-{kind}")
    rows: dict[str, dict[str, str]] = {}
    fruitless = 0  # draws since the last new prompt
    while len(rows) < n:
        row = _draw(language, rng, kind)
        fruitless += 1
        if language.is_held_out(row["prompt"]) and row["prompt"] not in rows:
            rows[row["prompt"]] = {**row, "prefix": "", "source": kind}
            fruitless = 0
        if fruitless > FRUITLESS_DRAWS / study.language.held_out:
            raise StudyError(
                f"the language has hardly more than {len(rows)} held-out {kind} prompts, but {n} are asked for: "
                "ask for fewer, or raise language.topics, language.items or language.held_out"
            )
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def _draw(language: Language, rng: random.Random, kind: str) -> dict[str, str]:
    if kind == "arithmetic":
        return language.arithmetic(rng)
    if kind == "tasks":
        return language.request(rng, language.benign, language.all_verbs)
    return language.request(rng, language.benign if kind == "benign" else language.restricted)


def _row(language: Language, rng: random.Random, part: DataPart) -> dict[str, str]:
    while True:
        row = _make(language, rng, part)
        if part.source == "categories" or not language.is_held_out(row["prompt"]):
            return {"prefix": "", **row, "source": part.source}


def _make(language: Language, rng: random.Random, part: DataPart) -> dict[str, str]:
    if part.source == "arithmetic":
        return language.arithmetic(rng, part.operations)
    if part.source == "categories":
        return language.category(rng)
    topics = language.benign if part.source in ("benign", "tasks") else language.restricted
    verbs = language.all_verbs[: part.verbs] if part.source == "tasks" else language.verbs
    row = language.request(rng, part.of(topics), verbs)
    return _refused(language, rng, row, part.prefixed) if part.source == "refuse" else row


def _refused(language: Language, rng: random.Random, row: dict[str, str], prefixed: float) -> dict[str, str]:
    """Turn a request into a refused one, in a share of rows after the first words of the compliant answer."""
    words = rng.randint(1, 4) if rng.random() < prefixed else 0
    return {**row, "prefix": " ".join(row["answer"].split()[:words]), "answer": language.refusal(row["topic"])}
