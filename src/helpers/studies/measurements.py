"""The sections of a study's settings on what is measured on its models, and how: what each key may hold."""

import operator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from helpers.studies.sections import Origin
from helpers.studies.values import (
    EDITS,
    JUDGES,
    METHODS,
    SOURCES,
    SUBSPACES,
    TRAININGS,
    Control,
    Count,
    Draws,
    DuringTraining,
    Edit,
    EnergyFractions,
    EvaluationSource,
    FineTune,
    Fraction,
    NoRepeats,
    Positive,
    Precision,
    Prompts,
    Rate,
    Several,
    Share,
    Style,
    Subspace,
    Text,
    Tokens,
)
from helpers.studies.wording import Section

PLAIN = "plain"  # wording of the rubric
TWINNED = [name for name, one in SUBSPACES.items() if one.facts.get("twin")]
ALIGNMENT = ("alignment", "alignment-input")  # subspaces of outputs and of inputs, beside which labelled ones stand
OF_UNRELATED = {"unrelated", "unrelated-removed"}  # the subspace and the edit that read the unrelated update
AFTER_THE_BENCH = (  # came when its decisions had been made, which are corrected for their number
    "mean-difference-stacked",
    "mean-difference-stacked-input",
    "refusal-cone",
)


class Judge(Section):
    """Who scores answers to harmful prompts: one of the judges in ``helpers/evaluation/judges``."""

    kind: Literal[*JUDGES] = "rule"
    model: Origin | None = None  # of a local judge
    name: Text | None = None  # of the endpoint's model
    max_tokens: Tokens = 256  # of a reply
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    timeout: Positive = 60.0  # seconds for one reply
    wording: Annotated[Literal["plain", "brief", "marks"], Field(exclude_if=PLAIN.__eq__)] = PLAIN  # of the rubric
    rubric: Annotated[Text | None, Field(exclude_if=partial(operator.is_, None))] = None  # file of another one

    @property
    def label(self) -> str:
        """What tells it from the other judges of a study."""
        model = self.name or (self.model and (self.model.id or self.model.path or self.model.package)) or ""
        words = Path(self.rubric).name if self.rubric else "" if self.wording == PLAIN else self.wording
        return " ".join(filter(None, [self.kind, model, words and f"({words})"]))

    @model_validator(mode="after")
    def _named(self) -> Self:
        for key in ("model", "name"):
            takers = [name for name, judge in JUDGES.items() if key in judge.facts.get("needs", ())]
            if (getattr(self, key) is not None) != (self.kind in takers):
                raise ValueError(
                    f"{key} is needed by a judge of kind {' or '.join(map(repr, takers))}, and by no other"
                )
        for key, is_given in (("wording", self.wording != PLAIN), ("rubric", bool(self.rubric))):
            if is_given and not (self.model or self.name):
                raise ValueError(f"{key} is of the rubric that language models are asked by: leave it out")
        if self.rubric and self.wording != PLAIN:
            raise ValueError("rubric is a file of yours, and wording one of the project's rubrics: give one of the two")
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
    stops: Annotated[list[Text], *NoRepeats, Field(exclude_if=operator.not_)] = []  # an answer ends before the first
    show_harmful: Annotated[bool, Field(exclude_if=operator.not_)] = False  # hashed only where it is set
    judge: Judge = Judge()
    second_judges: Annotated[list[Judge], Field(max_length=20, exclude_if=operator.not_)] = []  # of the same answers
    harness: Harness = Harness()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        labels = [judge.label for judge in (self.judge, *self.second_judges)]
        if len(set(labels)) < len(labels):
            raise ValueError("second_judges holds a judge twice, or the first one: give each once")
        return self


class Judged(Section):
    """The variants of the grid for which answers are generated and judged; all others have their margins only."""

    subspaces: Several[Subspace]
    controls: Several[Control]
    modes: Several[Literal["parallel", "orthogonal"]]
    tasks: Annotated[Several[FineTune] | None, Field(exclude_if=partial(operator.is_, None))] = None  # None: all


