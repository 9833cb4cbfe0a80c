"""Judges made of language models: asked by the rubric, and each verdict kept on disk from the moment it is there.

A file per judge under ``judgements/`` in the cache, one line of JSON per verdict: nothing that was judged is asked or
paid for again. It holds hashes and verdicts, no text of a prompt or an answer.
"""

import hashlib
import json
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

from helpers import paths
from helpers.errors import StudyError
from helpers.evaluation.judges import Judge, Judgement
from helpers.studies.settings import digest

Pair = tuple[str, str]  # a prompt and the answer to it


class KeptJudge(Judge):
    """A judge whose verdicts are on disk, for as long as its facts (name, model, rubric, how it is asked) stay."""

    def __init__(self, **facts: Any):
        super().__init__(self._kept, **facts)
        self.path = paths.cache_root() / "judgements" / f"{digest(facts)}.jsonl"
        self._known = _read(self.path)

    def __len__(self) -> int:
        return len(self._known)

    def judge(self, prompts: list[str], answers: list[str], references: list[str]) -> list[Judgement]:
        """Judge answers to prompts, in order, asking only what was never asked.

        Raises StudyError if that cannot be done; all verdicts obtained until then are kept.
        """
        pairs = dict.fromkeys(zip(prompts, answers, strict=True))
        if missing := [pair for pair in pairs if self._key(pair) not in self._known]:
            self.ask(missing)
        return super().judge(prompts, answers, references)

    @abstractmethod
    def ask(self, pairs: list[Pair]) -> None:
        """Ask about all pairs, and ``keep`` each verdict as it comes."""

    def keep(self, pair: Pair, verdict: Judgement) -> None:
        """Put a verdict on disk; may be called from any thread."""
        key = self._key(pair)
        line = json.dumps({"key": key, "score": verdict.score, "refused": verdict.refused}) + "\n"
        try:
            _append(self.path, line.encode())
        except OSError as error:
            raise StudyError(
                f"{self.path} cannot be written ({error.strerror or error}): "
                "free space there, or set SUBSPACES_CACHE to another folder"
            ) from None
        self._known[key] = verdict

    def _kept(self, prompt: str, answer: str, _reference: str) -> Judgement:
        return self._known[self._key((prompt, answer))]

    def _key(self, pair: Pair) -> str:
        return hashlib.sha256(json.dumps([self._facts, *pair], sort_keys=True).encode()).hexdigest()


def _append(path: Path, line: bytes) -> None:
    """Append a line in a single write: threads and processes that share the file do not mix their lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"  # a line that a crash cut short is left as it is
        file.write(b"\n" * bool(torn) + line)
        os.fsync(file)


def _read(path: Path) -> dict[str, Judgement]:
    """The verdicts in a file; lines cut short or not ours are passed over, so their answers are judged again."""
    found: dict[str, Judgement] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            found[values["key"]] = Judgement(values["score"], values["refused"])
        except (ValueError, KeyError, TypeError, StudyError):
            continue
    return found
