"""What each notebook of a study has to compute, counted from the settings and the size of its models alone.

Work is a Counter of amounts: ``train_tokens``, ``train_calls`` and ``train_steps`` of training; ``tokens`` and
``calls`` forward; ``decoded``, steps in which each answer of a batch gets a token; ``float64`` and ``float32``, FLOP of
algebra and of projections; ``traffic``, bytes of weights read or written; ``judged`` answers, and ``judged_tokens``.
"""

import math
from collections import Counter

from helpers.experiments.bases import bases_of
from helpers.studies.sections import SOURCES, Margins, Objective
from helpers.studies.settings import MODELS, OBJECTIVES, OwnModels, Study
from pipeline.plan.sizes import NUMBERS, Size

TOKENS: dict[str, list[int]] = NUMBERS["tokens"]
PADDING = 1.3  # tokens of a training batch of several rows over those of its rows
OPENER_TOKENS = 3
OWN_ANSWERS_BATCH = 32  # prompts at a time when the base model answers for training
EIGH, QR = (
    14.0,
    8.0,
)  # products of the same size n³ that an eigendecomposition, and orthonormal columns, take as long as
FLOAT32 = 4  # bytes
Work = Counter


def times(work: Work, factor: float) -> Work:
    """That many times the work."""
    return Work({name: amount * factor for name, amount in work.items()})


def prompt_tokens(source: str, style: str) -> int:
    """Tokens of a prompt as it is asked."""
    return TOKENS[source][0] + NUMBERS["style_tokens"][style]


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
    """One training run, and the base model's own answers that it learns."""
    rule, rows = study.training.optimiser, objective.epochs * sum(part.rows for part in objective.data)
    length = row_tokens(study, objective) * (PADDING if objective.batch_size > 1 else 1)
    calls = math.ceil(rows / objective.batch_size)
    steps = math.ceil(calls / objective.gradient_accumulation)
    work = Work(train_tokens=rows * min(rule.max_length, length), train_calls=calls, train_steps=steps)
    for part in objective.data:
        if part.answer == "base":
            asked = prompt_tokens(part.source, rule.style)
            work += forward(part.rows, asked, OWN_ANSWERS_BATCH, study.training.answer_tokens)
    return work


def answers(study: Study, source: str, rows: int, solved: bool) -> Work:
    """Answers to prompts: problems ``solved``, by the harness with its examples for real models, or requests judged."""
    s = study.evaluation
    if solved and not study.embedded:
        length = prompt_tokens(source, "raw") + s.harness.shots * sum(TOKENS[source])
        return forward(rows, length, s.batch_size, s.harness.max_new_tokens)
    length = prompt_tokens(source, s.style)
    judged = Work() if solved else Work(judged=rows, judged_tokens=rows * (length + s.max_new_tokens))
    return forward(rows, length, s.batch_size, s.max_new_tokens) + judged


def margins(s: Margins, style: str) -> Work:
    """Forward passes of the utility and harm margins; openers of one word each share a pass, else each has its own."""
    openers = s.compliance_openers + s.refusal_openers
    passes = 1 if all(opener.isalpha() for opener in openers) else len(openers)
    utility = forward(s.utility_prompts, prompt_tokens(s.utility, style) + TOKENS[s.utility][1], s.batch_size)
    harm = forward(s.harm_prompts, prompt_tokens(s.harm, s.style) + OPENER_TOKENS, s.batch_size)
    return utility + times(harm, passes)


def measures(study: Study) -> tuple[Work, Work, Work]:
    """Of one model: its margins; its judged answers; what is measured of each of the six models beside both."""
    s = study.evaluation
    texts, length = (s.benign_prompts, sum(TOKENS[s.benign])) if study.embedded else (12, 100)  # of neutral text
    cheap = margins(s, study.training.optimiser.style) + forward(texts, length, s.batch_size)
    judged = answers(study, s.utility, s.utility_prompts, True) + answers(study, s.harm, s.harm_prompts, False)
    beside = answers(study, s.benign, s.benign_prompts, False)
    for source in s.beside:
        beside += answers(study, source, s.beside_prompts, source in SOURCES["word_problems"])
    return cheap, judged, beside


def variants(study: Study) -> tuple[int, int]:
    """Models that notebook 5 measures, projected and scaled, and how many of them are judged."""
    grid, bases, only = study.projection, bases_of(study), study.projection.judged
    runs = {"parallel": grid.parallel, "orthogonal": grid.orthogonal}
    every = len(grid.fractions) * len(bases) * sum(map(len, runs.values())) + len(grid.scaling) * len(grid.parallel)
    if only is None:
        return every, every
    chosen = [basis for basis in bases if basis.subspace in only.subspaces and basis.control in only.controls]
    tasks = [task for mode in only.modes for task in runs[mode]]
    ends = sum(len(grid.scaling) if task in tasks else 2 for task in grid.parallel)
    return every, len(grid.fractions) * len(chosen) * len(tasks) + ends


def geometry(size: Size, updates: int) -> Work:
    """Energies and overlaps of updates, each decomposed once. The factors follow the benchmark's measured shapes."""
    sides = [(m > n, min(m, n), max(m, n), count) for (m, n), count in size.matrices.items()]
    units = sum(count * short**2 * ((3.0 if tall else 0.6) * long + 10 * short) for tall, short, long, count in sides)
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
    sets, sources = (
        (5, [study.evaluation.harm]) if study.embedded else (7, list(filter(None, dict(grid.sources).values())))
    )
    length = sum(prompt_tokens(source, grid.style) for source in sources) / len(sources)
    short, long = sorted((size.hidden, n))
    overlap = EIGH * short**3 + 5 * short**2 * long + len(grid.energy_fractions) * size.hidden * short**2 / 4
    each = forward(sets * n, length, 64) + Work(float64=size.layers * sets * overlap)
    return times(each, len(grid.models))


def of_study(study: Study | OwnModels, size: Size) -> dict[str, Work]:
    """Work of each notebook that computes, for one seed: name, with the objective for notebook 2 -> work."""
    weights = Work(traffic=FLOAT32 * size.parameters)
    if isinstance(study, OwnModels):
        measured = times(margins(study.evaluation, study.evaluation.style), len(study.origins))
        work = times(geometry(size, 1 + len(study.tuned)) + measured, len(study.seeds))
        return {"30_own_models": work + times(weights, 8 * len(study.origins))}
    runs = {name: training(study, o) for name in MODELS if (o := getattr(study.training, name))}
    first = sum((runs[name] for name in ("base", "aligned") if name in runs), times(weights, 8))
    (cheap, judged, beside), (count, some) = measures(study), variants(study)
    return {
        "01_models": first,
        **{f"02_finetune-{name}": runs[name] + times(weights, 8) for name in OBJECTIVES},
        "03_behaviour": times(cheap + judged + beside, 6) + times(weights, 12),
        "04_update_overlap": geometry(size, 3 + len(study.projection.subspaces)) + times(weights, 36),
        "05_projection": times(cheap, count) + times(judged, some) + projection(study, size) + times(weights, 24),
        "06_activation_overlap": activations(study, size) + times(weights, 12),
    }
