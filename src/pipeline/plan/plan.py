"""What a study will fetch, need and take here, before anything is fetched: ``python -m pipeline.plan.plan organism``.

Work is counted from the settings (``pipeline.plan.workload``), the machine is measured for some seconds on random weights of
the model's shape (``pipeline.plan.calibration``), and both together give the time of every notebook. Expect the whole within
a factor of two on an idle machine.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from helpers.errors import StudyError
from helpers.evaluation.judges.rubric import TEXT
from helpers.models.language import Language
from helpers.paths import results_root
from helpers.studies.own_models import OwnModels
from helpers.studies.sections import Origin
from helpers.studies.settings import MODELS, Study, load_study, parse_seeds
from pipeline.plan import architectures, calibration, needs, workload
from pipeline.plan.architectures import Architecture
from pipeline.plan.calibration import Machine, Rates, Shape
from pipeline.plan.table import table
from pipeline.plan.workload import Work
from pipeline.runs.command_line import Parser, count, price
from pipeline.runs.stages import APART, CHAPTERS, PER_SEED, STAGES, of_study

NOTEBOOK = {True: 1.7, False: 1.0}  # start of a notebook, with and without models, over that of an interpreter
WORKFLOW = 2.0  # the workflow's own start, over that of an interpreter
REPORT = (20.0, 0.25)  # seconds of building the report, and for each notebook in it
SHARED = 1.2  # seconds of a process beside others on the same machine, over seconds alone
CHECKPOINTING = 4 / 3  # time of a training pass that computes its activations twice, over one that keeps them
CHARACTERS = 4  # of a token of the rubric


@dataclass(frozen=True)
class Row:
    """One notebook of the study."""

    stage: str
    runs: int
    seconds: float  # of one run
    judged: int  # answers, of one run
    per_seed: bool


@dataclass(frozen=True)
class Plan:
    """Everything that ``make plan`` says."""

    study: str
    seeds: list[int]
    processes: int
    machine: Machine
    parameters: int
    downloads: list[needs.Download]
    needs: needs.Needs
    rows: list[Row]
    hours: float  # from the first notebook to the report
    judge: str
    judged: int
    tokens_in: int  # of an endpoint that judges
    tokens_out: int  # at most
    price: float | None  # at the price that was given

    @property
    def memory(self) -> float:
        """Main memory at the peak, bytes: on a GPU what is computed beside it, else everything, in every process."""
        if self.machine.device == "cuda":
            return self.needs.projection
        return self.processes * max(self.needs.training, self.needs.evaluation, self.needs.projection)

    @property
    def gpu_memory(self) -> float:
        """Memory of a GPU at the peak, bytes."""
        return max(self.needs.training, self.needs.evaluation)

    @property
    def disk(self) -> float:
        """Bytes written in all."""
        return self.needs.disk_shared + len(self.seeds) * self.needs.disk_seed


def models_of(study: Study | OwnModels) -> dict[str, tuple[Origin, Architecture]]:
    """The models that a study takes from elsewhere, with their sizes. Raises StudyError if a size cannot be told."""
    if isinstance(study, OwnModels):
        given = study.origins
    else:
        given = {name: getattr(study.model, name, None) for name in ("base", "aligned")}
        given["judge"] = study.evaluation.judge.model
    return {name: (origin, architectures.of_origin(origin)) for name, origin in given.items() if origin is not None}


def architecture(study: Study | OwnModels, models: dict[str, tuple[Origin, Architecture]]) -> Architecture:
    """The architecture that all models of a study share."""
    if isinstance(study, Study) and study.embedded:
        return architectures.of_organism(study.model, len(Language(study.language).vocabulary))
    return models["base"][1]


def rates_for(study: Study | OwnModels, model: Architecture, device: str) -> Rates:
    """Measure this machine on the study's model at its batches."""
    s = study.evaluation
    evaluate = Shape(min(s.batch_size, s.utility_prompts), sum(workload.TOKENS[s.utility]))
    if isinstance(study, OwnModels):
        return calibration.measure(model, None, evaluate, "float32", "float32", s.autocast, device)
    objectives = [o for name in MODELS if (o := getattr(study.training, name)) is not None]
    most = max(objectives, key=lambda o: o.epochs * sum(part.rows for part in o.data))
    train = Shape(most.batch_size, round(workload.row_tokens(study, most)))
    rule = study.training.optimiser
    rates = calibration.measure(model, train, evaluate, rule.weights, rule.autocast, s.autocast, device)
    slower = CHECKPOINTING if rule.gradient_checkpointing else 1.0
    return replace(rates, train_token=rates.train_token * slower, train_batch=rates.train_batch * slower)


def seconds(work: Work, rates: Rates) -> float:
    """Time of an amount of work in one process alone."""
    training = work.train_tokens * rates.train_token + work.train_batches * rates.train_batch
    evaluation = work.tokens * rates.token + work.batches * rates.batch + work.decode_steps * rates.decode_step
    algebra = work.float64 / rates.float64 + work.float32 / rates.float32
    return training + work.train_steps * rates.train_step + evaluation + algebra + work.traffic / rates.traffic


