"""Tables of the benchmark: from timings of shapes to whole models, to models of other sizes, and to the targets."""

import math
from pathlib import Path

import pandas as pd

from benchmarks.shapes import TASKS, Model, sampled
from benchmarks.workloads import CONTROLS, PROJECT, RELEASED, Workload
from helpers.evaluation.measures import MEASURES
from helpers.files import write_text
from pipeline.results import provenance, tables

SCHEMAS = {
    "waiting": {
        "what": "imports of a chapter's notebook, or a run of make book",
        "wall_seconds": "seconds by the clock",
        "cpu_seconds": "seconds of all processors of the machine meanwhile",
    },
    "notebooks": tables.SCHEMAS["cost_notebooks"],
    "devices": tables.SCHEMAS["cost_devices"],
    "grid": {
        "what": "the margins of one variant of the projection grid, or its answers to harmful prompts",
        "prompts": "prompts of each kind",
        "seconds": "CPU seconds, as the notebooks measure it",
        "unshared_seconds": "the same with every prompt computed from its first token on",
        "floor_seconds": "CPU seconds of bare passes over what differs between prompts, logits where they are needed",
        "ratio": "seconds / floor_seconds",
    },
    "shapes": {
        "rows": "rows m of the matrix",
        "columns": "columns n",
        "workload": "released or project",
        "decompositions": "full decompositions by the method as released",
        "released_seconds": "CPU seconds of the method as released, float32: pieces timed, multiplied by their number",
        "released64_seconds": "the same with float64 decompositions",
        "engine_seconds": "CPU seconds of the engine",
        "floor_seconds": "CPU seconds of the engine's products and decompositions alone",
        "cuda_seconds": "seconds of the engine on the CUDA device; empty where not measured",
        "released_peak_mib": "resident memory of one decomposition, MiB",
        "engine_peak_mib": "resident memory that the engine added, MiB",
        "energy_difference": "largest difference of energy kept to float64 full decompositions; empty if not compared",
        "mso_difference": "the same of MSO",
    },
    "models": {
        "model": "model",
        "workload": "released or project",
        "variants": "projected variants per matrix",
        "decompositions": "full decompositions per matrix by the method as released",
        "released_hours": "CPU hours of the method as released, float32",
        "released64_hours": "the same with float64 decompositions",
        "engine_hours": "CPU hours of the engine",
        "floor_hours": "CPU hours of its products and decompositions alone",
        "ratio": "released_hours / engine_hours",
        "ratio64": "released64_hours / engine_hours",
        "above_floor": "engine_hours / floor_hours",
        "in_place_hours": "CPU hours of making all variants in place, float32 (released workload only)",
        "ratio_in_place": "released_hours / (engine_hours + in_place_hours)",
    },
    "in_place": {
        "rows": "rows m of the matrix",
        "columns": "columns n",
        "all_fractions_seconds": "CPU seconds of five variants of one control in a live float32 model, UᵀD given",
        "with_coordinates_seconds": "the same with UᵀD",
        "product_seconds": "one full-rank product U (UᵀD), UᵀD given",
        "projection_seconds": "one full-rank projection, UᵀD included",
        "ratio": "all_fractions_seconds / product_seconds",
        "ratio_with_coordinates": "with_coordinates_seconds / projection_seconds",
    },
    "scaling": {
        "model": "model",
        "parameters": "numbers in its matrices",
        "workload": "released or project",
        "method": "released or engine",
        "device": "cpu (one core) or cuda",
        "source": "measured (shapes timed, counted), extrapolated (by s³ and s²l from timed shapes) or not measured",
        "hours": "hours",
        "memory_gib": "memory, GiB: three float16 checkpoints (released) or the bound of the engine",
        "disk_gib": "written to disk, GiB: a float16 checkpoint per variant (released) or the results (engine)",
    },
    "targets": {
        "quantity": "what is measured",
        "measured": "worst value over the measured models and shapes; empty where not measured in this run",
        "at_least": "the target",
        "aim": "the aim",
        "met": "target, aim or missed",
    },
    "default_study": {
        "setting": "setting of benchmarks/default_study.yml",
        "seed": "seed",
        "model": "model",
        "seconds": "CPU seconds of its training on one thread",
        **{name: MEASURES[name] for name in ("utility", "harm", "refusal", "over_refusal")},
        "harm_refused": "harm on topics that alignment has refused",
        "harm_attacked": "harm on topics that harmful fine-tuning answers and alignment has not seen",
        "harm_other": "harm on topics that neither has seen",
    },
    **{name: tables.SCHEMAS[name] for name in ("coverage", "decisions")},  # a chapter shows them as they are
}


def per_model(model: Model, workload: Workload, shapes: pd.DataFrame, column: str) -> float:
    """Seconds of a column of the table of shapes, for all matrices of a model."""
    timed = shapes[shapes.workload == workload.name].set_index(["rows", "columns"])[column]
    total = 0.0
    for shape, count in model.sizes.matrices.items():
        near, *far = sampled(model)[shape]
        value = timed[near]
        if far:
            slope = (timed[far[0]] - timed[near]) / (far[0][0] - near[0])
            value += slope * (shape[0] - near[0])
        total += count * value
    return total


