"""What the parts of a study have to compute and to hold, counted from the settings and the size of its models alone.

Work is a Counter of amounts: ``train_tokens``, ``train_calls`` and ``train_steps`` of training; ``tokens`` and
``calls`` forward; ``decoded``, steps in which each answer of a batch gets a token; ``float64`` and ``float32``, FLOP of
algebra and of projections; ``traffic``, bytes of weights read or written; ``judged`` answers, and ``judged_tokens``.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from helpers.experiments.bases import Basis, bases_of, curve_is_judged, is_judged
from helpers.studies.measurements import Margins
from helpers.studies.sections import Objective
from helpers.studies.settings import OwnModels, Study
from helpers.studies.values import SOURCES
from pipeline.plan.sizes import NUMBERS, Size

TOKENS: dict[str, list[int]] = NUMBERS["tokens"]
PADDING = 1.3  # tokens of a training batch of several rows over those of its rows
SORTED = 1.1  # the same where rows of similar length go together
BEGINNING = 0.75  # of what a style adds to a prompt: the part before it, which is computed once
OPENER_TOKENS = 3
OWN_ANSWERS_BATCH = 32  # prompts at a time when the base model answers for training
EIGH, QR = 14.0, 8.0  # an eigendecomposition, and orthonormal columns, in products of the same size n³
BFLOAT16, FLOAT32, FLOAT64 = 2, 4, 8  # bytes
PROCESS = 0.9e9  # bytes that a notebook with torch takes before it loads anything
VALUES = (24, 8)  # numbers kept for the backward pass of a token and layer, in hidden and in inner sizes
Work = Counter


def times(work: Work, factor: float) -> Work:
    """That many times the work."""
    return Work({name: amount * factor for name, amount in work.items()})


def seconds(work: Work, rates: Mapping[str, float]) -> float:
    """Time of an amount of work, by the seconds that each unit takes; a unit without takes none."""
    return sum(amount * rates.get(unit, 0) for unit, amount in work.items())


def prompt_tokens(source: str, style: str) -> int:
    """Tokens of a prompt as it is asked."""
    return TOKENS[source][0] + NUMBERS["style_tokens"][style.split()[0]]


def begun(study: Study | OwnModels, style: str) -> float:
    """Tokens that all prompts begin with, which go through a model once: of a template, not of the language."""
    return 0.0 if study.embedded else BEGINNING * NUMBERS["style_tokens"][style.split()[0]]


def objectives(study: Study) -> dict[str, Objective]:
    """The training runs of a study, by the model that each makes."""
    return {name: objective for name in study.models if (objective := getattr(study.training, name)) is not None}


def row_tokens(study: Study, objective: Objective) -> float:
    """Mean tokens of a training row with its answer and end, padding not counted."""
    rule, total = study.training.optimiser, 0.0
    given = {"refusal": NUMBERS["refusal_tokens"], "base": study.training.answer_tokens}
    for part in objective.data:
        answer = given.get(part.answer, TOKENS[part.source][1])
        total += part.rows * min(rule.max_length, prompt_tokens(part.source, rule.style) + answer + 1)
    return total / sum(part.rows for part in objective.data)


def forward(rows: int, length: float, batch: int, new_tokens: int = 0) -> Work:
    """Rows of about that many tokens through the model, and answers generated to them."""
    calls = math.ceil(rows / batch)
    return Work(tokens=rows * length, calls=calls, decoded=calls * new_tokens)


def training(study: Study, objective: Objective) -> Work:
    """One training run, and the base model's own answers that it learns.

    Where answers are preferred, two of each prompt go through the model, and once more at the beginning.
    """
    rule, once = study.training.optimiser, sum(part.rows for part in objective.data)
    answers, asks = (2, ("base", "refusal")) if objective.dpo else (1, ("base",))
    length, whole = row_tokens(study, objective), study.embedded or objective.dpo
    if objective.batch_size > 1:
        length = length * PADDING if whole else (length - begun(study, rule.style)) * SORTED
    length = min(rule.max_length, length)
    calls = math.ceil(objective.epochs * once / objective.batch_size)
    steps = math.ceil(calls / objective.gradient_accumulation)
    work = Work(train_tokens=answers * objective.epochs * once * length, train_calls=calls, train_steps=steps)
    if objective.dpo:
        work += forward(answers * once, length, answers * objective.batch_size)
    for part in objective.data:
        if part.answer in asks:
            asked = prompt_tokens(part.source, rule.style)
            work += forward(part.rows, asked, OWN_ANSWERS_BATCH, study.training.answer_tokens)
    return work


def answers(study: Study, source: str, rows: int, solved: bool) -> Work:
    """Answers to prompts: problems ``solved``, by the harness with its examples for real models, or requests judged."""
    s = study.evaluation
    if solved and not study.embedded:
        length = prompt_tokens(source, "raw") + s.harness.shots * sum(TOKENS[source])
        return forward(rows, length, s.batch_size, s.harness.max_new_tokens)
    length = prompt_tokens(source, s.style) - begun(study, s.style)
    judged = Work() if solved else Work(judged=rows, judged_tokens=rows * (length + s.max_new_tokens))
    return forward(rows, length, s.batch_size, s.max_new_tokens) + judged


def margins(s: Margins, style: str) -> Work:
    """Forward passes of the utility and harm margins; openers of one word each share a pass, else each has its own."""
    openers = s.compliance_openers + s.refusal_openers
    passes = 1 if all(opener.isalpha() for opener in openers) else len(openers)
    utility = forward(s.utility_prompts, prompt_tokens(s.utility, style) + TOKENS[s.utility][1], s.batch_size)
    return utility + times(
        forward(s.harm_prompts, prompt_tokens(s.harm, s.style) + OPENER_TOKENS, s.batch_size), passes
    )


def measures(study: Study) -> tuple[Work, Work, Work]:
    """Of one model: its margins; its judged answers; what is measured of each of the six models beside both."""
    s, taught = study.evaluation, study.training.optimiser.style
    cheap = margins(s, taught) + neutral(study)
    cheap["tokens"] -= begun(study, taught) * s.utility_prompts + begun(study, s.style) * s.harm_prompts
    judged = answers(study, s.utility, s.utility_prompts, True) + answers(study, s.harm, s.harm_prompts, False)
    beside = answers(study, s.benign, s.benign_prompts, False)
    for source in s.beside:
        beside += answers(study, source, s.beside_prompts, source in SOURCES["word_problems"])
    return cheap, judged, beside


def neutral(study: Study) -> Work:
    """The pass over neutral text, of which the perplexity is taken."""
    s = study.evaluation
    texts, length = (s.benign_prompts, sum(TOKENS[s.benign])) if study.embedded else (12, 100)
    return forward(texts, length, s.batch_size)


def variants(study: Study) -> tuple[int, int]:
    """Models that notebook 5 measures, and how many of them are judged; an edit has about as many as a projection."""
    grid, places = study.projection, len(study.projection.fractions)
    bases = [basis for basis in bases_of(study) if isinstance(basis, Basis)]
    runs = [("parallel", task) for task in grid.parallel] + [("orthogonal", task) for task in grid.orthogonal]
    edited, judged = places * len(grid.edits) * len(grid.orthogonal), product(runs, bases)
    curves = sum(len(grid.scaling) if curve_is_judged(study, task) else 2 for task in grid.parallel)
    every = places * len(bases) * len(runs) + edited + len(grid.scaling) * len(grid.parallel)
    return every, places * sum(is_judged(study, *run, basis) for run, basis in judged) + edited + curves


def geometry(size: Size, updates: int) -> Work:
    """Energies and overlaps of updates, each decomposed once. The factors follow the benchmark's measured shapes."""
    units = 0.0
    for (m, n), count in size.matrices.items():
        units += count * min(m, n) ** 2 * ((3.0 if m > n else 0.6) * max(m, n) + 10 * min(m, n))
    return Work(float64=units * (2.7 + 2.1 * updates))


