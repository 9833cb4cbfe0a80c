"""What each notebook asks of a scheduler: memory, GPUs and minutes, from the settings alone.

Nothing is measured or built here, and torch is not imported, because every job of a workflow begins with this. The
figures are generous: a scheduler stops what takes more than it asked for. What a study takes on this machine is said by
``pipeline.plan.plan``.
"""

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from helpers.studies.settings import OwnModels, Study
from pipeline.plan import work as counting
from pipeline.plan.needs import FLOAT32, PROCESS, needs
from pipeline.plan.sizes import NUMBERS, Size, config_of_study, near
from pipeline.plan.work import Work, times
from pipeline.runs.parts import parts_of
from pipeline.runs.stages import PER_SEED, STAGES

DIVIDE = "SUBSPACES_DIVIDE"
GPU_FROM = 300e6  # parameters from which a notebook that runs a model asks for a GPU, and more than one thread
THREADS = 8  # of such a notebook
CORE, GPU = 4e9, 4e12  # operations a second, of one slow core and of a GPU at small batches
CALL = 0.03  # seconds of one pass, however small
MARGIN = 3  # times over the estimate
LEAST = 15  # minutes that every notebook asks for
SMALL, SPARE = 2000, 1.3  # megabytes of a notebook without models, and times over the estimate with them
TYPICAL = "meta-llama/Llama-3.2-1B"  # stands for a model whose size cannot be told yet


@dataclass(frozen=True)
class Demand:
    """What one notebook asks for."""

    mem_mb: int
    gpu: int
    runtime: int  # minutes
    threads: int = 1  # more than one slows down processes that share cores

    @property
    def nodes(self) -> int:
        """Machines that its GPUs may be spread over: one; 0, so any, without GPUs."""
        return int(self.gpu > 0)


def demand(notebook: str, study: Study | OwnModels, objective: str = "", share: float = 1.0) -> Demand:
    """Memory, GPUs, minutes and threads of one notebook of a study; ``objective`` is that of notebook 2.

    ``share`` is how much of its work the job does: 1 / parts for one of its parts, 0 for gathering them.
    """
    if notebook not in PER_SEED and notebook != "30_own_models":
        judge = 0 if isinstance(study, OwnModels) else int(study.evaluation.judge.model is not None)
        judging = judge and notebook == "22_judge_validation"
        return Demand(SMALL * (1 + 7 * judging), int(judging), LEAST * (1 + 7 * judging))
    size, gpus = size_of(study), 0
    if not isinstance(study, OwnModels) and size.parameters >= GPU_FROM and share and notebook != "04_update_overlap":
        gpus = study.training.optimiser.processes if notebook in ("01_models", "02_finetune") else 1
    threads = THREADS if size.parameters >= GPU_FROM else 1
    work = counting.of_study(study, size).get(f"{notebook}-{objective}" if objective else notebook, Work())
    algebra = work["float64"]
    work = times(work, share)
    if 0 < share < 1 and notebook == "05_projection":  # each part decomposes its subspace again
        work["float64"] = algebra / len(study.projection.subspaces)
    least = MARGIN * STAGES[notebook].seconds / 60  # of the organism: what the work does not count, such as the start
    minutes = max(LEAST, math.ceil(least + MARGIN * seconds(work, size, gpus, threads) / 60))
    return Demand(_megabytes(study, size, gpus), gpus, minutes, threads)


def asked(notebook: str, study: Study | OwnModels, share: float = 1.0, objective: str = "") -> dict[str, Callable]:
    """The same as resources of a rule: functions, which give None, so no such resource, for 0."""

    def resource(name: str) -> Callable:
        return lambda wildcards: getattr(demand(notebook, study, objective, share), name) or None

    return {name: resource(name) for name in ("mem_mb", "gpu", "nodes", "runtime")}


def divided(notebook: str, study: Study | OwnModels) -> list[str]:
    """Parts of a notebook that are jobs of their own: where the model is large, or ``SUBSPACES_DIVIDE`` is 1."""
    small = size_of(study).parameters < GPU_FROM
    return [] if small and os.environ.get(DIVIDE) != "1" else parts_of(notebook, study)


def group(notebook: str, study: Study | OwnModels) -> str | None:
    """The jobs that a notebook shares one submission with: those of its seed, or the chapters; None: with none.

    A group that fails is run again as a whole, so only what takes minutes is grouped.
    """
    if notebook == "30_own_models" or demand(notebook, study).gpu:
        return None
    if notebook in PER_SEED:
        return "seed" if study.embedded else None
    return "chapters"


def size_of(study: Study | OwnModels) -> Size:
    """The size of a study's models; one that cannot be told yet is taken for one of a billion parameters."""
    return near(config_of_study(study)) or near(NUMBERS["models"][TYPICAL])


def seconds(work: Work, size: Size, gpus: int = 0, threads: int = 1) -> float:
    """Time of an amount of work on a slow machine: algebra in float64 on its cores, the rest on a GPU if it has one."""
    core, work = CORE * threads, Counter(work)
    rate = gpus * GPU or core
    tokens = 3 * work["train_tokens"] + work["tokens"]  # backward takes twice as long as forward
    decoding = work["decoded"] * (CALL + 2 * size.multiplied / rate * (1 if gpus else 16))
    calls = CALL * (3 * work["train_calls"] + work["train_steps"] + work["calls"])
    return calls + decoding + (2 * size.multiplied * tokens + work["float32"]) / rate + work["float64"] / core


def _megabytes(study: Study | OwnModels, size: Size, gpus: int) -> int:
    """Main memory: on a GPU what is computed beside it and the weights on their way, else everything."""
    found = needs(study, size, [])
    held = (2 * FLOAT32 * size.parameters + PROCESS,) if gpus else (found.training, found.evaluation)
    return math.ceil(SPARE * max(found.projection, *held) / 1e6)
