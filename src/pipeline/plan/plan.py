"""What a study will fetch, need and take here, before anything is fetched: ``python -m pipeline.plan.plan organism``.

Work is counted from the settings (``work``), the machine is timed for some seconds (``rates``), and both together give
the time of every notebook: expect the whole within a factor of two on an idle machine. A model whose size cannot be
told has no estimate; that is said, and is no error.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from helpers import wheels
from helpers.data.registry import DATASETS
from helpers.errors import StudyError
from helpers.evaluation.judges.kept import rubric_of
from helpers.memory import say
from helpers.paths import results_root
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels, Study, load_study, parse_seeds
from pipeline.plan import notebooks
from pipeline.plan import work as counting
from pipeline.plan.sizes import NUMBERS, Size, config_of, config_of_study, exact
from pipeline.runs.command_line import Parser, count, price
from pipeline.runs.stages import PER_SEED, STAGES, of_study

REFERENCE = 5.0  # seconds to import torch and transformers where the costs of the stages were taken
NOTEBOOK = 1.7  # start of a notebook with models, over that of an interpreter
REPORT = (20.0, 0.25)  # seconds of building the report, and for each notebook in it
SHARED = 1.2  # seconds of a process beside others on the same machine, over seconds alone
CHARACTERS = 4  # of a token of the rubric


def machine() -> dict[str, Any]:
    """Name of the GPU (empty without one), cores, and bytes of memory, of GPU memory, and free below the results."""
    import torch

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
    return {name: (one, exact(config_of(one, ask=True))) for name, one in given.items() if one}


def downloads(study: Study | OwnModels, models: dict[str, tuple[Origin, Size | None]]) -> list[dict[str, Any]]:
    """Everything that a study fetches, models first: ``what`` (all names of it), ``where``, bytes (0: not known), and
    whether it is ``here`` already.
    """
    found: dict[str, dict] = {}
    for what, origin, size in _fetched(study, models):
        if origin.origin == "package":
            pinned = wheels.PACKAGES[origin.package]
            where, size = f"package {origin.package} {pinned.version}", pinned.megabytes * 1e6
            files = [origin.file] if origin.file else DATASETS[what].packaged.files
            here = all(wheels.place(origin.package, file).exists() for file in files)
        elif origin.origin == "hub":
            where, here = f"hub: {origin.id}", _in_hub_cache(origin)
        else:
            continue
        found.setdefault(where, {"what": [], "where": where, "size": size, "here": here})["what"].append(what)
    return list(found.values())


def _fetched(study: Study | OwnModels, models: dict) -> Iterator[tuple[str, Origin, float]]:
    """Name, origin and bytes of each model and of each data set that is not made here."""
    for name, (origin, size) in models.items():
        yield f"{name} model", origin, counting.BFLOAT16 * size.parameters if size else 0.0
    sources = {source for _, source in study.sources()} & set(DATASETS)
    given = {DATASETS[source].key for source in sources} & {k for k, v in study.data.items() if v.origin != "package"}
    for key in sorted(given):
        yield key, study.data[key], NUMBERS["hub_megabytes"].get(key, 0) * 1e6
    for source in sorted(sources):
        if DATASETS[source].package and DATASETS[source].key not in given:
            yield source, Origin.model_construct(origin="package", package=DATASETS[source].package), 0.0


def _in_hub_cache(origin: Origin) -> bool:
    """Whether more of a model or data set is in the hub's cache than the ``config.json`` that a plan fetches itself."""
    from huggingface_hub.constants import HF_HUB_CACHE  # here: studies without the hub need not wait for it

    snapshots = Path(HF_HUB_CACHE).glob(f"*--{origin.id.replace('/', '--')}/snapshots/*/*")
    return any(file.name != "config.json" for file in snapshots)


def rows_of(study: Study | OwnModels, work: dict[str, Counter], rates: Counter, seeds: int) -> list[dict[str, Any]]:
    """Every notebook of the study; one whose work is not counted takes as long as in the organism study."""
    rows = []
    for name in {*work, *(set(of_study(STAGES, study)) - {run.split("-")[0] for run in work})}:
        start = NOTEBOOK if name in work else STAGES[name].seconds / REFERENCE
        amounts, per_seed = work.get(name, Counter()), name.split("-")[0] in PER_SEED
        seconds = start * rates["start"] + counting.seconds(amounts, rates)
        runs, judged = seeds if per_seed else 1, round(amounts["judged"])
        rows.append({"stage": name, "runs": runs, "seconds": seconds, "judged": judged, "per_seed": per_seed})
    return sorted(rows, key=lambda row: row["stage"])


