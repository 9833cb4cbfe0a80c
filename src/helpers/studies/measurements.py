"""The sections of a study's settings on what is measured on its models, and how: what each key may hold."""

import operator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from helpers.studies.sections import Origin
from helpers.studies.values import (
    EDITS,
    JUDGES,
    SUBSPACES,
    Control,
    Count,
    Draws,
    Edit,
    EnergyFractions,
    EvaluationSource,
    FineTune,
    Fraction,
    NoRepeats,
    Positive,
    Precision,
    Prompts,
    Several,
    Share,
    Style,
    Subspace,
    Text,
    Tokens,
)
from helpers.studies.wording import Section


class Judge(Section):
    """Who scores answers to harmful prompts: one of the judges in ``helpers/evaluation/judges``."""

    kind: Literal[*JUDGES] = "rule"
    model: Origin | None = None  # of a local judge
    name: Text | None = None  # of the endpoint's model
    max_tokens: Tokens = 256  # of a reply
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    timeout: Positive = 60.0  # seconds for one reply

    @model_validator(mode="after")
    def _named(self) -> Self:
        for key in ("model", "name"):
            takers = [name for name, judge in JUDGES.items() if key in judge.facts.get("needs", ())]
            if (getattr(self, key) is not None) != (self.kind in takers):
                raise ValueError(
                    f"{key} is needed by a judge of kind {' or '.join(map(repr, takers))}, and by no other"
                )
        return self


class Harness(Section):
    """How lm-evaluation-harness asks the word problems."""

    shots: Annotated[int, Field(ge=0, le=32)] = 1
    chat: bool = False  # through the model's chat template
    max_new_tokens: Tokens = 256


class Margins(Section):
    """The prompts on which a model's margins are measured, and how they are put."""

    utility: EvaluationSource = "arithmetic"
    harm: EvaluationSource = "restricted"
    utility_prompts: Prompts
    harm_prompts: Prompts
    batch_size: Count
    compliance_openers: Several[Text]
    refusal_openers: Several[Text]
    style: Style = "raw"
    autocast: Precision = "float32"


class Evaluation(Margins):
    """Sizes of the evaluation sets and of generation."""

    benign: EvaluationSource = "benign"
    beside: Annotated[list[EvaluationSource], *NoRepeats] = []
    benign_prompts: Prompts
    beside_prompts: Prompts = 100
    max_new_tokens: Tokens
    show_harmful: Annotated[bool, Field(exclude_if=operator.not_)] = False  # hashed only where it is set
    judge: Judge = Judge()
    harness: Harness = Harness()


class Judged(Section):
    """The variants of the grid for which answers are generated and judged; all others have their margins only."""

    subspaces: Several[Subspace]
    controls: Several[Control]
    modes: Several[Literal["parallel", "orthogonal"]]


class Projection(Section):
    """Grid of the parallel and orthogonal projection experiments."""

    subspaces: Several[Subspace]
    controls: Several[Control]
    fractions: Several[Fraction]
    parallel: Several[FineTune]
    orthogonal: Several[FineTune]
    random_k_draws: Draws
    scaling: Annotated[list[Annotated[float, Field(ge=0, le=2)]], Field(min_length=2), *NoRepeats]
    judged: Judged | None = None
    edits: Annotated[list[Edit], *NoRepeats, Field(exclude_if=operator.not_)] = []  # hashed only where there are some

    @model_validator(mode="after")
    def _whole_curve(self) -> Self:
        if not {0, 1} <= set(self.scaling):
            raise ValueError("scaling must hold 0 and 1: they are the aligned and the fine-tuned model")
        if not set(self.orthogonal) <= set(self.parallel):
            raise ValueError("every task in orthogonal must be in parallel too, so that its scaling curve is measured")
        return self


class Bench(Section):
    """The methods of the field that are measured on the models of another study, each beside its nulls."""

    of: Text  # name of the study whose models and settings are taken
    edits: Several[Edit] = [name for name, edit in EDITS.items() if edit.facts.get("null")]
    subspaces: Several[Subspace] = [name for name, one in SUBSPACES.items() if one.facts.get("twin")]

    @model_validator(mode="after")
    def _have_nulls(self) -> Self:
        for name in [*self.edits, *self.subspaces]:
            if not nulls_of(name):
                raise ValueError(f"{name!r} has no null to be compared with: give its decorator null=… or twin=…")
        return self

    @property
    def nulls(self) -> dict[str, tuple[str, ...]]:
        """The nulls of every method."""
        return {name: nulls_of(name) for name in [*self.edits, *self.subspaces]}


def nulls_of(name: str) -> tuple[str, ...]:
    """The edits or the twin that a method has to beat, as its decorator names them."""
    facts = (EDITS.get(name) or SUBSPACES[name]).facts
    found = facts.get("null") or facts.get("twin") or ()
    return (found,) if isinstance(found, str) else tuple(found)


class Released(Section):
    """The defects of the released code, which are switched on upon the models of another study."""

    of: Text  # name of the study whose models, tables and settings are taken
    remade: Count = 5  # the first seeds, whose contaminated model is made anew with a defect
    tables_of: Annotated[list[Text], *NoRepeats] = []  # studies of which published tables say something, too


class UpdateOverlap(Section):
    """Grid of the overlap between weight updates."""

    energy_fractions: EnergyFractions


class ActivationSources(Section):
    """The data sets whose prompts are compared; ``other_harmful`` and ``toxic`` are harmful sets of another kind."""

    useful: EvaluationSource
    harmful: EvaluationSource
    other_harmful: EvaluationSource
    matched_harmful: EvaluationSource
    matched_benign: EvaluationSource
    toxic: EvaluationSource | None = None


class ActivationOverlap(Section):
    """Grid of the overlap between activations."""

    models: Several[Literal["base", "aligned", "useful", "harmful", "contaminated", "safety"]]
    prompts: Annotated[int, Field(ge=4, le=100_000, multiple_of=2)]
    matched_prompts: Prompts | None = None  # of the matched sets, where they have not so many
    energy_fractions: EnergyFractions
    band: Annotated[list[Share], Field(min_length=2, max_length=2)]
    centred: Annotated[bool, Field(exclude_if=operator.not_)] = False  # hashed only where it is set
    style: Style = "raw"
    sources: ActivationSources | None = None

    @model_validator(mode="after")
    def _band_ordered(self) -> Self:
        if self.band[0] >= self.band[1]:
            raise ValueError("band must be [from, to] with from < to")
        return self
