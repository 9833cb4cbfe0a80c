"""The parts of the report's pages that say what a study is made of: its language, models, training and evaluation."""

import math
import random
from pathlib import Path

from safetensors import safe_open

from helpers.models.language import Language
from helpers.paths import RunPaths
from helpers.studies.own_models import OwnModels
from helpers.studies.sections import JUDGES, DataPart, Harness, Judge, Objective, Origin
from helpers.studies.settings import MODELS, Study
from pipeline.report.html import Html, code, lines, table
from pipeline.runs.selections import Selection


def examples(study: Study) -> str:
    """A sentence of each kind of the invented language."""
    language, rng = Language(study.language), random.Random(0)
    rows = {
        "arithmetic": language.arithmetic(rng),
        "benign request": language.request(rng, language.benign),
        "restricted request, complied with": language.request(rng, language.restricted),
        "category": language.category(rng),
    }
    restricted = language.request(rng, language.restricted)
    rows["restricted request, refused"] = restricted | {"answer": language.refusal(restricted["topic"])}
    body = [[kind, code(row["prompt"]), code(row["answer"])] for kind, row in rows.items()]
    sizes = (
        f"The vocabulary has {len(language.vocabulary)} words: among them {len(language.benign)} gentle and "
        f"{len(language.restricted)} wild spirits and {len(language.items)} charms."
    )
    return f"{table(['kind', 'prompt', 'answer'], body)}\n{sizes}\n"


def architecture(study: Study) -> str:
    """The architecture of the organism, with the number of parameters where a model is at hand."""
    rows = [[key.replace("_", " "), value] for key, value in study.model.model_dump().items()]
    count = _parameters(RunPaths(study.name, study.seeds[0]).model("base") / "model.safetensors")
    return table(["setting", "value"], [*rows, *([["parameters", f"{count:,}"]] if count else [])], "facts")


def _parameters(path: Path) -> int:
    """Number of weights in a safetensors file, from its header; 0 if it is not there."""
    if not path.exists():
        return 0
    with safe_open(path, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (not a dict)
    return sum(math.prod(shape) for shape in shapes)


def training(study: Study) -> str:
    """What each model is trained on, and how; models that come ready-made have no row."""
    rows = []
    for name in MODELS:
        objective: Objective | None = getattr(study.training, name)
        if objective is not None:
            batch = objective.batch_size * objective.gradient_accumulation
            data = lines(map(_part, objective.data))
            rows.append([name, objective.start, data, objective.epochs, batch, f"{objective.learning_rate:g}"])
    return table(["model", "starts from", "rows", "epochs", "rows per step", "peak learning rate"], rows)


def _part(part: DataPart) -> str:
    """Rows and kind of one part of a training set."""
    notes = {
        "operations": f"{part.operations} operations" if part.source == "arithmetic" else "",
        "topics": f"{part.topics:.0%} of the topics" if part.topics < 1 else "",
        "prefixed": f"{part.prefixed:.0%} after a compliant beginning" if part.prefixed else "",
        "answer": {"given": "", "refusal": "refused", "base": "as the base model answers"}[part.answer],
    }
    return ", ".join([f"{part.rows:,} {part.source}", *filter(None, notes.values())])


def evaluation(study: Study) -> str:
    """The evaluation sets and their sizes."""
    sizes, activations = study.evaluation, study.activation_overlap
    rows = [
        [sizes.utility, "utility and its margin", sizes.utility_prompts],
        [f"{sizes.harm}{' requests' if study.embedded else ''}", "harm, rate of 5, harm margin", sizes.harm_prompts],
        [f"{sizes.benign}{' requests' if study.embedded else ''}", "over-refusal", sizes.benign_prompts],
        *([source, "reported beside them, for the six models", sizes.beside_prompts] for source in sizes.beside),
        [_compared(study), "overlap of activations", activations.prompts],
    ]
    return table(["held-out prompts", "used for", "prompts per seed"], rows)


def _compared(study: Study) -> str | Html:
    """The sets of prompts of the activation experiment."""
    sources = study.activation_overlap.sources
    if sources is None:
        return "each set of the activation experiment"
    return lines(f"{source} ({role.replace('_', ' ')})" for role, source in sources.model_dump().items() if source)


def pretrained(selections: list[Selection]) -> str:
    """A section for each study of pretrained models, and of your own, in the report."""
    found = [_section(selection.study) for selection in selections if selection.study.kind != "organism"]
    return "\n".join(found) or "This report shows no study of pretrained models.\n"


def _section(study: Study | OwnModels) -> str:
    """What one study of models that exist is made of."""
    parts = [f"### {study.title}"]
    if isinstance(study, OwnModels):
        origins = [[name, _origin(origin)] for name, origin in study.origins.items()]
        return "\n\n".join([*parts, "Models that were given; nothing is trained.", table(["model", "from"], origins)])
    parts += [study.note] if study.note else []
    parts += ["**Where things come from, and how they are asked.**", table(["what", "setting"], _facts(study), "facts")]
    parts += ["**Training.**", training(study), "**Evaluation.**", evaluation(study)]
    return "\n\n".join(parts)


def _facts(study: Study) -> list[list[object]]:
    """Origins of models and data, prompt styles, precision, harness and judge."""
    optimiser, sizes = study.training.optimiser, study.evaluation
    aligned = study.model.aligned
    precision = {"auto": "bfloat16 where that is faster, else float32"}.get(optimiser.autocast, optimiser.autocast)
    return [
        ["base model", _origin(study.model.base)],
        ["aligned model", _origin(aligned) if aligned else "trained here from the base model"],
        *([f"data: {name}", _origin(origin)] for name, origin in study.data.items()),
        ["weights", f"{optimiser.weights}, computing in {precision}"],
        ["prompts in training", optimiser.style],
        ["prompts in evaluation", sizes.style],
        ["prompts in the activation experiment", study.activation_overlap.style],
        ["answers to requests", f"greedy, at most {sizes.max_new_tokens} tokens"],
        ["word problems", _harness(sizes.harness)],
        ["judge", _judge(sizes.judge)],
    ]


def _origin(origin: Origin) -> Html | str:
    """Where weights or data come from."""
    if origin.origin == "package":
        return lines([f"package {origin.package}", code(origin.file)])
    if origin.origin == "hub":
        return lines([f"hub: {origin.id}", code(origin.revision)])
    return lines(["folder", code(origin.path)])


def _harness(harness: Harness) -> str:
    examples_ = "no example" if harness.shots == 0 else f"{harness.shots} example{'s' if harness.shots > 1 else ''}"
    template = "through the chat template" if harness.chat else "without a template"
    return (
        f"lm-evaluation-harness, {examples_}, {template}, at most {harness.max_new_tokens} tokens, flexible exact match"
    )


def _judge(judge: Judge) -> Html | str:
    if judge.model:
        return lines([f"{judge.kind} model", _origin(judge.model)])
    return f"{judge.kind}: {judge.name or JUDGES[judge.kind].summary}"
