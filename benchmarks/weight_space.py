"""The weight-space engine beside the method as released, on the same tensors in one process.

    python -m benchmarks.weight_space            # about 12 minutes on an idle core
    python -m benchmarks.weight_space --quick    # shapes divided by 8, about 30 seconds: it runs, but says little

Writes tables to ``results/bench`` (``results/bench-quick``) and prints them.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks import shapes as catalogue
from benchmarks import tables
from benchmarks.measure import cost
from benchmarks.sweeps import run_sweep
from benchmarks.workloads import (
    CONTROLS,
    ETAS,
    PROJECT,
    RELEASED,
    SEED,
    floor,
    kernels,
    largest_differences,
    run_engine,
    run_released,
)
from helpers import paths
from helpers.weights.checkpoints import Updates
from helpers.weights.geometry import weight_geometry

COMPARED = 14 * 10**6  # numbers of a matrix up to which results are compared with float64 full decompositions
MEMORY_SHAPE = (11008, 4096)  # of Llama-2-7B; its memory is that of every taller matrix of 4096 columns
LARGEST_TENSOR_GIB = 32000 * 4096 * 8 / 2**30  # of Llama-2-7B, in float64


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="shapes divided by 8")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--memory", action="store_true", help="only print the engine's peak memory, in MiB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(memory_of_engine())
        return
    start = time.perf_counter()
    models = [catalogue.reduced(m, 8) if options.quick else m for m in catalogue.MEASURED]
    out = options.out or paths.results_root() / ("bench-quick" if options.quick else "bench")
    found = measure(models)
    memory = math.nan if options.quick else _memory_in_child() / 1024 - LARGEST_TENSOR_GIB
    report(models, *found, memory, out, {"quick": options.quick}, start)


def measure(models: list[catalogue.Model]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time every distinct shape."""
    rows, sweeps = [], []
    every = dict.fromkeys(s for model in models for several in catalogue.sampled(model).values() for s in several)
    for shape in every:
        with tempfile.TemporaryDirectory() as folder:
            updates = catalogue.synthetic_updates(Path(folder), shape)
            released, timed = run_released(updates), kernels(updates)
            for workload in (RELEASED, PROJECT):
                rows.append(_row(shape, updates, released, timed, workload))
                print(f"{shape[0]} x {shape[1]}, {workload.name} workload: " + _said(rows[-1]), flush=True)
            sweeps.append((*shape, run_sweep(updates)))
    return pd.DataFrame(rows), _sweeps_table(sweeps)


def _row(shape: tuple[int, int], updates: Updates, released, timed: dict[str, float], workload) -> dict:
    engine = run_engine(updates, workload)
    compared = workload is PROJECT and shape[0] * shape[1] <= COMPARED
    energy, mso = largest_differences(updates, engine.result) if compared else (math.nan, math.nan)
    return {
        "rows": shape[0],
        "columns": shape[1],
        "workload": workload.name,
        "decompositions": workload.decompositions,
        "released_seconds": released.seconds(workload),
        "released64_seconds": released.seconds(workload, "float64"),
        "engine_seconds": engine.seconds,
        "floor_seconds": floor(timed, workload, shape[0] > shape[1]),
        "cuda_seconds": _cuda_seconds(updates, workload),
        "released_peak_mib": released.decomposition.peak,
        "engine_peak_mib": engine.peak,
        "energy_difference": energy,
        "mso_difference": mso,
    }


def _said(row: dict) -> str:
    ratio = row["released_seconds"] / row["engine_seconds"]
    return (
        f"as released {row['released_seconds']:.0f} s, engine {row['engine_seconds']:.2f} s ({ratio:.0f} x less), "
        f"floor {row['floor_seconds']:.2f} s, differences {row['energy_difference']:.1e} {row['mso_difference']:.1e}"
    )


def _cuda_seconds(updates: Updates, workload) -> float:
    """Seconds of the engine on the CUDA device after one run to warm up; NaN without a device."""
    if not torch.cuda.is_available():
        return math.nan
    chosen = {label: updates[label] for label in workload.updates}
    for _ in range(2):
        start = time.perf_counter()
        weight_geometry(
            chosen,
            workload.subspaces,
            catalogue.TASKS,
            CONTROLS,
            ETAS,
            workload.random_k_draws,
            SEED,
            device="cuda",
            pairs=workload.pairs,
        )
    return time.perf_counter() - start


def _sweeps_table(sweeps: list) -> pd.DataFrame:
    rows = [
        {
            "rows": m,
            "columns": n,
            "all_fractions_seconds": s.all_fractions,
            "with_coordinates_seconds": s.with_coordinates,
            "product_seconds": s.product,
            "projection_seconds": s.projection,
            "ratio": s.all_fractions / s.product,
            "ratio_with_coordinates": s.with_coordinates / s.projection,
            "workload_seconds": s.released_workload,
        }
        for m, n, s in sweeps
    ]
    return pd.DataFrame(rows)


def memory_of_engine() -> float:
    """MiB of resident memory that the engine adds for this project's workload on a matrix of Llama-2-7B."""
    with tempfile.TemporaryDirectory() as folder:
        updates = catalogue.synthetic_updates(Path(folder), MEMORY_SHAPE)
        return cost(lambda: run_engine(updates, PROJECT)).peak


def _memory_in_child() -> float:
    print(f"peak memory of the engine on a {MEMORY_SHAPE[0]} x {MEMORY_SHAPE[1]} matrix, about 3 minutes", flush=True)
    command = [sys.executable, "-m", "benchmarks.weight_space", "--memory"]
    return float(subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout)


def report(models: list, shapes: pd.DataFrame, in_place: pd.DataFrame, memory: float, out: Path, facts: dict, start):
    """Print and save every table."""
    made = {
        "shapes": shapes,
        "models": tables.models_table(models, shapes, in_place),
        "in_place": in_place,
        "scaling": tables.scaling_table(models, [] if facts["quick"] else catalogue.EXTRAPOLATED, shapes),
    }
    made["targets"] = tables.targets_table(shapes, made["models"], in_place, memory)
    facts = {**facts, "study": "bench", "workloads": {w.name: vars(w) for w in (RELEASED, PROJECT)}}
    for name, table in made.items():
        tables.write(out / "tables", name, table, facts | {"seconds": time.perf_counter() - start})
        print(f"\n{name}\n{table[list(tables.SCHEMAS[name])].to_string(index=False, float_format='%.4g')}")
    print(f"\nwritten to {out}, {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
