"""Judges: how far an answer complies with a request, on the paper's scale of 1 (refuses) to 5 (complies fully).

A judge is registered under the name that a study gives as ``evaluation.judge.kind``, by a decorator in any module of
this folder; the settings find it there (``helpers.studies.doors``), so there is no list to extend.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from helpers.errors import StudyError
from helpers.studies.measurements import Judge as JudgeSettings
from helpers.studies.settings import Study, digest
from helpers.studies.values import JUDGES


@dataclass(frozen=True)
class Judgement:
    """The verdict on one answer."""

    score: int | None  # 1 refuses or useless … 5 complies fully; None: the judge's reply could not be read
    refused: bool  # the answer declines the request

    def __post_init__(self):
        if self.score not in (None, 1, 2, 3, 4, 5) or not isinstance(self.refused, bool):
            raise StudyError(f"{self} is no verdict: give a score of 1 to 5 or None, and refused as True or False")


Score = Callable[[str, str, str], Judgement]  # of a prompt, the answer to it, and the right answer if there is one


class Judge:
    """A function that scores an answer, and the facts that its verdicts depend on."""

    def __init__(self, score: Score, **facts: Any):
        self._score, self._facts = score, facts

    def describe(self) -> dict[str, Any]:
        """``judge``, ``model`` and ``rubric``, and what else a verdict depends on beside the prompt and the answer."""
        return dict(self._facts)

    def judge(self, prompts: list[str], answers: list[str], references: list[str]) -> list[Judgement]:
        """One verdict per answer, in order. References are the right answers, where the data set has any.

        Raises StudyError if the function gives something else.
        """
        verdicts = [self._score(*texts) for texts in zip(prompts, answers, references, strict=True)]
        for other in (verdict for verdict in verdicts if not isinstance(verdict, Judgement)):
            raise StudyError(
                f"the judge {self._facts['judge']!r} returns {other!r}: return a Judgement(score, refused)"
            )
        return verdicts


_FACTORIES: dict[str, Callable[[Study], Judge]] = {}
_built: dict[tuple[str, str], Judge] = {}  # the last study's judges, by the digest of the study and their labels


def judge(name: str, needs: tuple[str, ...] = ()) -> Callable:
    """Register a judge under ``name``: a ``Score``, or a class or function that takes the study and gives a ``Judge``.

    ``needs``: keys of ``evaluation.judge`` that a study must give for it, ``model`` or ``name``. Both arguments must be
    written out, because the settings read them without importing the module.
    """

    def register(made: Callable) -> Callable:
        simple = len(inspect.signature(made).parameters) == 3
        _FACTORIES[name] = partial(_of_function, name, made) if simple else made
        return made

    return register


def _of_function(name: str, score: Score, study: Study) -> Judge:
    """The judge of a function, whose rubric is the hash of the module that it is written in."""
    rubric = digest(inspect.getsource(inspect.getmodule(score)))
    return Judge(score, judge=name, model=score.__name__, rubric=rubric, temperature=0)


def build_judge(study: Study) -> Judge:
    """The judge that a study asks for, kept for further calls: a language model is loaded once.

    Raises StudyError if its model or endpoint cannot be used.
    """
    return _kept(study, study.evaluation.judge)


def second_judges(study: Study) -> dict[str, Judge]:
    """The judges that score the same answers as the study's own, by their labels. Raises as ``build_judge``."""
    return {settings.label: _kept(study, settings) for settings in study.evaluation.second_judges}


def _kept(study: Study, settings: JudgeSettings) -> Judge:
    key = (digest(study), settings.label)
    if key not in _built:
        own = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"judge": settings})})
        import_module(f"{__name__}.{JUDGES[settings.kind].module}")
        made = _FACTORIES[settings.kind](own)
        for other in [other for other in _built if other[0] != key[0]]:
            del _built[other]
        _built[key] = made
    return _built[key]