def projection(study: Study, size: Size) -> Work:
    """Bases of all controls and the sweeps of projected variants along them."""
    grid, work = study.projection, Work()
    sweeps = len(bases_of(study)) * (len(grid.parallel) + len(grid.orthogonal))
    for (m, n), count in size.matrices.items():
        s, long = min(m, n), max(m, n)
        modes = s * s * long + EIGH * s**3 + (4 * s * s * long if m > n else 0)
        random = 2 * s * s * m if m >= 1.5 * s else QR * s**3
        work["float64"] += count * len(grid.subspaces) * (modes + random * ("random" in grid.controls))
        work["float32"] += count * sweeps * 2 * m * n * s * (1 + max(grid.fractions))
    return work


def activations(study: Study, size: Size) -> Work:
    """Prompts of all sets through each model, and the overlaps of their activations at every layer."""
    grid, n = study.activation_overlap, study.activation_overlap.prompts
    given = [source for source in dict(grid.sources).values() if source] if grid.sources else []
    sets, sources = (5, [study.evaluation.harm]) if study.embedded else (7, given)
    length = sum(prompt_tokens(source, grid.style) for source in sources) / len(sources)
    short, long = sorted((size.hidden, n))
    overlap = EIGH * short**3 + 5 * short**2 * long + len(grid.energy_fractions) * size.hidden * short**2 / 4
    each = forward(sets * n, length, 64) + Work(float64=size.layers * sets * overlap)
    return times(each, len(grid.models))


@dataclass(frozen=True)
class Needs:
    """Bytes that one process, or one seed, takes at its peak."""

    disk_shared: float  # converted, or kept of a training that goes on, once for all seeds
    disk_seed: float
    training: float  # weights, gradients, AdamW's states and activations
    evaluation: float  # weights, activations and the keys and values of generation
    projection: float  # main memory for the bases of the subspaces, or the geometry of your own models


def needs(study: Study | OwnModels, size: Size) -> Needs:
    """Memory and disk of a study: the six models are kept in float32 for every seed; your own stay where they are."""
    each = FLOAT32 * size.parameters
    if isinstance(study, OwnModels):
        updates, short = 1 + len(study.tuned), max(map(min, size.matrices))
        products = FLOAT64 * short**2 * (updates * (updates + 1) / 2 + 5)
        memory = {"training": 0.0, "evaluation": evaluation_memory(study, size), "projection": products + PROCESS}
        return Needs(disk_shared=0.0, disk_seed=1e7, **memory)
    converted = each if study.model.kind == "pretrained" and study.model.base.origin == "package" else 0
    checkpoint = 3 * each if study.training.optimiser.checkpoint_steps else 0  # weights and AdamW's states
    basis = FLOAT64 * sum(count * m * min(m, n) for (m, n), count in size.matrices.items())
    made = study.models if study.models_of == study.name else ()  # a bench measures another study's
    return Needs(
        disk_shared=converted + checkpoint,
        disk_seed=(len(made) + sum(bool(p.changes) for dial in study.conditions for p in dial.places)) * each,
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
    runs = objectives(study).values()
    tokens = max(run.batch_size * min(rule.max_length, 1.5 * row_tokens(study, run)) for run in runs)
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
