"""The settings of a study, read from ``studies/<name>.yml`` and validated before anything runs.

A study trains the six models of the paper and judges its claims, or it takes your own models as they are: then nothing
is trained, see ``studies/own-models.yml``.
"""

import copy
import functools
import hashlib
import json
import operator
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from helpers import paths
from helpers.errors import SettingsError
from helpers.studies import measurements, sections
from helpers.studies.ledger import Claim, ClaimName, Prediction, claims_of, prediction
from helpers.studies.sections import LanguageSettings, Origin, Section
from helpers.studies.values import SOURCES, Control, Draws, EnergyFractions, Fraction, Seed, Several, Text
from helpers.studies.wording import shown_value, validate
from helpers.studies.yaml_files import read_yaml

OBJECTIVES: tuple[str, ...] = ("useful", "harmful", "contaminated", "safety")
MODELS: tuple[str, ...] = ("base", "aligned", *OBJECTIVES)
UPDATES: tuple[str, ...] = ("alignment", "safety", "useful", "harmful", "contaminated")
APART = ("conditions", "bench", "released")  # sections of studies that do not judge the claims on models of their own
UNRELATED = "unrelated"  # model, update and subspace of a fine-tuning of the base that teaches no safety
Seeds = Several[Seed]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]
TunedName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=40)]


class AnyStudy(Section):
    """What the settings of every study hold."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Text
    language: LanguageSettings | None = None
    data: dict[Literal[*SOURCES["datasets"]], Origin] = {}

    @property
    def embedded(self) -> bool:
        """Whether the models are organisms of the embedded language, rather than models of a natural one."""
        return self.language is not None

    @model_validator(mode="before")
    @classmethod
    def _real_models_compute_in_auto(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("language") is not None:
            return values
        values = copy.deepcopy(values)
        training = values.get("training")
        for section in (values.get("evaluation"), training.get("optimiser") if isinstance(training, dict) else None):
            if isinstance(section, dict):
                section.setdefault("autocast", "auto")
        return values

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        for where, source in self.sources():
            if (source in SOURCES["embedded"]) != self.embedded:
                remedy = "leave language out" if self.embedded else "give the organism's language"
                raise ValueError(f"{where}: {source!r} does not fit these settings: choose other data, or {remedy}")
        return self


class Study(AnyStudy):
    """A whole study: of the embedded model organism, or of pretrained models and public data."""

    note: Text | None = None
    caveats: Annotated[
        dict[ClaimName, Text], Field(exclude_if=operator.not_)
    ] = {}  # why it cannot speak about the paper
    seeds: Seeds
    confidence: Confidence
    model: Annotated[sections.OrganismModel | sections.PretrainedModel, Field(discriminator="kind")]
    planted: sections.Planted | None = None
    training: sections.Training
    evaluation: measurements.Evaluation
    projection: measurements.Projection
    update_overlap: measurements.UpdateOverlap
    activation_overlap: measurements.ActivationOverlap
    conditions: Annotated[list[sections.Condition], Field(exclude_if=operator.not_)] = []
    bench: Annotated[measurements.Bench | None, Field(exclude_if=operator.not_)] = None  # then nothing is trained
    released: Annotated[measurements.Released | None, Field(exclude_if=operator.not_)] = None  # nor then

    @property
    def models_of(self) -> str:
        """The name of the study that makes its models: itself, but another one where it only measures them."""
        return next((section.of for section in (self.bench, self.released) if section), self.name)

    @property
    def apart(self) -> str:
        """The section by which it judges no claims of its own and has notebooks of its own; empty without one."""
        return next((name for name in APART if getattr(self, name)), "")

    def changed(self, changes: dict[str, Any]) -> Self:
        """The study with some settings changed, by their path such as ``training.harmful.data``, and no conditions.

        Raises SettingsError for a path that there is not, or a value that does not fit.
        """
        values = self.model_dump(exclude={"conditions"})
        for path, value in changes.items():
            *sections, last = path.split(".")
            section = functools.reduce(lambda v, key: v.get(key) if isinstance(v, dict) else None, sections, values)
            if not isinstance(section, dict):
                raise SettingsError(f"study {self.name} has no setting {shown_value(path)} that could be changed")
            section[last] = value
        return validate(type(self), values, f"{self.name}, changed at {', '.join(changes)}")

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
    def control(self) -> Literal["positive", "negative"] | None:
        """What the study checks the method by: safety that is planted, or "harm" that is utility under another name."""
        if self.planted:
            return "positive"
        return "negative" if self.evaluation.harm in SOURCES["skills"] else None

    @property
    def objectives(self) -> tuple[str, ...]:
        """The fine-tunings: of the paper, and the one that taught no safety where the study has it."""
        return (*OBJECTIVES, UNRELATED) if self.training.unrelated else OBJECTIVES

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are made, in the order in which they can be."""
        return ("base", "aligned", *self.objectives)

    @property
    def updates(self) -> tuple[str, ...]:
        """The updates that are compared."""
        return (*UPDATES[:2], UNRELATED, *UPDATES[2:]) if self.training.unrelated else UPDATES

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        organism = self.kind == "organism"
        if organism != self.embedded:
            raise ValueError("language is needed by a model of kind 'organism', and by no other")
        if organism == (self.activation_overlap.sources is not None):
            raise ValueError("activation_overlap.sources is needed by a model of kind 'pretrained', and by no other")
        rule = self.training.optimiser
        if "unrelated" in self.projection.subspaces and self.training.unrelated is None:
            raise ValueError("the subspace 'unrelated' in projection.subspaces needs training.unrelated")
        if self.planted and (not organism or rule.processes > 1 or rule.checkpoint_steps):
            raise ValueError("planted needs a model of kind 'organism', one process and no checkpoint_steps")
        special = [name for name in self.models if (one := getattr(self.training, name)) and (one.lora or one.dpo)]
        if special and self.planted:
            raise ValueError(f"training.{special[0]}: a planted study is trained without lora and dpo")
        if self.bench and self.bench.second_utility == self.evaluation.utility:
            raise ValueError("bench.second_utility is the study's own utility: name another set, or leave it out")
        if self.bench and self.training.unrelated is None and (names := self.bench.beside_unrelated):
            raise ValueError(
                f"bench: {', '.join(names)} are compared with an unrelated update: add training.unrelated to study "
                f"{self.bench.of}, or name others in bench.edits, bench.subspaces and bench.labelled"
            )
        if self.conditions and self.planted:
            raise ValueError("conditions need a study that is not planted")
        for condition in self.conditions:
            for place in condition.places:
                self.changed(place.changes)
        for name in ("base", "aligned"):
            given = [getattr(part, name, None) is not None for part in (self.model, self.training)]
            if sum(given) != 1:
                wrong = "has both" if all(given) else "needs one of"
                raise ValueError(f"{name} {wrong} an origin in model.{name} and training in training.{name}: give one")
        return self

    def sources(self) -> list[tuple[str, str]]:
        """Every data source that the study names, with where it does."""
        sizes, sets = self.evaluation, self.activation_overlap.sources
        found = [("evaluation", source) for source in (sizes.utility, sizes.harm, sizes.benign, *sizes.beside)]
        second = self.bench.second_utility if self.bench else None
        found += [("bench.second_utility", second)] if second else []
        for name in self.models:
            objective = getattr(self.training, name)
            found += [(f"training.{name}.data", part.source) for part in (objective.data if objective else [])]
        return found + [("activation_overlap.sources", source) for _, source in sets or () if source]


