# The study as a graph of jobs for a scheduler: the notebooks of every seed, then the chapters over all seeds.
# `make book PROFILE=…` calls it with what has to run; by hand: `snakemake --cores 2 --config study=organism seeds=0,1`.
# With `seeds=published` only the chapters are made, from the published tables of the study. What is up to date is
# decided by pipeline.runs.uptodate, so nothing here depends on code, settings or times of files.

import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from helpers.lifeline import BUILD, WORKFLOW, end_with
from helpers.paths import ROOT
from helpers.studies.settings import OBJECTIVES, load_study, parse_seeds
from pipeline.plan.demands import asked, demand, divided, group
from pipeline.runs.stages import PER_SEED, jobs_of

STUDY = load_study(config.get("study", "organism"))
ASKED = str(config.get("seeds", "")) or ",".join(map(str, STUDY.seeds))
SEEDS = parse_seeds(ASKED, STUDY)
JOBS = jobs_of(STUDY, SEEDS, ASKED)
THREADS = int(os.environ.get("SUBSPACES_THREADS") or 0)  # of each process, where given; else what a notebook asks for
THREADED = "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads};"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["PYTHONHASHSEED"] = "0"

# whoever is killed takes along what works for it; a scheduler's jobs get neither number from the machine that submits
end_with(os.environ.pop(BUILD, None))
shell.prefix(f"export {WORKFLOW}={os.getpid()}; ")


def file(path):
    """A result as a file of the workflow, relative to the clone: of a model its weights."""
    return os.path.relpath(path if path.suffix == ".csv" else path / "model.safetensors", ROOT)


def command(job):
    """The command of a job."""
    given = " ".join(f"-p {name} '{value}'" for name, value in job.parameters.items())
    return f"{sys.executable} -m pipeline.runs.execute notebooks/{job.notebook}.ipynb {{output.notebook:q}} {given}"


rule all:
    input:
        [os.path.relpath(job.output, ROOT) for job in JOBS],


for job in JOBS:
    name = f"{STUDY.name}_{job.folder.root.name}_{job.name}".replace("-", "_").replace(".", "_")
    reads = [file(path) for path in job.reads(SEEDS, ASKED == "published")]
    parts = divided(job.notebook, STUDY) if job.notebook in PER_SEED else []
    done = [os.path.relpath(job.folder.scratch("parts") / f"{job.notebook}-{part}", ROOT) for part in parts]
    size = {"objective": job.objective}

    for part, touched in zip(parts, done):

        rule:
            name:
                f"{name}_{part}".replace("-", "_").replace(".", "_")
            input:
                reads,
            params:
                command=f"{sys.executable} -m pipeline.runs.parts {job.notebook} {STUDY.name} --seed {job.seed} --part {part}",
            output:
                temp(touch(touched)),
            resources:
                **asked(job.notebook, STUDY, share=1 / len(parts)),
            threads: THREADS or demand(job.notebook, STUDY).threads
            group: group(job.notebook, STUDY)
            shell:
                THREADED + " {params.command}"

    rule:
        name:
            name
        input:
            reads,
            done,
        output:
            [file(path) for path in job.writes],
            notebook=os.path.relpath(job.output, ROOT),
        resources:
            **asked(job.notebook, STUDY, share=0 if parts else 1, objective=job.objective),
        threads: THREADS or demand(job.notebook, STUDY).threads
        group: group(job.notebook, STUDY)
        shell:
            f"{THREADED} {command(job)}"
