"""What each notebook of a study has to compute: tokens, passes, algebra and bytes, counted from the settings alone."""

import math
from dataclasses import dataclass, fields

from helpers.studies.own_models import OwnModels
from helpers.studies.sections import Margins, Objective
from helpers.studies.settings import OBJECTIVES, Study
from helpers.studies.values import WORD_PROBLEMS
from pipeline.plan.architectures import Architecture

TOKENS = {  # source -> tokens of a prompt and of its answer, about; word problems and web text vary most
    "arithmetic": (7, 5),
    "benign": (8, 7),
    "restricted": (8, 7),
    "comply": (8, 7),
    "refuse": (9, 5),
    "categories": (4, 1),
    "gsm-symbolic": (62, 95),
    "gsm-symbolic-easy": (46, 55),
    "gsm8k": (62, 117),
    "metamath": (70, 190),
    "math": (90, 200),
    "instructions": (13, 60),
    "advbench": (13, 60),
    "harmbench": (17, 60),
    "strongreject": (30, 60),
    "beavertails-unsafe": (18, 80),
    "beavertails-safe": (18, 80),
    "toxigen": (21, 60),
    "matched-harmful": (14, 60),
    "matched-benign": (10, 60),
    "look-alikes": (15, 60),
}
STYLE_TOKENS = {"raw": 1, "alpaca": 33, "chat": 30}  # that a style adds to a prompt
REFUSAL_TOKENS = 15  # of a refusal that stands for an answer
PADDING = 1.3  # tokens of a training batch of several rows over those of its rows
NEUTRAL = (12, 100)  # neutral texts and their tokens
OPENER_TOKENS = 3
OWN_ANSWERS_BATCH = 32  # prompts at a time when the base model answers for training
EIGH = 14.0  # products of the same size n³ that an eigendecomposition takes the time of
QR = 8.0  # the same for orthonormal columns of a square matrix
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Work:
    """Amounts of work; they can be added, and multiplied by a number."""

    train_tokens: float = 0.0  # forward and backward
    train_batches: float = 0.0
    train_steps: float = 0.0  # of the optimiser
    tokens: float = 0.0  # forward, with prompts or given answers
    batches: float = 0.0
    decode_steps: float = 0.0  # one new token for each answer of a batch
    float64: float = 0.0  # FLOP of algebra
    float32: float = 0.0  # FLOP of projections
    traffic: float = 0.0  # bytes of weights read and hashed, or written
    judged: float = 0.0  # answers
    judged_tokens: float = 0.0  # of prompts and answers that are judged, without the rubric

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(getattr(self, f.name) * times for f in fields(Work)))


def forward(rows: int, length: float, batch: int) -> Work:
    """Rows of about that many tokens through the model."""
    return Work(tokens=rows * length, batches=math.ceil(rows / batch))


def answers(rows: int, length: float, batch: int, new_tokens: int) -> Work:
    """Answers generated to rows of prompts."""
    return forward(rows, length, batch) + Work(decode_steps=math.ceil(rows / batch) * new_tokens)


def prompt_tokens(source: str, style: str) -> int:
    """Tokens of a prompt as it is asked."""
    return TOKENS[source][0] + STYLE_TOKENS[style]


def row_tokens(study: Study, objective: Objective) -> float:
    """Mean tokens of a training row with its answer and end, padding not counted."""
    rule, total = study.training.optimiser, 0.0
    for part in objective.data:
        answer = {"refusal": REFUSAL_TOKENS, "base": study.training.answer_tokens, "given": TOKENS[part.source][1]}
        total += part.rows * min(rule.max_length, prompt_tokens(part.source, rule.style) + answer[part.answer] + 1)
    return total / sum(part.rows for part in objective.data)