class OwnGeometry(Section):
    """What a study of your own models asks of their updates."""

    fractions: Several[Fraction]
    controls: Several[Control] = ["top-k", "random-k", "random"]
    random_k_draws: Draws = 1
    energy_fractions: EnergyFractions
    vocabulary: Literal["exact", "intersection"] = "exact"

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if not {"top-k", "random"} <= set(self.controls):
            raise ValueError("controls must hold top-k and random: the result is the difference between them")
        return self


class OwnModels(AnyStudy):
    """A study of models that exist: does a fine-tune move inside the subspace of the alignment update?"""

    kind: Literal["own-models"]
    seeds: Seeds = [0]
    confidence: Confidence = 0.95
    base: Origin
    aligned: Origin
    tuned: Annotated[dict[TunedName, Origin], Field(min_length=1, max_length=20)]
    geometry: OwnGeometry
    evaluation: measurements.Margins

    @property
    def objectives(self) -> tuple[str, ...]:
        """It has no fine-tunings: its notebook is run once."""
        return ("",)

    @property
    def origins(self) -> dict[str, Origin]:
        """Where every model comes from: base, aligned, then the fine-tuned ones."""
        return {"base": self.base, "aligned": self.aligned, **self.tuned}

    def sources(self) -> list[tuple[str, str]]:
        """Every data source that the study names, with where it does."""
        return [("evaluation", self.evaluation.utility), ("evaluation", self.evaluation.harm)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if taken := {"base", "aligned", "alignment"} & set(self.tuned):
            raise ValueError(f"a fine-tune cannot be named {taken.pop()}: give it another name in tuned")
        places = list(self.origins.values())
        for i, (name, origin) in enumerate(self.origins.items()):
            if origin in places[:i]:
                raise ValueError(f"{name} is the same model as another one: every entry must be a model of its own")
        return self


def available() -> list[str]:
    """Names of the studies in ``studies/``."""
    return sorted(path.stem for path in paths.STUDIES.glob("*.yml"))


def load_study(name: str) -> Study | OwnModels:
    """Read and validate ``studies/<name>.yml``.

    Raises SettingsError with one sentence that names file, key and allowed values.
    """
    if name not in available():
        choice = ", ".join(available())
        raise SettingsError(f"study {shown_value(name)} does not exist: choose one of {choice} (files in studies/)")
    return read_study(paths.STUDIES / f"{name}.yml")


def as_published(study: Study | OwnModels) -> Study | OwnModels:
    """A study with the settings with which its published results were made. Raises SettingsError."""
    path = paths.published_root() / study.name / paths.SETTINGS
    return read_study(path, study.name) if path.exists() else study


def prediction_of(study: Study) -> Prediction | None:
    """What the ledger foretells of a study; nothing of results that were published with another training."""
    said = prediction(study.name)
    return said if said and study.training == load_study(study.name).training else None


def read_study(path: Path, published: str = "") -> Study | OwnModels:
    """Read and validate one study file, or the settings of the study ``published``. Raises SettingsError.

    The ``name`` in it must be the file's, or that study's. A ``kind`` or ``tuned`` makes it one of your own models.
    What was published before there was a ledger holds criteria, which are passed over.
    """
    name = published or path.stem
    values = read_yaml(path, "compare it with studies/organism.yml")
    if published and isinstance(values, dict):
        values.pop("claims", None)
    if isinstance(values, dict) and "claims" in values:
        raise SettingsError(f"{path.name}: the criteria of all studies are in claims.yml, so delete the key 'claims'")
    for section in ("bench", "released"):
        if isinstance(values, dict) and isinstance(values.get(section), dict):
            values = _of_another(path, values, section, name)
    own = isinstance(values, dict) and {"kind", "tuned"} & set(values)
    study = validate(OwnModels if own else Study, values, path.name)
    if study.name != name:
        raise SettingsError(f"{path.name}: name is {study.name!r} but must be the file's name, {name!r}")
    return study


def _of_another(path: Path, values: dict[str, Any], section: str, own: str) -> dict[str, Any]:
    """The settings of the study that one is of, with its own in their place. Raises SettingsError."""
    of = values[section].get("of")
    others = [name for name in available() if name != own]
    if of not in others:
        raise SettingsError(f"{path.name}: {section}.of is {shown_value(of)}; it must be one of {', '.join(others)}")
    taken = read_yaml(paths.STUDIES / f"{of}.yml", "compare it with studies/organism.yml")
    if not isinstance(taken, dict) or {*APART, "kind", "tuned"} & set(taken):
        raise SettingsError(
            f"{path.name}: {section}.of is {of!r}, which makes no models of its own: name one that does"
        )
    return {key: value for key, value in taken.items() if key != "note"} | values


def parse_seeds(seeds: str | int | list[int], study: Study | OwnModels) -> list[int]:
    """Seeds from text such as ``0,1`` or ``0 1``, or a number or a list; nothing means the study's own.

    The word ``published`` means those of the study's published results. Raises SettingsError.
    """
    if seeds == paths.PUBLISHED:
        if found := paths.published_seeds(study.name):
            return found
        raise SettingsError(f"study {study.name} has no published results: run it with `make book STUDY={study.name}`")
    words = seeds if isinstance(seeds, list) else str(seeds).replace(",", " ").split()
    valid = all(re.fullmatch("[0-9]{1,10}", str(word)) and int(word) < 2**31 for word in words)
    if not valid or len(set(map(int, words))) != len(words):
        raise SettingsError(
            f"seeds {shown_value(seeds)} must be distinct whole numbers from 0 to 2147483647, such as 0,1,2"
        )
    return [int(word) for word in words] or list(study.seeds)


def digest(*values: BaseModel | object) -> str:
    """Short hash of settings: two runs with the same digest were asked to do the same thing."""
    plain = [v.model_dump(mode="json") if isinstance(v, BaseModel) else v for v in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
