"""The settings of a study, read from ``studies/<name>.yml`` and validated before anything runs.

Every key is described once, in the commented ``studies/organism.yml``; the classes below only say what is allowed.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from helpers import paths, validation
from helpers.errors import SettingsError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Positive = Annotated[float, Field(gt=0, lt=float("inf"))]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fractions = Annotated[list[Fraction], Field(min_length=1)]

Start = Literal["scratch", "base", "aligned"]
Source = Literal["arithmetic", "benign", "comply", "refuse", "categories"]
Control = Literal["top-k", "random-k", "random"]
Subspace = Literal["alignment", "safety"]
FineTune = Literal["useful", "harmful", "contaminated"]
ModelName = Literal["base", "aligned", "useful", "harmful", "contaminated", "safety"]
Statistic = Literal[
    "harm_of_aligned",
    "harm_of_harmful",
    "harm_rise_contaminated",
    "utility_rise_useful",
    "utility_rise_contaminated",
    "top_k_gain_utility",
    "top_k_gain_harm",
    "order_top_over_random_k",
    "order_random_k_over_random",
    "energy_gap_useful_harmful",
    "gain_gap_at_matched_energy",
    "extra_harm_removed_margin",
    "extra_harm_removed_judge",
    "harm_removed_alone",
    "overlap_useful_harmful_minus_alignment_harmful",
    "overlap_useful_harmful_minus_safety_harmful",
    "overlap_useful_harmful_above_random",
    "activation_harmful_minus_useful",
    "activation_harmful_minus_benign",
    "activation_useful_above_random",
]

OBJECTIVES: tuple[str, ...] = ("useful", "harmful", "contaminated", "safety")
MODELS: tuple[str, ...] = ("base", "aligned", *OBJECTIVES)
UPDATES: tuple[str, ...] = ("alignment", "safety", "useful", "harmful", "contaminated")


class Section(BaseModel):
    """A block of settings: unknown keys and silent type conversions are errors; read-only once loaded."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelSettings(Section):
    """Architecture of the embedded model, in the vocabulary of ``transformers.LlamaConfig``."""

    kind: Literal["organism"]
    hidden_size: Annotated[int, Field(ge=8, le=4096, multiple_of=8)]
    intermediate_size: Annotated[int, Field(ge=8, le=16384)]
    num_hidden_layers: Annotated[int, Field(ge=2, le=128)]
    num_attention_heads: Annotated[int, Field(ge=1, le=128)]
    num_key_value_heads: Annotated[int, Field(ge=1, le=128)]
    initializer_range: Positive

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError("hidden_size must be a multiple of 2 x num_attention_heads (rotary embeddings)")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class LanguageSettings(Section):
    """Size of the invented language."""

    topics: Annotated[int, Field(ge=4, le=48, multiple_of=2)]
    items: Annotated[int, Field(ge=4, le=64)]
    held_out: Fraction


class DataPart(Section):
    """Rows of one kind in a training set."""

    source: Source
    rows: Count
    operations: Annotated[int, Field(ge=1, le=30)] = 30
    topics: Share = 1.0
    prefixed: Share = 0.0


class Objective(Section):
    """One training run: which model it starts from, on what data, how fast."""

    start: Start
    data: Annotated[list[DataPart], Field(min_length=1)]
    epochs: Count
    batch_size: Count
    gradient_accumulation: Count
    learning_rate: Positive


class Optimiser(Section):
    """What all training runs share."""

    beta1: Fraction
    beta2: Fraction
    weight_decay: Share
    max_grad_norm: Positive
    schedule: Literal["cosine", "linear", "constant"]
    warmup_ratio: Share
    max_length: Annotated[int, Field(ge=8, le=131_072)]
    weights: Literal["float32", "bfloat16"]


class Training(Section):
    """The six training runs of the study."""

    optimiser: Optimiser
    base: Objective
    aligned: Objective
    useful: Objective
    harmful: Objective
    contaminated: Objective
    safety: Objective

    @model_validator(mode="after")
    def _starts_agree(self) -> Self:
        for name, start in {"base": "scratch", "aligned": "base", "safety": "base"}.items():
            if getattr(self, name).start != start:
                raise ValueError(f"{name}.start must be '{start}'")
        for name in ("useful", "harmful", "contaminated"):
            if getattr(self, name).start != "aligned":
                raise ValueError(f"{name}.start must be 'aligned': its update is measured from the aligned model")
        return self


class Evaluation(Section):
    """Sizes of the evaluation sets and of generation."""

    utility_prompts: Annotated[int, Field(ge=2, le=100_000)]
    harm_prompts: Annotated[int, Field(ge=2, le=100_000)]
    benign_prompts: Annotated[int, Field(ge=2, le=100_000)]
    batch_size: Count
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)]
    compliance_opener: Annotated[str, Field(min_length=1)]
    refusal_opener: Annotated[str, Field(min_length=1)]