def rows_of(study: Study | OwnModels, model: Architecture, rates: Rates, seeds: list[int], judging: float) -> list[Row]:
    """Every notebook of the study. ``judging``: seconds of a local judge for each token of an answer and its prompt."""
    if isinstance(study, OwnModels):
        work = {name: workload.own_models(study, model) for name in of_study(STAGES, study)}
    else:
        work = workload.per_seed(study, model)
    rows = []
    for name, one in work.items():
        per_seed = name.split("-")[0] in PER_SEED
        taken = NOTEBOOK[True] * rates.start + seconds(one, rates) + one.judged_tokens * judging
        rows.append(Row(name, len(seeds) if per_seed else 1, taken, round(one.judged), per_seed))
    chapters = [name for name in of_study(CHAPTERS | APART, study) if name not in work]
    return rows + [Row(name, 1, NOTEBOOK[False] * rates.start, 0, False) for name in chapters]


def elapsed(rows: list[Row], rates: Rates, processes: int) -> float:
    """Seconds from the start of the workflow to the report, with that many notebooks at a time.

    Notebook 1 of a seed comes before its fine-tunes, and these before the others; a free process takes the next one.
    """
    shared = SHARED if processes > 1 else 1.0
    seeds = max((row.runs for row in rows if row.per_seed), default=0)
    free, ready = [0.0] * processes, [0.0] * seeds
    for phase in ("01", "02", "0"):
        ends = list(ready)
        for seed in range(seeds):
            for row in (row for row in rows if row.per_seed and _phase(row) == phase):
                place = free.index(min(free))
                free[place] = max(free[place], ready[seed]) + row.seconds * shared
                ends[seed] = max(ends[seed], free[place])
        ready = ends
    single = sum(row.seconds for row in rows if not row.per_seed) * shared / processes
    report = REPORT[0] + REPORT[1] * sum(row.runs for row in rows)
    return max([*free, *ready]) + single + report + WORKFLOW * rates.start


def _phase(row: Row) -> str:
    return row.stage[:2] if row.stage[:2] in ("01", "02") else "0"


def plan(study: Study | OwnModels, seeds: list[int], processes: int, price: tuple[float, float] | None = None) -> Plan:
    """Plan a study for this machine; takes seconds, and fetches nothing. Raises StudyError.

    ``price``: of a million tokens that an endpoint reads, and of a million that it writes.
    """
    here, models = calibration.machine(results_root()), models_of(study)
    model, fetched = architecture(study, models), needs.downloads(study, models)
    rates = rates_for(study, model, here.device)
    processes = 1 if here.device == "cuda" else processes
    own = isinstance(study, OwnModels)
    judge = None if own else study.evaluation.judge
    judging = rates.token * models["judge"][1].parameters() / model.parameters() if "judge" in models else 0.0
    rows = rows_of(study, model, rates, seeds, judging)
    judged = sum(row.judged * row.runs for row in rows)
    endpoint = judge is not None and judge.name is not None  # asked elsewhere, by the token
    asked = 0 if own else sum(work.judged_tokens for work in workload.per_seed(study, model).values()) * len(seeds)
    tokens_in = round(judged * len(TEXT) / CHARACTERS + asked) if endpoint else 0
    tokens_out = judged * judge.max_tokens if endpoint else 0
    return Plan(
        study=study.name,
        seeds=seeds,
        processes=processes,
        machine=here,
        parameters=model.parameters(),
        downloads=fetched,
        needs=(needs.own_needs if own else needs.needs)(study, model, fetched),
        rows=rows,
        hours=elapsed(rows, rates, processes) / 3600,
        judge="none" if own else judge.kind,
        judged=judged,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        price=None if price is None else (tokens_in * price[0] + tokens_out * price[1]) / 1e6,
    )


def seconds_by_notebook(study: Study | OwnModels) -> dict[str, float]:
    """Seconds that each notebook of a study is expected to take on this machine, by the name of its run."""
    return {row.stage: row.seconds for row in plan(study, study.seeds, 1).rows}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("study")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; default: the study's")
    parser.add_argument("--cores", type=count, default=os.cpu_count() or 1, help="notebooks at a time")
    parser.add_argument(
        "--price", type=price, nargs=2, metavar=("IN", "OUT"), help="of a million tokens of an endpoint"
    )
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    given = parser.parse_args(arguments)
    try:
        study = load_study(given.study)
        seeds = parse_seeds(given.seeds, study)
        print("measuring this machine for some seconds; nothing is fetched", file=sys.stderr, flush=True)
        found = plan(study, seeds, given.cores, given.price)
        if given.json:
            facts = asdict(found) | {"memory": found.memory, "gpu_memory": found.gpu_memory, "disk": found.disk}
            given.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {given.json} cannot be written ({error.strerror}): name another file", file=sys.stderr)
        return 1
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
