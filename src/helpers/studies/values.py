"""What a single setting may hold: numbers with their bounds, texts, names to choose from, lists without repeats."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from helpers.studies.doors import tenants

Item = TypeVar("Item")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be blank")
    return text


def _without_repeats(items: list[Any]) -> list[Any]:
    if len(set(items)) != len(items):
        raise ValueError("an entry is there twice: give each once")
    return items


NoRepeats = [AfterValidator(_without_repeats), Field(max_length=1000, json_schema_extra={"uniqueItems": True})]
Several = Annotated[list[Item], Field(min_length=1), *NoRepeats]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_not_blank)]
Fractions = Several[Fraction]
Prompts = Annotated[int, Field(ge=2, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=4096)]

Start = Literal["scratch", "base", "aligned"]
Style = Literal["raw", "alpaca", "chat"]
Stored = Literal["float32", "bfloat16"]  # of weights
Precision = Literal["auto", "float32", "bfloat16"]  # of products; auto: ``helpers.models.precision`` measures
Control = Literal["top-k", "random-k", "random"]
Subspace = Literal[*tenants("methods", "subspace")]  # the functions in helpers/methods
Edit = Literal[*tenants("methods", "edit")]
FineTune = Literal["useful", "harmful", "contaminated"]
ModelName = Literal["base", "aligned", "useful", "harmful", "contaminated", "safety"]
EmbeddedSource = Literal["arithmetic", "tasks", "benign", "restricted", "comply", "refuse", "categories"]
Source = Literal[
    "arithmetic",
    "tasks",
    "benign",
    "comply",
    "refuse",
    "categories",
    "gsm-symbolic",
    "gsm-symbolic-easy",
    "metamath",
    "instructions",
    "advbench",
    "beavertails-unsafe",
    "beavertails-safe",
]
EvaluationSource = Literal[
    "arithmetic",
    "tasks",
    "restricted",
    "benign",
    "gsm-symbolic",
    "gsm-symbolic-easy",
    "gsm8k",
    "math",
    "advbench",
    "harmbench",
    "strongreject",
    "beavertails-unsafe",
    "toxigen",
    "matched-harmful",
    "matched-benign",
    "look-alikes",
]
WORD_PROBLEMS = ("gsm-symbolic", "gsm-symbolic-easy", "gsm8k", "math")  # answered with a number, not judged
DATASETS = (  # public data sets whose origin a study can set; the others come with a package or with the project
    "metamath",
    "gsm8k",
    "math",
    "advbench",
    "beavertails",
    "harmbench",
    "strongreject",
    "toxigen",
)


def _with_middle(fractions: list[float]) -> list[float]:
    if 0.5 not in fractions:
        raise ValueError("energy_fractions must hold 0.5: it is the one that figures show by default")
    return fractions


EnergyFractions = Annotated[Fractions, AfterValidator(_with_middle)]