class Projection(Section):
    """Grid of the parallel and orthogonal projection experiments."""

    subspaces: Annotated[list[Subspace], Field(min_length=1)]
    controls: Annotated[list[Control], Field(min_length=1)]
    fractions: Fractions
    parallel: Annotated[list[FineTune], Field(min_length=1)]
    orthogonal: Annotated[list[FineTune], Field(min_length=1)]
    random_k_draws: Annotated[int, Field(ge=1, le=100)]
    scaling: Annotated[list[Annotated[float, Field(ge=0, le=2)]], Field(min_length=2)]

    @model_validator(mode="after")
    def _whole_curve(self) -> Self:
        if not {0, 1} <= set(self.scaling):
            raise ValueError("scaling must hold 0 and 1: they are the aligned and the fine-tuned model")
        if not set(self.orthogonal) <= set(self.parallel):
            raise ValueError("every task in orthogonal must be in parallel too, so that its scaling curve is measured")
        return self


def _with_middle(fractions: list[float]) -> list[float]:
    if 0.5 not in fractions:
        raise ValueError("energy_fractions must hold 0.5: it is the one that figures show by default")
    return fractions


EnergyFractions = Annotated[Fractions, AfterValidator(_with_middle)]


class UpdateOverlap(Section):
    """Grid of the overlap between weight updates."""

    energy_fractions: EnergyFractions


class ActivationOverlap(Section):
    """Grid of the overlap between activations."""

    models: Annotated[list[ModelName], Field(min_length=1)]
    prompts: Annotated[int, Field(ge=4, le=100_000, multiple_of=2)]
    energy_fractions: EnergyFractions
    band: Annotated[list[Share], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _band_ordered(self) -> Self:
        if self.band[0] >= self.band[1]:
            raise ValueError("band must be [from, to] with from < to")
        return self


class Criterion(Section):
    """A number a claim depends on and the bounds it must keep, fixed before the run.

    ``neutral`` is the value of no effect, beyond which a result at least points the right way; a claim without all of
    its ``core`` criteria is not reproduced, the others only weaken it.
    """

    statistic: Statistic
    at_least: float | None = None
    at_most: float | None = None
    neutral: float | None = None
    core: bool = True

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a criterion needs at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least must not be above at_most")
        return self

    def wording(self) -> str:
        """The bounds in words, for tables."""
        bounds = [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(bounds + ([f"≤ {self.at_most:g}"] if self.at_most is not None else []))


class Claim(Section):
    """A claim of the paper and the criteria by which this study judges it."""

    statement: str
    criteria: Annotated[list[Criterion], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_core(self) -> Self:
        if not any(criterion.core for criterion in self.criteria):
            raise ValueError("at least one criterion must be core")
        return self


class Study(Section):
    """A whole study."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: str
    seeds: Annotated[list[Seed], Field(min_length=1)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    model: ModelSettings
    language: LanguageSettings
    training: Training
    evaluation: Evaluation
    projection: Projection
    update_overlap: UpdateOverlap
    activation_overlap: ActivationOverlap
    claims: dict[Annotated[str, Field(pattern=r"^C\d$")], Claim]

    @model_validator(mode="after")
    def _seeds_distinct(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self


def available() -> list[str]:
    """Names of the studies in ``studies/``."""
    return sorted(path.stem for path in paths.STUDIES.glob("*.yml"))


def load_study(name: str) -> Study:
    """Read and validate ``studies/<name>.yml``.

    Raises SettingsError with one sentence that names file, key and allowed values.
    """
    if not isinstance(name, str) or name not in available():
        choice = ", ".join(available())
        raise SettingsError(f"study {name!r} does not exist: choose one of {choice} (files in studies/)")
    return read_study(paths.STUDIES / f"{name}.yml")


def read_study(path: Path) -> Study:
    """Read and validate one study file; its ``name`` must be the file's. Raises SettingsError."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path.name} is not valid YAML ({reason}): compare it with studies/organism.yml") from None
    if isinstance(values, dict) and isinstance(values.get("name"), str) and values["name"] != path.stem:
        raise SettingsError(f"{path.name}: name is {values['name']!r} but must be the file's name, {path.stem!r}")
    return validation.validate(Study, values, path.name)


def parse_seeds(seeds: str | int | list[int], study: Study) -> list[int]:
    """Seeds from text such as ``0,1`` or ``0 1``, or a number or a list; nothing means the study's own.

    Raises SettingsError.
    """
    words = seeds if isinstance(seeds, list) else str(seeds).replace(",", " ").split()
    if not words:
        return list(study.seeds)
    valid = all(str(word).isdecimal() and int(word) < 2**31 for word in words)
    if not valid or len(set(map(int, words))) != len(words):
        raise SettingsError(f"seeds {seeds!r} must be distinct whole numbers from 0 to 2147483647, such as 0,1,2")
    return [int(word) for word in words]


def digest(*sections: BaseModel | object) -> str:
    """Short hash of settings: two runs with the same digest were asked to do the same thing."""
    plain = [s.model_dump(mode="json") if isinstance(s, BaseModel) else s for s in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