def elapsed(rows: list[dict[str, Any]], processes: int) -> float:
    """Seconds to the report with that many notebooks at a time: all shared out, or the longest chain of one seed."""
    longest: Counter = Counter()  # of notebooks 1, 2, and the others, which run side by side
    for row in filter(lambda row: row["per_seed"], rows):
        phase = min(row["stage"][:2], "03")
        longest[phase] = max(longest[phase], row["seconds"])
    seeds, single = (
        sum(row["seconds"] * row["runs"] for row in rows if row["per_seed"] == of_seed) / processes
        for of_seed in (True, False)
    )
    report = REPORT[0] + REPORT[1] * sum(row["runs"] for row in rows)
    return (SHARED if processes > 1 else 1.0) * (max(seeds, longest.total()) + single) + report


def plan(study: Study | OwnModels, seeds: list[int], processes: int, price: tuple[float, float] | None = None) -> dict:
    """Everything that plan.txt shows of a study here; bytes and seconds. Fetches at most a model's ``config.json``.

    ``price``: of a million tokens that an endpoint reads, and of a million that it writes. ``needs`` is None, and what
    follows from it is not there, where the size of the models cannot be told.
    """
    here, models = machine(), models_of(study)
    size = models["base"][1] if "base" in models else exact(config_of_study(study))
    processes, fetched = 1 if here["gpu"] else processes, downloads(study, models)
    facts = {"study": study.name, "seeds": seeds, "processes": processes, "machine": here, "needs": None, "rows": []}
    facts |= {"downloads": fetched, "parameters": size and size.parameters}
    if size is None:
        return facts
    from pipeline.plan.rates import measured  # here: whoever reads only the settings need not wait for torch

    rates, work, need = measured(study, size), notebooks.of_study(study, size), counting.needs(study, size)
    judging = models.get("judge", (None, None))[1]
    rates["judged_tokens"] = rates["tokens"] * judging.multiplied / size.multiplied if judging else 0
    rows, gpu_memory = rows_of(study, work, rates, len(seeds)), max(need.training, need.evaluation)
    memory = need.projection if here["gpu"] else processes * max(gpu_memory, need.projection)
    shared = need.disk_shared + sum(one["size"] for one in fetched)
    facts |= {"needs": need, "memory": memory, "gpu_memory": gpu_memory, "rows": rows, "disk_shared": shared}
    facts |= {"disk": shared + len(seeds) * need.disk_seed, "hours": elapsed(rows, processes) / 3600}
    return facts | _judging(study, work, len(seeds), price)


def _judging(study: Study | OwnModels, work: dict, seeds: int, price: tuple[float, float] | None) -> dict:
    """The judge's kind, the answers it judges, and an endpoint's tokens and price: read, and at most written."""
    judge = study.evaluation.judge if isinstance(study, Study) else None
    judged, tokens = (seeds * round(sum(w[unit] for w in work.values())) for unit in ("judged", "judged_tokens"))
    read = written = 0
    if judge and judge.name is not None:  # asked elsewhere, by the token
        read, written = round(judged * len(rubric_of(judge)) / CHARACTERS + tokens), judged * judge.max_tokens
    paid = (read * price[0] + written * price[1]) / 1e6 if price else None
    kind = judge.kind if judge else "none"
    return {"judge": kind, "judged": judged, "tokens_in": read, "tokens_out": written, "price": paid}


def text(facts: dict) -> str:
    """All parts of a plan for the terminal, with a warning for whatever this machine has too little of."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")).render(facts)


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
    given = parser.parse_args(arguments)
    try:
        study = load_study(given.study)
        seeds = parse_seeds(given.seeds, study)
        say("measuring this machine for some seconds; no model or data is fetched")
        print(text(plan(study, seeds, given.cores, given.price)))
    except StudyError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
