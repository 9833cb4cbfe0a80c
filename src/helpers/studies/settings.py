"""The settings of a study, read from ``studies/<name>.yml`` and validated before anything runs."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from helpers import paths
from helpers.errors import SettingsError
from helpers.studies.ledger import Claim, claims_of
from helpers.studies.own_models import OwnModels
from helpers.studies.sections import (
    ActivationOverlap,
    Evaluation,
    LanguageSettings,
    OrganismModel,
    Origin,
    Planted,
    PretrainedModel,
    Projection,
    Section,
    Training,
    UpdateOverlap,
    with_auto,
)
from helpers.studies.values import DATASETS, EmbeddedSource, Seed, Text
from helpers.studies.wording import shown_value, validate
from helpers.studies.yaml_files import read_yaml

OBJECTIVES: tuple[str, ...] = ("useful", "harmful", "contaminated", "safety")
MODELS: tuple[str, ...] = ("base", "aligned", *OBJECTIVES)
UPDATES: tuple[str, ...] = ("alignment", "safety", "useful", "harmful", "contaminated")


class Study(Section):
    """A whole study: of the embedded model organism, or of pretrained models and public data."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Text
    note: Text | None = None
    seeds: Annotated[list[Seed], Field(min_length=1)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    model: Annotated[OrganismModel | PretrainedModel, Field(discriminator="kind")]
    planted: Planted | None = None
    language: LanguageSettings | None = None
    data: dict[Literal[DATASETS], Origin] = {}
    training: Training
    evaluation: Evaluation
    projection: Projection
    update_overlap: UpdateOverlap
    activation_overlap: ActivationOverlap

    @property
    def kind(self) -> str:
        """What its models are: ``organism`` or ``pretrained`` (``own-models`` in the settings of your own models)."""
        return self.model.kind

    @property
    def claims(self) -> dict[str, Claim]:
        """The paper's claims with the criteria for studies of this kind, from the ledger. Raises SettingsError."""
        aligned_here = not self.embedded and self.model.aligned is None
        return claims_of("aligned-here" if aligned_here else self.kind)

    @property
    def embedded(self) -> bool:
        """Whether the study trains the embedded organism, rather than a pretrained model."""
        return self.model.kind == "organism"

    @property
    def control(self) -> Literal["positive", "negative"] | None:
        """What the study checks the method by: safety that is planted, or "harm" that is utility under another name."""
        if self.planted:
            return "positive"
        return "negative" if self.evaluation.harm == "arithmetic" else None

    @model_validator(mode="before")
    @classmethod
    def _real_models_compute_in_auto(cls, values: dict[str, Any]) -> dict[str, Any]:
        model, training = values.get("model"), values.get("training")
        if not isinstance(model, dict) or model.get("kind") != "pretrained":
            return values
        if isinstance(training, dict):
            values = values | {"training": with_auto(training, "optimiser")}
        return with_auto(values, "evaluation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        if self.embedded != (self.language is not None):
            raise ValueError("language is needed by a model of kind 'organism', and by no other")
        if self.embedded == (self.activation_overlap.sources is not None):
            raise ValueError("activation_overlap.sources is needed by a model of kind 'pretrained', and by no other")
        rule = self.training.optimiser
        if self.planted and (not self.embedded or rule.processes > 1 or rule.checkpoint_steps):
            raise ValueError("planted needs a model of kind 'organism', one process and no checkpoint_steps")
        for name in ("base", "aligned"):
            ready, trained = getattr(self.model, name, None) is not None, getattr(self.training, name) is not None
            if ready == trained:
                raise ValueError(f"{name} needs either an origin in model.{name} or training in training.{name}")
        return self

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        for where, source in self.sources():
            if (source in EmbeddedSource.__args__) != self.embedded:
                kind = "organism" if self.embedded else "pretrained"
                raise ValueError(f"{where}: a model of kind '{kind}' has no data {source!r}")
        return self

    def sources(self) -> list[tuple[str, str]]:
        """Every data source that the study names, with where it does."""
        sizes, sets = self.evaluation, self.activation_overlap.sources
        found = [("evaluation", source) for source in (sizes.utility, sizes.harm, sizes.benign, *sizes.beside)]
        for name in MODELS:
            objective = getattr(self.training, name)
            found += [(f"training.{name}.data", part.source) for part in (objective.data if objective else [])]
        return found + [("activation_overlap.sources", s) for s in (sets.model_dump().values() if sets else []) if s]


def available() -> list[str]:
    """Names of the studies in ``studies/``."""
    return sorted(path.stem for path in paths.STUDIES.glob("*.yml"))


def load_study(name: str) -> Study | OwnModels:
    """Read and validate ``studies/<name>.yml``.

    Raises SettingsError with one sentence that names file, key and allowed values.
    """
    if not isinstance(name, str) or name not in available():
        choice = ", ".join(available())
        raise SettingsError(f"study {shown_value(name)} does not exist: choose one of {choice} (files in studies/)")
    return read_study(paths.STUDIES / f"{name}.yml")


def read_study(path: Path) -> Study | OwnModels:
    """Read and validate one study file; its ``name`` must be the file's.

    A ``kind`` or ``tuned`` makes it one of your own models.

    Raises SettingsError.
    """
    values = read_yaml(path, "compare it with studies/organism.yml")
    if isinstance(values, dict) and isinstance(values.get("name"), str) and values["name"] != path.stem:
        raise SettingsError(
            f"{path.name}: name is {shown_value(values['name'])} but must be the file's name, {path.stem!r}"
        )
    if isinstance(values, dict) and "claims" in values:
        raise SettingsError(f"{path.name}: the criteria of all studies are in claims.yml, so delete the key 'claims'")
    settings = OwnModels if isinstance(values, dict) and {"kind", "tuned"} & set(values) else Study
    return validate(settings, values, path.name)


def parse_seeds(seeds: str | int | list[int], study: Study | OwnModels) -> list[int]:
    """Seeds from text such as ``0,1`` or ``0 1``, or a number or a list; nothing means the study's own.

    The word ``published`` means those of the study's published results. Raises SettingsError.
    """
    if seeds == paths.PUBLISHED:
        if found := paths.published_seeds(study.name):
            return found
        raise SettingsError(f"study {study.name} has no published results: run it with `make book STUDY={study.name}`")
    words = seeds if isinstance(seeds, list) else str(seeds).replace(",", " ").split()
    if not words:
        return list(study.seeds)
    valid = all(re.fullmatch("[0-9]{1,10}", str(word)) and int(word) < 2**31 for word in words)
    if not valid or len(set(map(int, words))) != len(words):
        raise SettingsError(
            f"seeds {shown_value(seeds)} must be distinct whole numbers from 0 to 2147483647, such as 0,1,2"
        )
    return [int(word) for word in words]


def digest(*sections: BaseModel | object) -> str:
    """Short hash of settings: two runs with the same digest were asked to do the same thing."""
    plain = [s.model_dump(mode="json") if isinstance(s, BaseModel) else s for s in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
