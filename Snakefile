# The study as a graph of jobs for a scheduler: the notebooks of every seed, then the chapters over all seeds.
# `make book PROFILE=…` calls it with what has to run; by hand: `snakemake --cores 2 --config study=organism seeds=0,1`.
# With `seeds=published` only the chapters are made, from the published tables of the study. What is up to date is
# decided by pipeline.runs.jobs, so nothing here depends on code, settings or times of files.

import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from helpers.lifeline import BUILD, WORKFLOW, end_with
from helpers.paths import ROOT
from helpers.studies.settings import OBJECTIVES, load_study, parse_seeds
from pipeline.plan.demands import asked, demand, divided, group
from pipeline.runs.jobs import jobs_of
from pipeline.runs.stages import PER_SEED, file_of

STUDY = load_study(config.get("study", "organism"))
SEEDS = parse_seeds(config.get("seeds", ""), STUDY)
JOBS = jobs_of(STUDY, config.get("seeds", ""))
THREADS = int(os.environ.get("SUBSPACES_THREADS") or 0)  # of each process, where given; else what a notebook asks for
THREADED = "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads};"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["PYTHONHASHSEED"] = "0"

# whoever is killed takes along what works for it; a scheduler's jobs get neither number from the machine that submits
end_with(os.environ.pop(BUILD, None))
shell.prefix(f"export {WORKFLOW}={os.getpid()}; ")


def file(path, seed=None):
    """A result as a file of the workflow, relative to the clone: of a model its weights; of any seed for one of a seed."""
    found = os.path.relpath(file_of(path), ROOT)
    return found if seed is None else found.replace(f"/seed-{seed}/", "/seed-{seed}/")


def options(job, seed):
    """The parameters of a job's notebook, for a seed, as options."""
    given = job.parameters | ({} if job.seed is None else {"seed": seed})
    return " ".join(f"-p {name} '{value}'" for name, value in given.items())


wildcard_constraints:
    seed=r"\d+",


rule all:
    input:
        [file(job.output) for job in JOBS],


for job in [job for job in JOBS if job.seed in (None, SEEDS[0])]:
    name = job.name.replace("-", "_")
    reads = [ancient(file(path, job.seed)) for path in job.reads]
    parts = divided(job.notebook, STUDY) if job.notebook in PER_SEED else []
    part = file(job.folder.scratch("parts") / f"{job.notebook}-.csv", job.seed).replace("-.csv", "-{part}")

    if parts:

        rule:
            name:
                f"{name}_part"
            input:
                reads,
            params:
                command=f"{sys.executable} -m pipeline.runs.parts {job.notebook} {STUDY.name}",
            output:
                temp(touch(part)),
            wildcard_constraints:
                part="|".join(parts),
            resources:
                **asked(job.notebook, STUDY, share=1 / len(parts)),
            threads: THREADS or demand(job.notebook, STUDY).threads
            group: group(job.notebook, STUDY)
            shell:
                THREADED + " {params.command} --seed {wildcards.seed} --part {wildcards.part}"

    rule:
        name:
            name
        input:
            reads,
            expand(part, part=parts, allow_missing=True),
        params:  # what is written below `shell` is read when the loop has ended
            command=f"{sys.executable} -m pipeline.runs.execute notebooks/{job.notebook}.ipynb",
            options=lambda wildcards, job=job: options(job, wildcards.get("seed")),
        output:
            [file(path, job.seed) for path in job.writes],
            notebook=file(job.output, job.seed),
        resources:
            **asked(job.notebook, STUDY, share=0 if parts else 1, objective=job.objective),
        threads: THREADS or demand(job.notebook, STUDY).threads
        group: group(job.notebook, STUDY)
        shell:
            THREADED + " {params.command} {output.notebook:q} {params.options}"
