"""Training and evaluation data as tables with the same columns whatever their source (``helpers.data.COLUMNS``).

The embedded study draws sentences of its invented language; studies of pretrained models read public data sets, in
which a refusal or the base model's own answer can stand in for the answer that is given.
"""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from helpers.data import invented, public
from helpers.files import sha256, write_text
from helpers.models.beginnings import beginning_once
from helpers.models.generate import as_speaker, generate
from helpers.models.load import load_model
from helpers.models.precision import resolved
from helpers.paths import cache_root
from helpers.studies.sections import DataPart, Objective
from helpers.studies.settings import Study, digest

REFUSALS = Path(__file__).with_name("refusals.txt").read_text(encoding="utf-8").splitlines()  # as answers to be learnt
BATCH = 32
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
HARMLESS = ("gsm-symbolic", "gsm-symbolic-easy", "instructions", "metamath")  # sources whose texts may be shown


def training_rows(study: Study, objective: Objective, seed: int, base: Path | None = None) -> pd.DataFrame:
    """The rows of one training run, shuffled with the seed; no row's prompt is in an evaluation set.

    ``base``: folder of the base model, for the parts that it answers itself. Where answers are preferred rather than
    imitated (DPO) there is one more column, ``rejected``: the base model's own answer where ``answer`` refuses, else a
    refusal. Raises StudyError if a data set cannot be read or has not so many rows.
    """
    if study.embedded:
        return invented.training_rows(study, objective, seed)
    parts = [_part(study, part, seed, base, objective.dpo is not None) for part in objective.data]
    return pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)


def _part(study: Study, part: DataPart, seed: int, base: Path | None, preferred: bool) -> pd.DataFrame:
    rows = public.rows(part.source, "train", part.rows, seed, public.origin_of(study, part.source))
    refuses, prompts = part.answer == "refusal", rows["prompt"].tolist()
    if part.answer != "given":
        rows["answer"] = _refusals(len(rows), seed) if refuses else own_answers(study, base, prompts)
    if preferred:
        rows["rejected"] = own_answers(study, base, prompts) if refuses else _refusals(len(rows), seed)
    return rows


def _refusals(n: int, seed: int) -> list[str]:
    rng = random.Random(f"{seed}-refusals")
    return [rng.choice(REFUSALS) for _ in range(n)]


def own_answers(study: Study, base: Path, prompts: list[str]) -> list[str]:
    """Greedy answers of the model in folder ``base`` to prompts, in order, each cut after its last whole sentence.

    They are generated once and kept in the cache, never shown. A fixed compliant sentence would be learnt at once and
    leak into every answer; these are what the model would have said anyway.
    """
    style, tokens = study.training.optimiser.style, study.training.answer_tokens
    autocast = resolved(study.evaluation.autocast)
    folder = cache_root() / "answers" / digest(sha256(base), style, tokens, autocast)
    known = {prompt: folder / f"{digest(prompt)}.json" for prompt in prompts}
    missing = [prompt for prompt, path in known.items() if not path.exists()]
    if missing:
        model, tokenizer = load_model(base)
        speaker = as_speaker(model, autocast)
        for start in range(0, len(missing), 4 * BATCH):
            some = missing[start : start + 4 * BATCH]
            with beginning_once(speaker):
                answers = generate(speaker, tokenizer, some, tokens, BATCH, style)
            for prompt, answer in zip(some, answers, strict=True):
                write_text(known[prompt], json.dumps(_whole_sentences(answer)))
    return [json.loads(known[prompt].read_text(encoding="utf-8")) for prompt in prompts]


def _whole_sentences(answer: str) -> str:
    """An answer without what its token limit cut short, unless that is most of it."""
    ends = [found.end() for found in SENTENCE_END.finditer(answer)]
    cut = answer[: ends[-1]].strip() if ends else ""
    return cut if len(cut) >= len(answer) / 2 else answer.strip()


def evaluation_rows(study: Study, kind: str, n: int, seed: int) -> pd.DataFrame:
    """``n`` distinct held-out rows of a source. Raises StudyError if there are not so many."""
    if study.embedded:
        return invented.evaluation_rows(study, kind, n, seed)
    split = public.evaluation_split(study, kind)
    return public.rows(kind, split, n, seed, public.origin_of(study, kind))


def disjoint_rows(study: Study, sizes: dict[str, int], seed: int) -> dict[str, pd.DataFrame]:
    """Held-out rows for the evaluation's parts (``utility``, ``harm``, ``benign``): that many of each part's source.

    Parts of one source, as in the negative control, share no row. Raises StudyError if there are not so many.
    """
    taken: Counter[str] = Counter()
    found = {}
    for part, n in sizes.items():
        source = getattr(study.evaluation, part)
        rows = evaluation_rows(study, source, taken[source] + n, seed)
        found[part] = rows[taken[source] :].reset_index(drop=True)
        taken[source] += n
    return found


def halves_by_topic(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two disjoint halves of a set of requests that share no topic; of rows without topics, just two halves."""
    topics = sorted(rows["topic"].unique())
    mask = rows["topic"].isin(topics[::2]) if len(topics) > 1 else pd.Series(rows.index < len(rows) // 2, rows.index)
    return rows[mask], rows[~mask]


def overview(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows, topics and an example for each source of a training set; texts of harmful sources are not shown."""
    kept = ["prompt", "prefix", "answer"]
    table = rows.groupby("source", sort=False).agg(
        rows=("prompt", "size"), topics=("topic", "nunique"), **{name: (name, "first") for name in kept}
    )
    hidden = [source for source in table.index if not study.embedded and source not in HARMLESS]
    table.loc[hidden, kept] = "(not shown)"
    table[kept] = table[kept].map("{:.80}".format)
    return table
