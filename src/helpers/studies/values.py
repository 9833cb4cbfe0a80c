"""The values that keys of a study's settings may hold: numbers within bounds, texts, and names of what there is."""

import unicodedata
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field

from helpers.studies.doors import tenants
from helpers.studies.wording import shown_value

JUDGES = tenants("evaluation/judges", "judge")  # by the name that a study gives
SOURCES = yaml.safe_load(Path(__file__).with_name("sources.yml").read_text(encoding="utf-8"))
REFUSED = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories: controls, halves of characters, other ends of lines
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make a text read otherwise than it is written


def _readable(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be blank")
    for character in set(text) - {"\n", "\t"}:
        if unicodedata.category(character) in REFUSED or character in TURNING:
            raise ValueError(f"it holds the character {character!r}")
    return text


def _without_repeats(items: list[Any]) -> list[Any]:
    if len(set(items)) != len(items):
        raise ValueError("an entry is there twice: give each once")
    return items


def _style(style: str) -> str:
    name, space, day = style.partition(" ")
    if name not in ("raw", "alpaca", "chat") or (space and (name != "chat" or not _is_date(day))):
        raise ValueError(f"{shown_value(style)} must be one of 'raw', 'alpaca', 'chat', or as in 'chat 2025-01-31'")
    return style


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _with_middle(fractions: list[float]) -> list[float]:
    if 0.5 not in fractions:
        raise ValueError("energy_fractions must hold 0.5: it is the one that figures show by default")
    return fractions


Item = TypeVar("Item")
NoRepeats = [AfterValidator(_without_repeats), Field(max_length=1000, json_schema_extra={"uniqueItems": True})]
Several = Annotated[list[Item], Field(min_length=1), *NoRepeats]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Draws = Annotated[int, Field(ge=1, le=100)]
Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_readable)]
EnergyFractions = Annotated[Several[Fraction], AfterValidator(_with_middle)]
Prompts = Annotated[int, Field(ge=2, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=4096)]

Style = Annotated[str, AfterValidator(_style)]  # raw | alpaca | chat | chat 2025-01-31, the date that templates write
Precision = Literal["auto", "float32", "bfloat16"]  # of products; auto: ``helpers.models.precision`` measures
Control = Literal["top-k", "random-k", "random"]
FineTune = Literal["useful", "harmful", "contaminated"]
KINDS = ("subspace", "training", "edit")  # of the functions in helpers/methods
SUBSPACES, TRAININGS, EDITS = (tenants("methods", kind) for kind in KINDS)
METHODS = SUBSPACES | TRAININGS | EDITS
Subspace = Literal[*SUBSPACES]
DuringTraining = Literal[*TRAININGS]
Edit = Literal[*EDITS]
Source = Literal[*SOURCES["trained"]]
EvaluationSource = Literal[*SOURCES["evaluated"]]
