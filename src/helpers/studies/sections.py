"""The sections of a study's settings on its models, data and training: what each key may hold.

Every key is described once, in the commented ``studies/organism.yml`` and ``studies/smollm2-135m.yml``; the classes
below only say what is allowed.
"""

import operator
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from helpers.studies.values import (
    Count,
    Fraction,
    Positive,
    Precision,
    Rate,
    Share,
    Source,
    Style,
    Text,
    Tokens,
)
from helpers.studies.wording import Section


class Origin(Section):
    """Where weights or data come from: a file in a Python package, the Hugging Face hub, or a local folder."""

    origin: Literal["package", "hub", "folder"]
    package: Text | None = None
    file: Text | None = None
    id: Text | None = None
    revision: Text | None = None
    path: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"package": ["file", "package"], "hub": ["id", "revision"], "folder": ["path"]}[self.origin]
        if set(self.model_dump(exclude_none=True)) != {"origin", *needed}:
            raise ValueError(f"an origin '{self.origin}' takes exactly the keys {' and '.join(needed)}")
        return self


class OrganismModel(Section):
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


class PretrainedModel(Section):
    """Models that exist: where the base model comes from, and the aligned one unless it is trained here."""

    kind: Literal["pretrained"]
    base: Origin
    aligned: Origin | None = None


class Planted(Section):
    """The positive control: how many directions of every matrix hold safety, and how far activations are set apart."""

    rank: Count
    separation: Positive
    dial: Annotated[list[Share], Field(min_length=2)]
    share: Annotated[Share, Field(exclude_if=lambda share: share == 1)] = 1.0  # of the construction; hashed where less
    graded: Annotated[Count, Field(exclude_if=lambda seeds: seeds == 3)] = 3  # the first seeds, whose dial is turned

    @model_validator(mode="after")
    def _both_ends(self) -> Self:
        if self.dial != sorted(set(self.dial)) or {self.dial[0], self.dial[-1]} != {0, 1}:
            raise ValueError("dial must rise from 0 (nothing is planted) to 1 (the planted organism)")
        return self


class Place(Section):
    """A place of a condition's dial: where it is, and which settings of the study are changed there."""

    at: float
    label: Text
    changes: dict[str, Any]  # by their path, such as ``training.harmful.data``; nothing is the study itself


class Condition(Section):
    """One dial of the study of conditions."""

    dial: Annotated[str, Field(pattern=r"^[a-z][a-z -]{0,39}$")]
    label: Text  # of the axis
    places: Annotated[list[Place], Field(min_length=2)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        at = [place.at for place in self.places]
        if at != sorted(set(at)):
            raise ValueError(f"the places of {self.dial!r} must rise")
        if sum(not place.changes for place in self.places) != 1:
            raise ValueError(f"one place of {self.dial!r}, and no other, must change nothing: changes are told from it")
        return self


class LanguageSettings(Section):
    """Size of the invented language."""

    topics: Annotated[int, Field(ge=4, le=48, multiple_of=2)]
    items: Annotated[int, Field(ge=4, le=64)]
    held_out: Fraction
    verbs: Annotated[int, Field(ge=1, le=27, exclude_if=partial(operator.eq, 3))] = 3  # hashed only where it is another
    new_verbs: Annotated[int, Field(ge=0, le=26, exclude_if=operator.not_)] = 0  # hashed only where there are some

    @model_validator(mode="after")
    def _verbs_exist(self) -> Self:
        if self.verbs + self.new_verbs > 27:
            raise ValueError(
                "verbs and new_verbs together are at most 27: there are no more ways to arrange three items"
            )
        return self


class DataPart(Section):
    """Rows of one kind in a training set; ``answer`` is the one given, a refusal, or the base model's own."""

    source: Source
    rows: Count
    operations: Annotated[int, Field(ge=1, le=30)] = 30
    topics: Share | Annotated[list[Share], Field(min_length=2, max_length=2)] = 1.0
    verbs: Annotated[int | None, Field(ge=1, le=27, exclude_if=partial(operator.is_, None))] = None  # None: all
    prefixed: Share = 0.0
    draw: Annotated[int, Field(ge=0, le=1000)] = 0
    answer: Literal["given", "refusal", "base"] = "given"

    @model_validator(mode="after")
    def _topics_ordered(self) -> Self:
        if isinstance(self.topics, list) and self.topics[0] >= self.topics[1]:
            raise ValueError("topics must be a share, or [from, to] with from < to")
        return self

    def of(self, topics: list[str]) -> list[str]:
        """The topics of the part: the first ones, or those between two shares of the list; at least one."""
        low, high = self.topics if isinstance(self.topics, list) else (0.0, self.topics)
        start = round(low * len(topics))
        return topics[start : max(start + 1, round(high * len(topics)))]


class Adapter(Section):
    """A LoRA adapter on every linear map but the head: W + (α / r) B A, merged when the training ends."""

    rank: Count
    alpha: Positive


class Objective(Section):
    """One training run: which model it starts from, on what data, by which loss, how fast."""

    start: Literal["scratch", "base", "aligned"]
    data: Annotated[list[DataPart], Field(min_length=1)]
    epochs: Count
    batch_size: Count
    gradient_accumulation: Count
    learning_rate: Rate
    lora: Annotated[Adapter | None, Field(exclude_if=partial(operator.is_, None))] = None  # None: all weights
    dpo: Annotated[Positive | None, Field(exclude_if=partial(operator.is_, None))] = (
        None  # β; None: answers are imitated
    )


class Optimiser(Section):
    """What all training runs share."""

    method: Annotated[Literal["adamw", "sgd"], Field(exclude_if=partial(operator.eq, "adamw"))] = "adamw"
    beta1: Fraction
    beta2: Fraction
    weight_decay: Share
    max_grad_norm: Positive
    schedule: Literal["cosine", "linear", "constant"]
    warmup_ratio: Share
    max_length: Annotated[int, Field(ge=8, le=131_072)]
    weights: Literal["float32", "bfloat16"]  # as they are stored
    autocast: Precision = "float32"
    style: Style = "raw"
    gradient_checkpointing: bool = False
    checkpoint_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    processes: Annotated[int, Field(ge=1, le=64)] = 1


class Training(Section):
    """The training runs of the study; those of models that come ready-made are left out."""

    optimiser: Optimiser
    answer_tokens: Tokens = 64  # of the base model's own answers, where those are learnt
    base: Objective | None = None
    aligned: Objective | None = None
    useful: Objective
    harmful: Objective
    contaminated: Objective
    safety: Objective
    unrelated: Annotated[Objective | None, Field(exclude_if=partial(operator.is_, None))] = None

    @model_validator(mode="after")
    def _starts_agree(self) -> Self:
        starts = {"base": "scratch", "aligned": "base", "safety": "base", "unrelated": "base"}
        for name, objective in dict(self).items():
            start = starts.get(name, "aligned")
            if not isinstance(objective, Objective):
                continue
            if objective.start != start:
                raise ValueError(f"{name}.start must be '{start}': its update is measured from there")
            if (objective.lora or objective.dpo) and (self.optimiser.processes > 1 or self.optimiser.checkpoint_steps):
                raise ValueError(f"{name}: lora and dpo need one process and no checkpoint_steps in the optimiser")
        return self
