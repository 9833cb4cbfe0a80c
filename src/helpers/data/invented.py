"""Rows of the embedded study: sentences of the invented language, those of evaluation held out from training."""

import random
from itertools import count, islice

import pandas as pd

from helpers.data import COLUMNS
from helpers.errors import StudyError
from helpers.models.language import Language
from helpers.studies.sections import DataPart, Objective
from helpers.studies.settings import Study
from helpers.studies.values import SOURCES

SKILLS = SOURCES["skills"]
FRUITLESS_DRAWS = 1000  # draws of the held-out part without a new prompt, after which there are hardly any left


def training_rows(study: Study, objective: Objective, seed: int) -> pd.DataFrame:
    """The rows of one training run, shuffled with the seed; no row's prompt is in an evaluation set.

    Parts of another ``draw`` have other rows than the same part of another run. Where answers are preferred rather
    than imitated there is one more column, ``rejected``: a compliant answer where ``answer`` refuses, else a refusal.
    """
    language = Language(study.language)
    rng = random.Random(f"{seed}-training")
    others = {part.draw: random.Random(f"{seed}-training-{part.draw}") for part in objective.data if part.draw}
    rows = []
    for part in objective.data:
        drawn = (_drawn(language, others.get(part.draw, rng), part) for _ in count())
        usable = (row for row in drawn if part.source == "categories" or not language.is_held_out(row["prompt"]))
        rows += islice(usable, part.rows)
    rng.shuffle(rows)
    return pd.DataFrame(rows, columns=[*COLUMNS, "rejected"] if objective.dpo else COLUMNS)


def evaluation_rows(study: Study, kind: str, n: int, seed: int) -> pd.DataFrame:
    """``n`` distinct held-out rows. ``kind``: one of the skills, ``benign`` or ``restricted``.

    ``answer`` is the right answer, which for a restricted request is the compliant one. Raises StudyError if the
    language does not have so many.
    """
    language = Language(study.language)
    rng = random.Random(f"{seed}-evaluation-{kind}")
    part = DataPart(source="comply" if kind == "restricted" else kind, rows=n)
    rows: dict[str, dict[str, str]] = {}
    fruitless = 0  # draws since the last new prompt
    while len(rows) < n:
        row = _drawn(language, rng, part)
        fruitless += 1
        if language.is_held_out(row["prompt"]) and row["prompt"] not in rows:
            rows[row["prompt"]] = row | {"source": kind}
            fruitless = 0
        if fruitless > FRUITLESS_DRAWS / study.language.held_out:
            raise StudyError(
                f"the language has hardly more than {len(rows)} held-out {kind} prompts, but {n} are asked for: "
                "ask for fewer, or raise language.topics, language.items or language.held_out"
            )
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def _drawn(language: Language, rng: random.Random, part: DataPart) -> dict[str, str]:
    if part.source == "arithmetic":
        row = language.arithmetic(rng, part.operations)
    elif part.source == "categories":
        row = language.category(rng)
    else:
        restricted = part.source in ("comply", "refuse")
        verbs = language.of_tasks(part.source)[: part.verbs] if part.source in SKILLS else language.verbs
        topics = language.restricted if restricted else language.benign
        row = language.request(rng, part.of(topics), verbs)
    if part.source == "refuse":
        row = _refused(language, rng, row, part.prefixed)
    return {"prefix": "", "rejected": language.refusal(row["topic"]), **row, "source": part.source}


def _refused(language: Language, rng: random.Random, row: dict[str, str], prefixed: float) -> dict[str, str]:
    """Turn a request into a refused one, in a share of rows after the first words of the compliant answer."""
    count, words = rng.randint(1, 4) if rng.random() < prefixed else 0, row["answer"].split()
    prefix, rest = " ".join(words[:count]), " ".join(words[count:])
    return {**row, "prefix": prefix, "answer": language.refusal(row["topic"]), "rejected": rest}
