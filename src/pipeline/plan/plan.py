"""What a study will fetch, need and take here, before anything is fetched: ``python -m pipeline.plan.plan organism``.

Work is counted from the settings (``work``), the machine is timed for some seconds (``rates``), and both together give
the time of every notebook: expect the whole within a factor of two on an idle machine. A model whose size cannot be
told has no estimate; that is said, and is no error.
"""

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.errors import StudyError
from helpers.evaluation.judges.kept import TEXT
from helpers.memory import say
from helpers.paths import results_root
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels, Study, load_study, parse_seeds
from pipeline.plan import sizes
from pipeline.plan import work as counting
from pipeline.plan.needs import downloads, needs
from pipeline.plan.sizes import Size
from pipeline.plan.table import table
from pipeline.runs.command_line import Parser, count, price
from pipeline.runs.stages import PER_SEED, STAGES, of_study

REFERENCE = 5.0  # seconds to import torch and transformers where the costs of the stages were taken
NOTEBOOK = 1.7  # start of a notebook with models, over that of an interpreter
REPORT = (20.0, 0.25)  # seconds of building the report, and for each notebook in it
SHARED = 1.2  # seconds of a process beside others on the same machine, over seconds alone
CHECKPOINTING = 4 / 3  # time of a training pass that computes its activations twice, over one that keeps them
CHARACTERS = 4  # of a token of the rubric


def machine() -> dict[str, Any]:
    """Name of the GPU (empty without one), cores, and bytes of memory, of GPU memory, and free below the results."""
    import torch  # here: whoever reads only the settings need not wait for it

    existing = next(folder for folder in (results_root(), *results_root().parents) if folder.exists())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    found = {"gpu": gpu.name if gpu else "", "gpu_memory": gpu.total_memory if gpu else 0}
    return found | {"cores": os.cpu_count() or 1, "memory": memory, "disk": shutil.disk_usage(existing).free}


def models_of(study: Study | OwnModels) -> dict[str, tuple[Origin, Size | None]]:
    """The models that a study takes from elsewhere, with their sizes where these can be told."""
    if isinstance(study, OwnModels):
        given = study.origins
    else:
        given = {name: getattr(study.model, name, None) for name in ("base", "aligned")}
        given["judge"] = study.evaluation.judge.model
    return {name: (one, sizes.exact(sizes.config_of(one, ask=True))) for name, one in given.items() if one}


def rates_of(study: Study | OwnModels, size: Size) -> Counter:
    """Seconds here for each unit of work of the study."""
    from pipeline.plan.rates import measured

    s, rule = study.evaluation, study.training.optimiser if isinstance(study, Study) else None
    rows, length = min(s.batch_size, s.utility_prompts), sum(counting.TOKENS[s.utility])
    rates = measured(size, rows, length, s.autocast, rule.autocast if rule else s.autocast)
    for unit in ("train_calls", "train_tokens"):
        rates[unit] *= CHECKPOINTING if rule and rule.gradient_checkpointing else 1
    return rates


def rows_of(study: Study | OwnModels, work: dict[str, Counter], rates: Counter, seeds: int) -> list[dict[str, Any]]:
    """Every notebook of the study; one whose work is not counted takes as long as in the organism study."""
    rows = []
    for name in [*work, *(set(of_study(STAGES, study)) - {run.split("-")[0] for run in work})]:
        seconds = STAGES[name].seconds * rates["start"] / REFERENCE if name not in work else NOTEBOOK * rates["start"]
        amounts, per_seed = work.get(name, Counter()), name.split("-")[0] in PER_SEED
        seconds += sum(amount * rates[unit] for unit, amount in amounts.items())
        runs, judged = seeds if per_seed else 1, round(amounts["judged"])
        rows.append({"stage": name, "runs": runs, "seconds": seconds, "judged": judged, "per_seed": per_seed})
    return sorted(rows, key=lambda row: list(STAGES).index(row["stage"].split("-")[0]))


