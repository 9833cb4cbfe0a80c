"""The base model's own answers, as targets of training: generated once, kept in the cache, never shown.

A fixed compliant sentence would be learnt at once and leak into every answer; a model's own answers are what it would
have said anyway.
"""

import json
import re
from pathlib import Path

from helpers.files import sha256, write_text
from helpers.models.generate import as_speaker, generate
from helpers.models.load import load_model
from helpers.models.precision import resolved
from helpers.paths import cache_root
from helpers.studies.settings import Study, digest

BATCH = 32
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def own_answers(study: Study, base: Path, prompts: list[str]) -> list[str]:
    """Greedy answers of the model in folder ``base`` to prompts, in order, each cut after its last whole sentence."""
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
            answers = generate(speaker, tokenizer, some, tokens, BATCH, style)
            for prompt, answer in zip(some, answers, strict=True):
                write_text(known[prompt], json.dumps(whole_sentences(answer)))
    return [json.loads(known[prompt].read_text(encoding="utf-8")) for prompt in prompts]


def whole_sentences(answer: str) -> str:
    """An answer without what its token limit cut short, unless that is most of it."""
    ends = [found.end() for found in SENTENCE_END.finditer(answer)]
    cut = answer[: ends[-1]].strip() if ends else ""
    return cut if len(cut) >= len(answer) / 2 else answer.strip()
