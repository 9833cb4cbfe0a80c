"""What each notebook of a study has to compute for one seed."""

from helpers.experiments.bases import GATED, only_strict
from helpers.studies.sections import Objective
from helpers.studies.settings import OwnModels, Study, digest
from helpers.studies.values import EDITS, TRAININGS
from pipeline.plan.sizes import Size
from pipeline.plan.work import (
    FLOAT32,
    TOKENS,
    Work,
    activations,
    answers,
    forward,
    geometry,
    margins,
    measures,
    neutral,
    objectives,
    projection,
    prompt_tokens,
    times,
    training,
    variants,
)

SHARES = 3  # of a subspace's directions that are removed, at most
GROUPS = 11  # of tensors in which a labelled subspace is kept and removed: module types, and thirds of the blocks
FIRST_WORDS = 8  # of harmless answers, whose divergence is taken


def of_study(study: Study | OwnModels, size: Size) -> dict[str, Work]:
    """Work of each notebook that computes, for one seed: name, with the objective for notebook 2 -> work."""
    weights = Work(traffic=FLOAT32 * size.parameters)
    if isinstance(study, OwnModels):
        measured = times(margins(study.evaluation, study.evaluation.style), len(study.origins))
        work = times(geometry(size, 1 + len(study.tuned)) + measured, len(study.seeds))
        return {"30_own_models": work + times(weights, 8 * len(study.origins))}
    if study.conditions and not study.embedded:
        return {"09_conditions": sweep(study, size)}
    if study.bench and not study.embedded:
        return bench(study, size)
    if study.apart:  # whose notebooks are timed as a whole
        return {}
    runs = {name: training(study, objective) for name, objective in objectives(study).items()}
    (cheap, judged, beside), (count, some) = measures(study), variants(study)
    return {
        "01_models": sum((runs[name] for name in ("base", "aligned") if name in runs), times(weights, 8)),
        **{f"02_finetune-{name}": runs[name] + times(weights, 8) for name in study.objectives},
        "03_behaviour": times(cheap + judged + beside, len(study.models)) + times(weights, 12),
        "04_update_overlap": geometry(size, 3 + len(study.projection.subspaces)) + times(weights, 36),
        "05_projection": times(cheap, count) + times(judged, some) + projection(study, size) + times(weights, 24),
        "06_activation_overlap": activations(study, size) + times(weights, 12),
    }


def sweep(study: Study, size: Size) -> Work:
    """Of dials turned on real models: every training once, and at each place what the strict statistics read."""
    places = {digest(place.changes): place.changes for dial in study.conditions for place in dial.places}
    trained, total = {}, Work()
    for changes in places.values():
        changed = only_strict(study.changed(changes))
        found = of_study(changed, size)
        trained |= {digest(name, one): found[f"02_finetune-{name}"] for name, one in _tuned(changed).items()}
        total += found["04_update_overlap"] + found["05_projection"] + found["06_activation_overlap"]
        total += times(found["03_behaviour"], len(GATED) / len(changed.models))
    return sum(trained.values(), total + found["01_models"])


def _tuned(study: Study) -> dict[str, Objective]:
    return {name: one for name, one in objectives(study).items() if name in study.objectives}


def of_point(study: Study) -> tuple[Work, Work, Work]:
    """Of one model on the bench: its margins, right answers to problems, and all else that the bench asks."""
    s, style = study.evaluation, study.training.optimiser.style
    cheap, judged, beside = measures(study.model_copy(update={"evaluation": s.model_copy(update={"beside": []})}))
    solved = answers(study, s.utility, s.utility_prompts, True)
    words = forward(s.benign_prompts, prompt_tokens(s.benign, s.style) + FIRST_WORDS, s.batch_size)
    if other := study.bench.second_utility:
        words += forward(s.utility_prompts, prompt_tokens(other, style) + TOKENS[other][1], s.batch_size)
    return cheap - neutral(study), solved, judged - solved + beside + neutral(study) + words


def bench(study: Study, size: Size) -> dict[str, Work]:
    """Work of the notebooks of a bench: every place of every dial by margins, one of each with answers, or trained."""
    asked, (cheap, solved, rest) = study.bench, of_point(study)
    harm = answers(study, study.evaluation.harm, study.evaluation.harm_prompts, False)
    edits, subspaces, trainings = map(asked.with_nulls, (asked.edits, asked.subspaces, asked.during_training))
    edited, trained, decided = (
        sum(len(methods[name].facts.get("dials", [1])) for name in names)
        for methods, names in ((EDITS, edits), (TRAININGS, trainings), (TRAININGS, asked.during_training))
    )
    methods, curve = len(asked.edits) + len(asked.subspaces), len(study.projection.scaling)
    kept = 2 * len(asked.compared)  # and removed
    return {
        "24_bench": times(cheap, curve + edited + SHARES * len(subspaces))
        + times(solved, curve + len(edits) + len(subspaces))
        + times(rest, curve + methods)
        + geometry(size, len(subspaces)),
        "26_during_training": times(cheap + solved + training(study, study.training.contaminated), trained)
        + times(rest, decided)
        + geometry(size, 1),
        "34_labelled": times(cheap + harm, kept * SHARES + curve)
        + times(cheap, kept * GROUPS)
        + geometry(size, len(asked.compared)),
    }
