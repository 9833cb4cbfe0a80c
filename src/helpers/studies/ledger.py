"""The ledger ``claims.yml``: what the paper claims, by what each claim is judged, and what was changed when and why.

The hash of every entry is kept with every result, so that a criterion that is changed after a result shows.
"""

import datetime
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from helpers import paths
from helpers.errors import SettingsError
from helpers.studies.doors import tenants
from helpers.studies.sections import Section
from helpers.studies.values import NoRepeats, Positive, Share, Text
from helpers.studies.wording import shown_value, validate
from helpers.studies.yaml_files import read_yaml

Statistic = Literal[*tenants("claims", "statistic")]  # the functions in helpers/claims
ClaimName = Annotated[str, Field(pattern=r"^C\d$")]
FormerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # of a statistic that is gone
Label = Annotated[Text, Field(max_length=60)]
Kind = Literal["organism", "aligned-here", "pretrained"]
DECIDES = {"statement", "stated", "strict", "gate", "changes"}  # what of a claim is hashed; the rest explains it
UNCHANGED, NOT_RECORDED = "unchanged", "not recorded"


class Criterion(Section):
    """A number a claim depends on and the bounds it must keep.

    ``neutral`` is the value of no effect, beyond which a result at least points the right way. Criteria that are not
    ``core`` only weaken a *yes*. ``kind``: asked of such studies alone.
    """

    statistic: Statistic
    kind: Kind | None = None
    at_least: float | None = None
    at_most: float | None = None
    neutral: float | None = None
    core: bool = True

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.bounds:
            raise ValueError("a criterion needs at_least, at_most or both")
        if self.bounds != sorted(self.bounds):
            raise ValueError("at_least must not be above at_most")
        return self

    @property
    def bounds(self) -> list[float]:
        """Its bounds, one or two."""
        return [bound for bound in (self.at_least, self.at_most) if bound is not None]

    def wording(self) -> str:
        """The bounds in words, for tables."""
        bounds = {"≥": self.at_least, "≤": self.at_most}
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)


class Guard(Section):
    """A statistic that is large where safety is separable, and the margin above what chance gives it."""

    statistic: Statistic
    margin: float


class Change(Section):
    """A change of an entry after it was first written."""

    date: datetime.date
    what: Text
    reason: Text


