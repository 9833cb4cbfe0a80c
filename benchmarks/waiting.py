"""How long one waits: imports of each chapter, a whole ``make book``, and one with nothing to do.

``python -m benchmarks.waiting`` (part of ``make bench``) runs a study into a folder of its own, so that nothing of the
user's is touched. Processor seconds are those of the whole machine meanwhile, so it must be idle otherwise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks import tables
from helpers.paths import NOTEBOOKS, ROOT, results_root
from pipeline.runs.stages import APART, CHAPTERS

REPEATS = 3  # of the imports, of which the fastest counts
RUN = [sys.executable, "-m", "pipeline.build"]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and save the table ``waiting``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="smoke", help="the study of which the book is made; default: smoke")
    parser.add_argument("--out", type=Path, default=results_root() / "bench")
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    rows = [imports(name) for name in CHAPTERS | APART if name not in ("22_judge_validation", "30_own_models")]
    with tempfile.TemporaryDirectory() as folder:
        rows += book(given.study, Path(folder))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.1f"))
    facts = {"study": "bench", "cores": os.cpu_count(), "seconds": time.perf_counter() - started}
    tables.write(given.out / "tables", "waiting", table, facts)


def imports(notebook: str) -> dict[str, object]:
    """Seconds in which a fresh interpreter imports what a chapter imports."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code").splitlines()
    code = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
    runs = [timed(lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)) for _ in range(REPEATS)]
    return {"what": f"imports of {notebook}", **min(runs, key=lambda run: run["wall_seconds"])}


def book(study: str, folder: Path) -> list[dict[str, object]]:
    """Seconds of ``make book`` from the weights to the report, and of the same command again."""
    environment = {**os.environ, "SUBSPACES_RESULTS": str(folder / "results"), "OMP_NUM_THREADS": "1"}
    command = [*RUN, study, "--report", str(folder / "build")]
    rows = []
    for what in (f"book of study {study}", f"book of study {study}, nothing to do"):
        run = timed(lambda: subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL))
        rows.append({"what": what, **run})
    return rows


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds by the clock and of the machine's processors while a piece of work is done."""
    began, busy = time.perf_counter(), _busy()
    work()
    return {"wall_seconds": time.perf_counter() - began, "cpu_seconds": _busy() - busy}


def _busy() -> float:
    """Processor seconds that the machine has computed since it started; NaN where /proc cannot tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")
    user, nice, system, _idle, _wait, *rest = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:2])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