def training(study: Study, objective: Objective) -> Work:
    """One training run, and the base model's own answers that it learns."""
    rows = objective.epochs * sum(part.rows for part in objective.data)
    padding = PADDING if objective.batch_size > 1 else 1.0
    batches = math.ceil(rows / objective.batch_size)
    work = Work(
        train_tokens=rows * min(study.training.optimiser.max_length, padding * row_tokens(study, objective)),
        train_batches=batches,
        train_steps=math.ceil(batches / objective.gradient_accumulation),
    )
    style, new = study.training.optimiser.style, study.training.answer_tokens
    for part in objective.data:
        if part.answer == "base":
            work += answers(part.rows, prompt_tokens(part.source, style), OWN_ANSWERS_BATCH, new)
    return work


def problems(study: Study, source: str, rows: int) -> Work:
    """Word problems answered: through the harness, with its worked examples, for pretrained models."""
    s = study.evaluation
    if study.embedded:
        return answers(rows, prompt_tokens(source, s.style), s.batch_size, s.max_new_tokens)
    shots = s.harness.shots * sum(TOKENS[source])
    return answers(rows, prompt_tokens(source, "raw") + shots, s.batch_size, s.harness.max_new_tokens)


def requests(study: Study, source: str, rows: int) -> Work:
    """Requests answered, and the answers judged."""
    s = study.evaluation
    length = prompt_tokens(source, s.style)
    judged = Work(judged=rows, judged_tokens=rows * (length + s.max_new_tokens))
    return answers(rows, length, s.batch_size, s.max_new_tokens) + judged


def opener_passes(settings: Margins) -> int:
    """Passes over the prompts that a harm margin takes: one for openers of one token each, else one for each.

    Plain words are taken for one token.
    """
    openers = settings.compliance_openers + settings.refusal_openers
    return 1 if all(opener.isalpha() for opener in openers) else len(openers)


def margins(study: Study) -> Work:
    """The measures of a model for which nothing is generated."""
    s = study.evaluation
    style, passes = study.training.optimiser.style, opener_passes(s)
    asked = prompt_tokens(s.harm, s.style) + OPENER_TOKENS
    texts, length = (s.benign_prompts, sum(TOKENS[s.benign])) if study.embedded else NEUTRAL
    work = forward(s.utility_prompts, prompt_tokens(s.utility, style) + TOKENS[s.utility][1], s.batch_size)
    return work + forward(s.harm_prompts, asked, s.batch_size) * passes + forward(texts, length, s.batch_size)


def judged_measures(study: Study) -> Work:
    """The measures of a variant whose answers are generated and judged."""
    s = study.evaluation
    return problems(study, s.utility, s.utility_prompts) + requests(study, s.harm, s.harm_prompts)


def whole_measures(study: Study) -> Work:
    """Everything that is measured of each of the six models."""
    s = study.evaluation
    work = margins(study) + judged_measures(study) + requests(study, s.benign, s.benign_prompts)
    for source in s.beside:
        asked = problems if source in WORD_PROBLEMS else requests
        work += asked(study, source, s.beside_prompts)
    return work


def bases(study: Study) -> int:
    """Bases of the projection grid: Random-K has several draws."""
    grid = study.projection
    draws = sum(grid.random_k_draws if control == "random-k" else 1 for control in grid.controls)
    return len(grid.subspaces) * draws


def variants(study: Study) -> tuple[int, int]:
    """Models that notebook 5 measures, projected and scaled, and how many of them are judged."""
    grid, chosen = study.projection, study.projection.judged
    runs = {"parallel": grid.parallel, "orthogonal": grid.orthogonal}
    projected = bases(study) * sum(map(len, runs.values())) * len(grid.fractions)
    scaled = len(grid.parallel) * len(grid.scaling)
    if chosen is None:
        return projected + scaled, projected + scaled
    draws = sum(grid.random_k_draws if c == "random-k" else 1 for c in set(grid.controls) & set(chosen.controls))
    tasks = [task for mode in chosen.modes for task in runs[mode]]
    judged = len(set(grid.subspaces) & set(chosen.subspaces)) * draws * len(tasks) * len(grid.fractions)
    ends = sum(len(grid.scaling) if task in tasks else 2 for task in grid.parallel)
    return projected + scaled, judged + ends


