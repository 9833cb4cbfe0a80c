# The study as a graph: the notebooks of every seed, then the chapters over all seeds.
# `make book` calls it and builds the report; by hand: `snakemake --cores 2 --config study=organism seeds=0,1`.
# With `seeds=published` only the chapters over all seeds are made, from the published tables of the study.

import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from pipeline.plan.demands import asked, demand, divided, group
from helpers.lifeline import BUILD, WORKFLOW, end_with
from helpers.paths import CONTROL, PUBLISHED, bench_tables, power_table, published_root, results_root
from helpers.studies.settings import OBJECTIVES, load_study, parse_seeds
from pipeline.runs.stages import APART, CHAPTERS, PER_SEED, expected, file_of, modules_of, of_study, over_seeds, settings_of

STUDY = load_study(config.get("study", "organism"))
SEEDS = parse_seeds(config.get("seeds", ""), STUDY)
FROM_PUBLISHED = config.get("seeds", "") == PUBLISHED
RESULTS = os.path.relpath(results_root())
READ_FOLDER = f"{os.path.relpath(published_root()) if FROM_PUBLISHED else RESULTS}/{STUDY.name}"
SEED_FOLDER = f"{READ_FOLDER}/seed-{{seed}}"
ALL_FOLDER = f"{RESULTS}/{STUDY.name}/all"
EXECUTE = f"{sys.executable} -m pipeline.runs.execute {{input.notebook:q}} {{output.notebook:q}} -p study {STUDY.name}"

# threads of each process, where they are given; else what pipeline.plan.demands says
THREADS = int(os.environ.get("SUBSPACES_THREADS") or 0)
THREADED = "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads};"
EXECUTE = f"{THREADED} {EXECUTE}"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["PYTHONHASHSEED"] = "0"

# whoever is killed takes along what works for it; a scheduler's jobs get neither number from the machine that submits
end_with(os.environ.pop(BUILD, None))
shell.prefix(f"export {WORKFLOW}={os.getpid()}; ")


wildcard_constraints:
    seed=r"\d+",
    objective="|".join(OBJECTIVES),


rule all:
    input:
        [os.path.relpath(notebook) for notebook in expected(STUDY, SEEDS, FROM_PUBLISHED)],


for name, stage in of_study({} if FROM_PUBLISHED else PER_SEED, STUDY).items():
    each = "-{objective}" if name == "02_finetune" else ""
    parts = divided(name, STUDY)
    part = f"{SEED_FOLDER}/scratch/parts/{name}-{{part}}"

    if parts:

        rule:
            name:
                f"{name}_part"
            input:
                [f"{SEED_FOLDER}/{file_of(key)}" for key in stage.reads],
                modules=modules_of(name),
            params:
                settings=settings_of(name, STUDY),
                command=f"{sys.executable} -m pipeline.runs.execute_part {name} {STUDY.name}",
            output:
                temp(touch(part)),
            wildcard_constraints:
                part="|".join(parts),
            resources:
                device=int(name != "04_update_overlap"),
                **asked(name, STUDY, share=1 / len(parts)),
            threads: THREADS or demand(name, STUDY).threads
            group: group(name, STUDY)
            shell:
                THREADED + " {params.command} --seed {wildcards.seed} --part {wildcards.part}"

    rule:
        name:
            name
        input:
            [f"{SEED_FOLDER}/{file_of(key)}" for key in stage.reads],
            expand(part, part=parts, allow_missing=True),
            notebook=f"notebooks/{name}.ipynb",
            modules=modules_of(name),
        params:
            settings=lambda wildcards, name=name: settings_of(name, STUDY, wildcards.get("objective", "")),
            objective=lambda wildcards: f"-p objective {wildcards.objective}" if "objective" in wildcards.keys() else "",
        output:
            [f"{SEED_FOLDER}/{file_of(key)}" for key in stage.writes],
            notebook=f"{SEED_FOLDER}/notebooks/{name}{each}.ipynb",
        resources:
            device=int(name != "04_update_overlap"),  # loads a model: on a machine with a GPU `pipeline.build` has one at a time
            **asked(name, STUDY, share=0 if parts else 1),
        threads: THREADS or demand(name, STUDY).threads
        group: group(name, STUDY)
        priority: int(stage.cost)  # the longest of those that could start, so that no core waits for it at the end
        shell:
            EXECUTE + " -p seed {wildcards.seed} {params.objective}"


for name, stage in of_study(CHAPTERS, STUDY).items():

    rule:
        name:
            name
        input:
            expand([f"{SEED_FOLDER}/{file_of(key)}" for key in stage.reads], seed=SEEDS),
            stage.files,
            os.path.relpath(power_table()) if name == "15_verdict" and STUDY.name != CONTROL and power_table() else [],
            notebook=f"notebooks/{name}.ipynb",
            modules=modules_of(name),
        params:
            settings=settings_of(name, STUDY),
            seeds=PUBLISHED if FROM_PUBLISHED else ",".join(map(str, SEEDS)),
        output:
            [f"{ALL_FOLDER}/{file_of(key)}" for key in stage.writes],
            notebook=f"{ALL_FOLDER}/notebooks/{name}.ipynb",
        resources:
            **asked(name, STUDY),
        threads: THREADS or demand(name, STUDY).threads
        group: group(name, STUDY)
        shell:
            EXECUTE + " -p seeds '{params.seeds}'"


for name, stage in of_study(APART, STUDY).items():
    if name not in over_seeds(STUDY, FROM_PUBLISHED):
        continue
    timed = [str(path) for path in sorted(bench_tables().glob("*.csv"))] if name == "20_cost" else []

    rule:
        name:
            name
        input:
            [f"{READ_FOLDER}/all/{file_of(key)}" for key in stage.reads],
            timed,
            stage.files,
            notebook=f"notebooks/{name}.ipynb",
            modules=modules_of(name),
        params:
            settings=settings_of(name, STUDY),
        output:
            [f"{ALL_FOLDER}/{file_of(key)}" for key in stage.writes],
            notebook=f"{ALL_FOLDER}/notebooks/{name}.ipynb",
        resources:
            **asked(name, STUDY),
        threads: THREADS or demand(name, STUDY).threads
        group: group(name, STUDY)
        shell:
            EXECUTE
