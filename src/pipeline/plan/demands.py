"""What each notebook asks of a scheduler: memory, GPUs and minutes, from the settings alone.

Nothing is measured or built here, and torch is not imported, because every job of a workflow begins with this. The
figures are generous: a scheduler stops what takes more than it asked for. What a study takes on this machine is said by
``pipeline.plan.plan``.
"""

import math
import os
from dataclasses import dataclass

from helpers.studies.settings import OwnModels, Study
from pipeline.plan import notebooks
from pipeline.plan import work as counting
from pipeline.plan.sizes import NUMBERS, Size, config_of_study, near
from pipeline.plan.work import FLOAT32, PROCESS, Work, times
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


def demand(notebook: str, study: Study | OwnModels, objective: str = "", share: float = 1.0) -> Demand:
    """Memory, GPUs, minutes and threads of one notebook of a study; ``objective`` is that of notebook 2.

    ``share`` is how much of its work the job does: 1 / parts for one of its parts, 0 for gathering them.
    """
    if notebook not in PER_SEED and notebook != "30_own_models":
        judge = notebook == "22_judge_validation" and study.evaluation.judge.model is not None
        return Demand(8 * SMALL, 1, 8 * LEAST) if judge else Demand(SMALL, 0, LEAST)
    size, gpus = size_of(study), 0
    if notebook in PER_SEED and size.parameters >= GPU_FROM and share and notebook != "04_update_overlap":
        gpus = study.training.optimiser.processes if notebook in ("01_models", "02_finetune") else 1
    threads = THREADS if size.parameters >= GPU_FROM else 1
    work = notebooks.of_study(study, size).get(f"{notebook}-{objective}" if objective else notebook, Work())
    own = times(work, share)
    if 0 < share < 1 and notebook == "05_projection":  # each part decomposes its subspace again
        own["float64"] = work["float64"] / len(study.projection.subspaces)
    least = STAGES[notebook].seconds  # of the organism: what the work does not count, such as the start
    minutes = math.ceil(MARGIN * (least + counting.seconds(own, slow(size, gpus, threads))) / 60)
    need = counting.needs(study, size)  # on a GPU what is computed beside it and the weights on their way
    held = 2 * FLOAT32 * size.parameters + PROCESS if gpus else max(need.training, need.evaluation)
    return Demand(math.ceil(SPARE * max(need.projection, held) / 1e6), gpus, max(LEAST, minutes), threads)


def asked(notebook: str, study: Study | OwnModels, share: float = 1.0, objective: str = "") -> dict[str, int]:
    """The same as resources of a rule; none of 0, which schedulers may take for a wish. Its GPUs are of one machine."""
    found = demand(notebook, study, objective, share)
    resources = {"mem_mb": found.mem_mb, "gpu": found.gpu, "nodes": int(found.gpu > 0), "runtime": found.runtime}
    return {name: amount for name, amount in resources.items() if amount}


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


def slow(size: Size, gpus: int = 0, threads: int = 1) -> dict[str, float]:
    """Seconds for each unit of work on a slow machine: algebra in float64 on its cores, the rest on any GPU."""
    core = CORE * threads
    rate = gpus * GPU or core
    token, call = 2 * size.multiplied / rate, CALL
    decoded = {"decoded": call + token * (1 if gpus else 16)}
    training = {"train_tokens": 3 * token, "train_calls": 3 * call, "train_steps": call}  # backward takes twice as long
    return decoded | training | {"tokens": token, "calls": call, "float32": 1 / rate, "float64": 1 / core}