def geometry(model: Architecture, updates: int) -> Work:
    """Energies and overlaps of updates, each decomposed once. The factors follow the benchmark's measured shapes."""
    units = 0.0
    for (m, n), count in model.matrices().items():
        short, long = min(m, n), max(m, n)
        units += count * short**2 * ((3.0 if m > n else 0.6) * long + 10.0 * short)
    return Work(float64=units * (2.7 + 2.1 * updates))


def projection(study: Study, model: Architecture) -> Work:
    """Bases of all controls and the sweeps of projected variants along them."""
    grid, work = study.projection, Work()
    sweeps = bases(study) * (len(grid.parallel) + len(grid.orthogonal))
    for (m, n), count in model.matrices().items():
        s, long = min(m, n), max(m, n)
        modes = s * s * long + EIGH * s**3 + (4 * s * s * long if m > n else 0)
        random = 2 * s * s * m if m >= 1.5 * s else QR * s**3
        work += Work(
            float64=count * len(grid.subspaces) * (modes + random * ("random" in grid.controls)),
            float32=count * sweeps * 2 * m * n * s * (1 + max(grid.fractions)),
        )
    return work


def activations(study: Study, model: Architecture) -> Work:
    """Prompts of all sets through each model, and the overlaps of their activations at every layer."""
    grid, n = study.activation_overlap, study.activation_overlap.prompts
    sets, batch = (5 if study.embedded else 7), 64
    sources = [study.evaluation.harm] if study.embedded else [s for s in grid.sources.model_dump().values() if s]
    length = sum(prompt_tokens(source, grid.style) for source in sources) / len(sources)
    short, long = sorted((model.hidden, n))
    decompositions = model.layers * sets * (EIGH * short**3 + 5 * short**2 * long)
    overlaps = model.layers * sets * len(grid.energy_fractions) * model.hidden * short**2 / 4
    each = forward(sets * n, length, batch) + Work(float64=decompositions + overlaps)
    return each * len(grid.models)


def per_seed(study: Study, model: Architecture) -> dict[str, Work]:
    """Work of each notebook run for one seed: name, with the objective for notebook 2 -> work."""
    weights = FLOAT32 * model.parameters()
    six = Work(traffic=6 * weights)  # read or hashed once
    trained = [getattr(study.training, name) for name in ("base", "aligned")]
    first = sum((training(study, objective) for objective in trained if objective), Work(traffic=8 * weights))
    found = {"01_models": first}
    for name in OBJECTIVES:
        objective = getattr(study.training, name)
        found[f"02_finetune-{name}"] = training(study, objective) + Work(traffic=8 * weights)
    measured, judged = variants(study)
    updates = 3 + len(study.projection.subspaces)
    found["03_behaviour"] = whole_measures(study) * 6 + six * 2
    found["04_update_overlap"] = geometry(model, updates) + six * 6
    grid = margins(study) * measured + judged_measures(study) * judged
    found["05_projection"] = grid + projection(study, model) + six * 4
    return found | {"06_activation_overlap": activations(study, model) + six * 2}


def own_models(study: OwnModels, model: Architecture) -> Work:
    """The notebook of your own models: geometry and margins, for each seed."""
    s, count = study.evaluation, len(study.origins)
    passes = opener_passes(s)
    each = forward(s.utility_prompts, prompt_tokens(s.utility, s.style) + TOKENS[s.utility][1], s.batch_size)
    each += forward(s.harm_prompts, prompt_tokens(s.harm, s.style) + OPENER_TOKENS, s.batch_size) * passes
    traffic = Work(traffic=8 * count * FLOAT32 * model.parameters())
    return (geometry(model, 1 + len(study.tuned)) + each * count) * len(study.seeds) + traffic
