"""Verdicts on disk, each kept from the moment it is there: nothing that was judged is asked or paid for again.

A file per judge under ``judgements/`` in the cache, one line of JSON per verdict. It holds hashes and verdicts, no
text of a prompt or an answer.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import paths
from helpers.errors import StudyError
from helpers.evaluation.judges.base import Judgement
from helpers.studies.settings import digest

Pair = tuple[str, str]  # a prompt and the answer to it
Keep = Callable[[Pair, Judgement], None]  # puts a verdict on disk; may be called from any thread


class Verdicts:
    """The verdicts of one judge, who is what ``identity`` says: name, model, rubric and how it is asked."""

    def __init__(self, identity: dict[str, Any]):
        self.identity = identity
        self.path = paths.cache_root() / "judgements" / f"{digest(identity)}.jsonl"
        self._lock = threading.Lock()
        self._known = _read(self.path)

    def __len__(self) -> int:
        return len(self._known)

    def judge(self, prompts: list[str], answers: list[str], ask: Callable[[list[Pair], Keep], None]) -> list[Judgement]:
        """A verdict per answer, in order: from the file, or else from ``ask``, which keeps each as it comes."""
        pairs = list(zip(prompts, answers, strict=True))
        missing = [pair for pair in dict.fromkeys(pairs) if self._key(pair) not in self._known]
        if missing:
            ask(missing, self._keep)
        return [self._known[self._key(pair)] for pair in pairs]

    def _key(self, pair: Pair) -> str:
        return hashlib.sha256(json.dumps([self.identity, *pair], sort_keys=True).encode()).hexdigest()

    def _keep(self, pair: Pair, verdict: Judgement) -> None:
        """Append one line in a single write: processes that share the file do not mix their lines."""
        key = self._key(pair)
        line = json.dumps({"key": key, "score": verdict.score, "refused": verdict.refused}) + "\n"
        with self._lock:
            try:
                _append(self.path, line.encode())
            except OSError as error:
                raise StudyError(
                    f"{self.path} cannot be written ({error.strerror or error}): "
                    "free space there, or set SUBSPACES_CACHE to another folder"
                ) from None
            self._known[key] = verdict


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # a line that a crash cut short: leave it, start anew
            line = b"\n" + line
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def _read(path: Path) -> dict[str, Judgement]:
    """The verdicts in a file; lines cut short or not ours are passed over, so their answers are judged again."""
    found: dict[str, Judgement] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            key, score, refused = values["key"], values["score"], values["refused"]
        except (ValueError, KeyError, TypeError):
            continue
        if (score is None or score in range(1, 6)) and isinstance(refused, bool):
            found[key] = Judgement(score, refused)
    return found