def elapsed(rows: list[dict[str, Any]], processes: int) -> float:
    """Seconds to the report with that many notebooks at a time: all shared out, or the longest chain of one seed."""
    phases = {
        phase: [r["seconds"] for r in rows if r["per_seed"] and r["stage"][:2] == phase] for phase in ("01", "02")
    }
    phases["rest"] = [r["seconds"] for r in rows if r["per_seed"] and r["stage"][:2] not in phases]
    chain = sum(max(seconds, default=0.0) for seconds in phases.values())
    seeds = sum(row["seconds"] * row["runs"] for row in rows if row["per_seed"]) / processes
    single = sum(row["seconds"] for row in rows if not row["per_seed"]) / processes
    report = REPORT[0] + REPORT[1] * sum(row["runs"] for row in rows)
    return (SHARED if processes > 1 else 1.0) * (max(seeds, chain) + single) + report


def plan(study: Study | OwnModels, seeds: list[int], processes: int, price: tuple[float, float] | None = None) -> dict:
    """Everything that plan.txt shows of a study here; bytes and seconds. Fetches at most a model's ``config.json``.

    ``price``: of a million tokens that an endpoint reads, and of a million that it writes. ``needs`` is None, and what
    follows from it is not there, where the size of the models cannot be told.
    """
    here, models = machine(), models_of(study)
    size = models["base"][1] if "base" in models else sizes.exact(sizes.config_of_study(study))
    processes, fetched = 1 if here["gpu"] else processes, downloads(study, models)
    facts = {"study": study.name, "seeds": seeds, "processes": processes, "machine": here, "needs": None, "rows": []}
    facts |= {"downloads": [asdict(one) for one in fetched], "parameters": size and size.parameters}
    if size is None:
        return facts
    rates, work, need = rates_of(study, size), counting.of_study(study, size), needs(study, size, fetched)
    judging = models.get("judge", (None, None))[1]
    rates["judged_tokens"] = rates["tokens"] * judging.multiplied / size.multiplied if judging else 0
    rows, gpu_memory = rows_of(study, work, rates, len(seeds)), max(need.training, need.evaluation)
    memory = need.projection if here["gpu"] else processes * max(gpu_memory, need.projection)
    disk = need.disk_shared + len(seeds) * need.disk_seed
    facts |= {"needs": asdict(need), "memory": memory, "gpu_memory": gpu_memory, "disk": disk, "rows": rows}
    facts |= {"hours": elapsed(rows, processes) / 3600, "judged": sum(row["judged"] * row["runs"] for row in rows)}
    return facts | _endpoint(study, facts["judged"], sum(w["judged_tokens"] for w in work.values()) * len(seeds), price)


def _endpoint(study: Study | OwnModels, judged: int, tokens: float, price: tuple[float, float] | None) -> dict:
    """The kind of the judge, and tokens and price of an endpoint: read, and at most written."""
    judge = study.evaluation.judge if isinstance(study, Study) else None
    read = written = 0
    if judge and judge.name is not None:  # asked elsewhere, by the token
        read, written = round(judged * len(TEXT) / CHARACTERS + tokens), judged * judge.max_tokens
    paid = (read * price[0] + written * price[1]) / 1e6 if price else None
    return {"judge": judge.kind if judge else "none", "tokens_in": read, "tokens_out": written, "price": paid}


def seconds_by_notebook(study: Study | OwnModels) -> dict[str, float]:
    """Seconds that each notebook is expected to take here, by the name of its run; {} without an estimate."""
    return {row["stage"]: row["seconds"] for row in plan(study, study.seeds, 1)["rows"]}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("study")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; default: the study's")
    parser.add_argument("--cores", type=count, default=os.cpu_count() or 1, help="notebooks at a time")
    parser.add_argument("--price", type=price, nargs=2, metavar=("IN", "OUT"), help="of a million endpoint tokens")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    given = parser.parse_args(arguments)
    try:
        study = load_study(given.study)
        seeds = parse_seeds(given.seeds, study)
        say("measuring this machine for some seconds; no model or data is fetched")
        facts = plan(study, seeds, given.cores, given.price)
        if given.json:
            given.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except StudyError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {given.json} cannot be written ({error.strerror}): name another file")
        return 1
    print(table(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
