"""Settings of a study of your own models: nothing is trained, the models are given, see ``studies/own-models.yml``."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from helpers.studies.sections import LanguageSettings, Margins, Origin, Section, with_auto
from helpers.studies.values import DATASETS, Control, EmbeddedSource, EnergyFractions, Fractions, Seed, Several, Text

KIND = "own-models"
TAKEN = ("base", "aligned", "alignment")  # names that no fine-tune can have
TunedName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=40)]


class OwnGeometry(Section):
    """What is asked of the updates."""

    fractions: Fractions
    controls: Several[Control] = ["top-k", "random-k", "random"]
    random_k_draws: Annotated[int, Field(ge=1, le=100)] = 1
    energy_fractions: EnergyFractions
    vocabulary: Literal["exact", "intersection"] = "exact"

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if not {"top-k", "random"} <= set(self.controls):
            raise ValueError("controls must hold top-k and random: the result is the difference between them")
        return self


class OwnModels(Section):
    """A study of models that exist: does a fine-tune move inside the subspace of the alignment update?"""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Text
    kind: Literal[KIND]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    base: Origin
    aligned: Origin
    tuned: Annotated[dict[TunedName, Origin], Field(min_length=1, max_length=20)]
    geometry: OwnGeometry
    evaluation: Margins
    language: LanguageSettings | None = None
    data: dict[Literal[DATASETS], Origin] = {}

    @property
    def embedded(self) -> bool:
        """Whether the prompts are those of the embedded language, because the models are organisms."""
        return self.language is not None

    @property
    def origins(self) -> dict[str, Origin]:
        """Where every model comes from: base, aligned, then the fine-tuned ones."""
        return {"base": self.base, "aligned": self.aligned, **self.tuned}

    def sources(self) -> list[tuple[str, str]]:
        """Every data source that the study names, with where it does."""
        return [("evaluation", self.evaluation.utility), ("evaluation", self.evaluation.harm)]

    @model_validator(mode="before")
    @classmethod
    def _real_models_compute_in_auto(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values if "language" in values else with_auto(values, "evaluation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        if taken := set(TAKEN) & set(self.tuned):
            raise ValueError(f"a fine-tune cannot be named {taken.pop()}: give it another name in tuned")
        places = list(self.origins.values())
        for i, (name, origin) in enumerate(self.origins.items()):
            if origin in places[:i]:
                raise ValueError(f"{name} is the same model as another one: every entry must be a model of its own")
        for source in (self.evaluation.utility, self.evaluation.harm):
            if (source in EmbeddedSource.__args__) != self.embedded:
                remedy = "leave language out" if self.embedded else "give the organism's language, or choose other data"
                raise ValueError(f"evaluation: {source!r} does not fit these settings: {remedy}")
        return self