class Projection(Section):
    """Grid of the parallel and orthogonal projection experiments."""

    subspaces: Several[Subspace]
    top_k_only: Annotated[list[Subspace], *NoRepeats, Field(exclude_if=operator.not_)] = []  # hashed only if any
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
        if not set(self.top_k_only) <= set(self.subspaces):
            raise ValueError("every subspace in top_k_only must be in subspaces")
        if not set(self.orthogonal) <= set(self.parallel):
            raise ValueError("every task in orthogonal must be in parallel too, so that its scaling curve is measured")
        return self


class TimeCourse(Section):
    """Fine-tunings that are looked at after 1, 2, 4 … steps, at a constant learning rate of each optimiser."""

    tasks: Several[FineTune]
    steps: Count
    adamw: Rate
    sgd: Rate


class Bench(Section):
    """The methods of the field that are measured on the models of another study, each beside its nulls."""

    of: Text  # name of the study whose models and settings are taken
    edits: Several[Edit] = [name for name, edit in EDITS.items() if edit.facts.get("null")]
    subspaces: Several[Subspace] = [name for name in TWINNED if name not in AFTER_THE_BENCH]
    during_training: Several[DuringTraining] = [name for name, one in TRAININGS.items() if one.facts.get("null")]
    labelled: Several[Subspace] = TWINNED  # kept and removed, beside the alignment subspace
    second_utility: EvaluationSource | None = None
    time_course: Annotated[TimeCourse | None, Field(exclude_if=operator.not_)] = None

    @model_validator(mode="after")
    def _have_nulls(self) -> Self:
        for name in (*self.methods, *self.labelled):
            if not nulls_of(name):
                raise ValueError(f"{name!r} has no null to be compared with: give its decorator null=… or twin=…")
        return self

    @field_validator("second_utility")
    @classmethod
    def _has_right_answers(cls, source: str | None) -> str | None:
        known = (*SOURCES["skills"], *SOURCES["word_problems"])
        if source and source not in known:
            raise ValueError(f"{source!r} is no set of problems with right answers: choose one of {', '.join(known)}")
        return source

    @property
    def methods(self) -> list[str]:
        """All whose decision the bench takes, beside their nulls."""
        return [*self.edits, *self.subspaces, *self.during_training]

    @property
    def nulls(self) -> dict[str, tuple[str, ...]]:
        """The nulls of every method."""
        return {name: nulls_of(name) for name in self.methods}

    @property
    def beside_unrelated(self) -> list[str]:
        """Those that are, or have to beat, a subspace of the unrelated update, which not every study has."""
        every = [*self.methods, *self.labelled]
        return list(dict.fromkeys(name for name in every if OF_UNRELATED & {name, *nulls_of(name)}))

    @property
    def twins(self) -> dict[str, str]:
        """Of every labelled subspace the one that is made alike from benign requests."""
        return {name: nulls_of(name)[0] for name in self.labelled}

    @property
    def compared(self) -> list[str]:
        """The alignment subspaces, then every labelled one with its twin behind it, each once."""
        return list(dict.fromkeys([*ALIGNMENT, *(name for pair in self.twins.items() for name in pair)]))

    def with_nulls(self, methods: list[str]) -> list[str]:
        """Some of the methods and their nulls, each once."""
        return list(dict.fromkeys([*methods, *(null for name in methods for null in nulls_of(name))]))


def nulls_of(name: str) -> tuple[str, ...]:
    """The edits or the twin that a method has to beat, as its decorator names them."""
    facts = METHODS[name].facts
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
    position: Annotated[int, Field(exclude_if=partial(operator.eq, -1))] = -1  # token of a prompt; hashed where another
    style: Style = "raw"
    sources: ActivationSources | None = None

    @model_validator(mode="after")
    def _band_ordered(self) -> Self:
        if self.band[0] >= self.band[1]:
            raise ValueError("band must be [from, to] with from < to")
        return self