def models_table(models: list[Model], shapes: pd.DataFrame, in_place: pd.DataFrame) -> pd.DataFrame:
    """Whole models from the timed shapes."""
    rows = []
    for model in models:
        for workload in (RELEASED, PROJECT):
            columns = ("released_seconds", "released64_seconds", "engine_seconds", "floor_seconds")
            released, released64, engine, floor = (per_model(model, workload, shapes, c) / 3600 for c in columns)
            live = math.nan
            if workload is RELEASED:
                live = per_model(model, workload, in_place.assign(workload="released"), "workload_seconds") / 3600
            ratios = (released / engine, released64 / engine, engine / floor, live, released / (engine + live))
            counts = (workload.variants, workload.decompositions)
            rows.append((model.name, workload.name, *counts, released, released64, engine, floor, *ratios))
    return pd.DataFrame(rows, columns=list(SCHEMAS["models"]))


def scaling_table(measured: list[Model], others: list[Model], shapes: pd.DataFrame) -> pd.DataFrame:
    """Hours, memory and disk over model size, from the shapes of the first measured model."""
    rows = []
    for model in (*measured, *others):
        for workload in (RELEASED, PROJECT):
            for method in ("released", "engine"):
                if model in measured:
                    source, time = "measured", per_model(model, workload, shapes, f"{method}_seconds")
                else:
                    source = "extrapolated"
                    time = _extrapolated(model, measured[0], workload, shapes, f"{method}_seconds")
                where = (model.name, model.parameters(), workload.name, method)
                sizes = (_memory(model, workload, method), _disk(model, workload, method))
                rows.append((*where, "cpu", source, time / 3600, *sizes))
                rows.append((*where, "cuda", "not measured", math.nan, *sizes))
    return pd.DataFrame(rows, columns=list(SCHEMAS["scaling"]))


def _extrapolated(model: Model, timed: Model, workload: Workload, shapes: pd.DataFrame, column: str) -> float:
    """Seconds of a model from t = α s³ + β s² l, fitted to two timed matrices, apart for wide and tall ones."""
    table = shapes[shapes.workload == workload.name].set_index(["rows", "columns"])[column]
    d, n = timed.sizes.hidden, timed.config["intermediate_size"]
    wide = _fit((d, d), (d, n), table)
    tall = _fit((n, d), (2 * n, d), table)
    total = 0.0
    for shape, count in model.sizes.matrices.items():
        s, long = min(shape), max(shape)
        alpha, beta = tall if shape[0] > shape[1] else wide
        total += count * (alpha * s**3 + beta * s**2 * long)
    return total


def _fit(first: tuple[int, int], second: tuple[int, int], table: pd.Series) -> tuple[float, float]:
    s = min(first)
    beta = (table[second] - table[first]) / (s**2 * (max(second) - max(first)))
    return table[first] / s**3 - beta * max(first) / s, beta


def _memory(model: Model, workload: Workload, method: str) -> float:
    if method == "released":
        return 3 * 2 * model.parameters() / 2**30
    u = len(workload.updates)
    squares = [min(m, n) ** 2 * (u * (u + 1) / 2 + 5 if m > n else 2 * u + 5) for m, n in model.sizes.matrices]
    return (8 * max(squares) + (2 * u + 1) * 24 * 2**20) / 2**30


def _disk(model: Model, workload: Workload, method: str) -> float:
    if method == "released":
        return workload.variants * 2 * model.parameters() / 2**30
    curves = len(workload.subspaces) * len(CONTROLS) * len(TASKS)
    return sum(8 * curves * min(shape) * count for shape, count in model.sizes.matrices.items()) / 2**30


def targets_table(shapes: pd.DataFrame, models: pd.DataFrame, in_place: pd.DataFrame, memory: float) -> pd.DataFrame:
    """The targets, with the worst measured value."""
    ratio = models.groupby("workload").ratio.min()
    large = in_place[in_place[["rows", "columns"]].min(axis=1) == in_place[["rows", "columns"]].min(axis=1).max()]
    entries = [
        ("CPU time of the released workload, released / engine", ratio["released"], 30, 100, 1),
        ("CPU time of this project's workload, released / engine", ratio["project"], 80, 300, 1),
        ("engine / floor", models.above_floor.max(), 1.5, 1.15, -1),
        ("largest difference of energy kept", shapes.energy_difference.max(), 1e-6, 1e-9, -1),
        ("largest difference of MSO", shapes.mso_difference.max(), 1e-6, 1e-9, -1),
        ("peak memory beyond the largest tensor in float64, Llama-2-7B shapes, GiB", memory, 4, 2, -1),
        ("five fractions in place / one full-rank product", large.ratio.max(), 2, 1.2, -1),
    ]
    rows = []
    for quantity, value, at_least, aim, sign in entries:
        met = "" if math.isnan(value) else "missed"
        for name, bound in (("target", at_least), ("aim", aim)):
            met = name if sign * value >= sign * bound else met
        rows.append((quantity, value, at_least, aim, met))
    return pd.DataFrame(rows, columns=list(SCHEMAS["targets"]))


def write(folder: Path, name: str, table: pd.DataFrame, facts: dict) -> None:
    """Save one table as CSV with its provenance and schema beside it."""
    path = folder / f"{name}.csv"
    table = table[list(SCHEMAS[name])]
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    provenance.record(path, {**facts, "schema": SCHEMAS[name]}, [])
