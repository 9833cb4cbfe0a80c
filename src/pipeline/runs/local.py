"""Jobs on this machine: as many at a time as there are cores, each as soon as what it reads is there.

A few processes execute notebooks one after another, with a fresh kernel for each, forked from them, where the libraries
are imported already. A job that stops does not stop those that do not depend on it.
"""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from helpers.errors import StudyError
from helpers.files import sweep
from helpers.lifeline import WORKFLOW, end_with
from helpers.paths import NOTEBOOKS, results_root
from pipeline.runs.code import needs
from pipeline.runs.command_line import SINGLE, THREADS
from pipeline.runs.execute import ended, run
from pipeline.runs.jobs import Job
from pipeline.runs.kernels import prepare

KILLED = "a process that executes notebooks was killed, most often because memory ran out: set CORES=1"
FORKED = "pipeline.runs.kernels.ForkedKernel"  # as papermill takes it


@dataclass
class Progress:
    """Says what has ended and about how long the rest will take, at the seconds per expected second so far."""

    expected: Mapping[Job, float]
    cores: int
    ended: dict[Job, float] = field(default_factory=dict)

    def add(self, job: Job, seconds: float) -> None:
        """Print one line on a job that has ended."""
        self.ended[job] = seconds
        left = sum(expected for other, expected in self.expected.items() if other not in self.ended)
        rate = sum(self.ended.values()) / max(sum(self.expected[one] for one in self.ended), 1e-9)
        count = (
            f"{len(self.ended)} of {len(self.expected)} notebooks, about {left * rate / self.cores / 60:.1f} min left"
        )
        print(f"{ended(job.output, seconds)} | {count}", flush=True)


def run_jobs(expected: Mapping[Job, float], cores: int, on_gpu: int = 1) -> list[str]:
    """Run jobs; ``expected``: their seconds, in about. Returns the sentences that those which stopped have said.

    With a GPU, jobs of seeds take turns on it, or ``on_gpu`` share it.
    """
    if not expected:
        return []
    threads = os.environ.get(THREADS) or "1"
    variables = {**dict.fromkeys(SINGLE, threads), "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.update(variables | {WORKFLOW: str(os.getpid())})
    heavy = any(needs(notebook, "torch") for notebook in {job.notebook for job in expected})
    processes = min(on_gpu if heavy and shutil.which("nvidia-smi") else cores, len(expected))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(os.getpid(), heavy))
    try:
        said = _run(expected, pool, Progress(expected, processes))
        pool.shutdown()
        return said
    except BaseException:  # Ctrl-C: nothing is waited for, the processes end with this one
        for process in list(pool._processes.values()):
            process.kill()
            process.join()
        for study in {job.study.name for job in expected}:
            sweep(results_root() / study)
        raise
    finally:
        del os.environ[WORKFLOW]


def _run(expected: Mapping[Job, float], pool: ProcessPoolExecutor, progress: Progress) -> list[str]:
    said, running = [], {}
    writers = {path: job for job in expected for path in job.writes}
    order = TopologicalSorter({job: {writers[path] for path in job.reads if path in writers} for job in expected})
    order.prepare()
    while order.is_active():
        for job in sorted(order.get_ready(), key=lambda job: -expected[job]):  # the longest first, to end together
            given = NOTEBOOKS / f"{job.notebook}.ipynb", job.output, job.parameters, job.asked
            running[pool.submit(run, *given, kernel_manager_class=FORKED)] = job
        if not running:  # what is left waits for jobs that stopped
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            try:
                progress.add(job, future.result())
                order.done(job)
            except (StudyError, BrokenProcessPool) as error:
                said.append(str(error) if isinstance(error, StudyError) else KILLED)
                print(f"error: {said[-1]}", file=sys.stderr, flush=True)
    return said


def _begin(parent: int, heavy: bool) -> None:
    """Of a process that executes notebooks: it ends with the one that started it, which alone hears Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    prepare(heavy)
