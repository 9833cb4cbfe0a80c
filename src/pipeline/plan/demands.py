"""What each notebook asks of a scheduler: memory, GPUs and minutes, from the settings alone.

Nothing is measured here, so the figures are generous: a scheduler stops what takes more than it asked for. What a study
takes on this machine is said by ``pipeline.plan.plan``.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from helpers.errors import StudyError
from helpers.models.language import Language
from helpers.studies.own_models import OwnModels
from helpers.studies.settings import Study
from pipeline.plan import architectures, needs, workload
from pipeline.plan.architectures import KNOWN, Architecture
from pipeline.plan.workload import Work
from pipeline.runs.parts import parts_of
from pipeline.runs.stages import PER_SEED, STAGES

DIVIDE = "SUBSPACES_DIVIDE"
GPU_FROM = 300e6  # parameters from which a notebook that runs a model asks for a GPU, and more than one thread
THREADS = 8  # of such a notebook
SLOW = {False: 4e9, True: 4e12}  # operations a second, of one slow core and of a GPU at small batches
CALL = 0.03  # seconds of one pass, however small
MARGIN = 3  # times over the estimate
LEAST = 15  # minutes that every notebook asks for
SMALL, SPARE = 2000, 1.3  # megabytes of a notebook without models, and times over the estimate with them


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
    model = architecture(study)
    gpus = _gpus(notebook, study, model) if share else 0
    threads = THREADS if model.parameters() >= GPU_FROM else 1
    work = _shared(_work(notebook, study, model, objective), notebook, study, share)
    least = MARGIN * STAGES[notebook].cost / 60  # of the organism: what the work does not count, such as the start
    minutes = max(LEAST, math.ceil(least + MARGIN * seconds(work, model, gpus, threads) / 60))
    return Demand(_megabytes(study, model, gpus), gpus, minutes, threads)


def asked(notebook: str, study: Study | OwnModels, share: float = 1.0) -> dict[str, Callable]:
    """The same as resources of a rule: functions of its wildcards, which give None, so no such resource, for 0."""

    def resource(name: str) -> Callable:
        return lambda wildcards: getattr(demand(notebook, study, wildcards.get("objective", ""), share), name) or None

    return {name: resource(name) for name in ("mem_mb", "gpu", "nodes", "runtime")}


def divided(notebook: str, study: Study | OwnModels) -> list[str]:
    """Parts of a notebook that are jobs of their own: where the model is large, or ``SUBSPACES_DIVIDE`` is 1."""
    small = architecture(study).parameters() < GPU_FROM
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


def architecture(study: Study | OwnModels) -> Architecture:
    """The architecture of a study's models; one that cannot be told yet is taken for one of a billion parameters."""
    if isinstance(study, Study) and study.embedded:
        return architectures.of_organism(study.model, len(Language(study.language).vocabulary))
    try:
        return architectures.of_origin(study.base if isinstance(study, OwnModels) else study.model.base)
    except StudyError:
        return KNOWN["meta-llama/Llama-3.2-1B"]


def seconds(work: Work, model: Architecture, gpus: int = 0, threads: int = 1) -> float:
    """Time of an amount of work on a slow machine: algebra in float64 on its cores, the rest on a GPU if it has one."""
    core = SLOW[False] * threads
    rate = gpus * SLOW[True] or core
    tokens = 3 * work.train_tokens + work.tokens  # backward takes twice as long as forward
    decoding = work.decode_steps * (CALL + 2 * model.multiplied() / rate * (1 if gpus else 16))
    calls = CALL * (3 * work.train_batches + work.train_steps + work.batches)
    return calls + decoding + (2 * model.multiplied() * tokens + work.float32) / rate + work.float64 / core


def _gpus(notebook: str, study: Study | OwnModels, model: Architecture) -> int:
    if isinstance(study, OwnModels) or model.parameters() < GPU_FROM or notebook == "04_update_overlap":
        return 0
    return study.training.optimiser.processes if notebook in ("01_models", "02_finetune") else 1


def _work(notebook: str, study: Study | OwnModels, model: Architecture, objective: str) -> Work:
    if isinstance(study, OwnModels):
        return workload.own_models(study, model)
    work = workload.per_seed(study, model)
    names = [name for name in work if name.startswith(f"{notebook}-{objective}" if objective else notebook)]
    return max((work[name] for name in names), key=lambda one: one.train_tokens, default=Work())


def _shared(work: Work, notebook: str, study: Study | OwnModels, share: float) -> Work:
    """Work of a job that does a share of a notebook; each part of a projection decomposes its subspace again."""
    if share in (0, 1) or notebook != "05_projection":
        return work * share
    return replace(work * share, float64=work.float64 / len(study.projection.subspaces))


def _megabytes(study: Study | OwnModels, model: Architecture, gpus: int) -> int:
    """Main memory: on a GPU what is computed beside it and the weights on their way, else everything."""
    found = (needs.own_needs if isinstance(study, OwnModels) else needs.needs)(study, model, [])
    weights = 2 * needs.FLOAT32 * model.parameters() + needs.PROCESS
    held = (weights,) if gpus else (found.training, found.evaluation)
    return math.ceil(SPARE * max(found.projection, *held) / 1e6)