class Claim(Section):
    """A claim of the paper, by what it is judged at both levels, and where its evidence is.

    ``question``: what it is about in plain words, answered yes where it is distinct. ``stated``: the paper's own
    comparison. ``strict``: statistics that must all pass their margins for the claim's
    subject to be called distinct. ``gate``: what must rise for the claims to have a verdict at all.
    """

    question: Text
    paper: Text
    statement: Text
    stated: Annotated[list[Criterion], Field(min_length=1)]
    strict: list[Guard] = []
    gate: Annotated[list[Statistic], *NoRepeats] = []
    beside: Annotated[list[Statistic], *NoRepeats] = []
    notebook: Annotated[str, Field(pattern=r"^\d\d_\w+$")]
    table: Text
    changes: list[Change] = []

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        for kind in Kind.__args__:
            own = self.of_kind(kind).stated
            names = [criterion.statistic for criterion in own]
            if not any(criterion.core for criterion in own):
                raise ValueError(f"at least one criterion of studies of kind '{kind}' must be core")
            if len(set(names)) != len(names):
                raise ValueError(f"a statistic has two criteria for studies of kind '{kind}'")
        return self

    def of_kind(self, kind: str) -> "Claim":
        """The claim with the criteria that are asked of studies of one kind."""
        own = [criterion for criterion in self.stated if criterion.kind in (None, kind)]
        return self.model_copy(update={"stated": own})

    @property
    def statistics(self) -> list[str]:
        """The names of all its statistics, each once."""
        named = [entry.statistic for entry in (*self.stated, *self.strict)]
        return list(dict.fromkeys([*named, *self.gate, *self.beside]))

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of what decides the claim, as canonical JSON."""
        plain = self.model_dump(mode="json", include=DECIDES)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class BenchRule(Section):
    """By what a method of the field is said to work beyond scaling; the ledger itself says how."""

    margin: float  # of the harm share that is removed beyond scaling
    kept: Share  # of the utility gain, by a variant that counts
    perplexity: Positive  # of a variant, over that of the scaled update of its utility, at most
    changes: list[Change] = []


class InWords(Section):
    """How a statistic is called in tables and figures, and what it is, in a sentence."""

    label: Label
    meaning: Text


class JudgeRule(Section):
    """By what a judge is said to agree with people; the ledger itself says how."""

    kappa: Share
    refusal: Share  # of answers
    changes: list[Change] = []


class Prediction(Section):
    """What the conditions foretell of a study that has not run: by the place of its design on each of their dials."""

    date: datetime.date
    places: dict[Text, float]  # by dial; on others the study stands where the default study does
    reason: Text
    strict: dict[ClaimName, Literal["distinct", "not distinct", "undecided"]]
    values: dict[Statistic, float]  # of the strict statistics


class Ledger(Section):
    """All claims, by their short names, rules of the bench and of judges, predictions, and each statistic in words."""

    claims: Annotated[dict[ClaimName, Claim], Field(min_length=1)]
    bench: BenchRule | None = None
    judge: JudgeRule | None = None
    predictions: dict[Text, Prediction] = {}  # by study
    statistics: dict[Statistic, InWords] = {}
    former: dict[FormerName, Label] = {}  # of statistics that changes speak of and that are gone


def claims_of(kind: str) -> dict[str, Claim]:
    """The claims as they are put to studies of one kind, from ``claims.yml`` of the clone. Raises SettingsError."""
    return dict(_claims_of(kind, *_changed()))


def bench_rule() -> BenchRule:
    """The rule of the bench in the ledger of the clone. Raises SettingsError."""
    return _rule("bench")


def judge_rule() -> JudgeRule:
    """The rule of judges in the ledger of the clone. Raises SettingsError."""
    return _rule("judge")


def _rule(section: str) -> BenchRule | JudgeRule:
    if (rule := getattr(_ledger(*_changed()), section)) is None:
        raise SettingsError(f"{paths.CLAIMS.name} has no rule of the {section}: restore its section '{section}'")
    return rule


def prediction(study: str) -> Prediction | None:
    """What the ledger of the clone foretells of a study, if anything. Raises SettingsError."""
    return _ledger(*_changed()).predictions.get(study)


def in_words() -> dict[str, InWords]:
    """Label and meaning of every statistic that the ledger of the clone gives them. Raises SettingsError."""
    return dict(_ledger(*_changed()).statistics)


def label_of(statistic: str) -> str:
    """The plain label of a statistic; one that the ledger does not know, as of an older one, keeps its name."""
    known = in_words().get(statistic)
    return known.label if known else statistic.replace("_", " ")


def meaning_of(statistic: str) -> str:
    """What a statistic is, in a sentence; nothing of one that the ledger does not know."""
    known = in_words().get(statistic)
    return known.meaning if known else ""


def plainly(text: str) -> str:
    """A text with the plain label of each statistic, former ones too, in the place of its name."""
    ledger = _ledger(*_changed())
    names = ledger.former | {name: one.label for name, one in ledger.statistics.items()}
    return re.sub(r"[a-z]+(?:_[a-z]+)+", lambda name: f"“{names[name[0]]}”" if name[0] in names else name[0], text)


def _changed() -> tuple[Path, int]:
    """The ledger of the clone and the time of its last change, by which what was read of it is kept."""
    return paths.CLAIMS, paths.CLAIMS.stat().st_mtime_ns if paths.CLAIMS.exists() else 0


@functools.lru_cache
def _ledger(path: Path, changed: int) -> Ledger:
    return read_ledger(path)


@functools.lru_cache
def _claims_of(kind: str, path: Path, changed: int) -> dict[str, Claim]:
    return {name: claim.of_kind(kind) for name, claim in _ledger(path, changed).claims.items()}


def read_ledger(path: Path) -> Ledger:
    """Read and validate a ledger. Raises SettingsError with one sentence that names file, key and allowed values."""
    ledger = validate(Ledger, read_yaml(path, "restore it, or undo the last change of it"), path.name)
    studies = sorted(file.stem for file in paths.STUDIES.glob("*.yml"))
    _among(path, "predictions", ledger.predictions, studies)
    for study, said in ledger.predictions.items():
        _among(path, f"predictions.{study}.places", said.places, dials())
    return ledger


def _among(path: Path, key: str, names: Iterable[str], known: list[str]) -> None:
    """Raises SettingsError where a name under a key of the ledger is none of those known."""
    for name in names:
        if name not in known:
            raise SettingsError(f"{path.name}: {key} has {shown_value(name)}; it may have {', '.join(known)}")


@functools.lru_cache
def dials() -> list[str]:
    """What the study of conditions turns: a prediction says where a study stands on each. Raises SettingsError."""
    values = read_yaml(paths.STUDIES / "conditions.yml", "restore it")
    return [condition["dial"] for condition in values["conditions"]]


def hashes(claims: dict[str, Claim]) -> dict[str, str]:
    """The hash of each claim, to be kept with a result."""
    return {name: claim.hash for name, claim in claims.items()}


def since(name: str, claim: Claim, records: Iterable[dict]) -> str:
    """Whether a claim's entry is the one that the records of results hold.

    ``unchanged``, ``changed after the results of <date>``, or ``not recorded`` where a result is older than the ledger.
    """
    found = [(record["finished"][:10], record.get("ledger", {}).get(name)) for record in records]
    other = [date for date, recorded in found if recorded not in (None, claim.hash)]
    if other:
        return f"changed after the results of {min(other)}"
    return UNCHANGED if found and all(recorded for _, recorded in found) else NOT_RECORDED
