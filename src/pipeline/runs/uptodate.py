"""Which notebooks of a study have to run: decided by what results were made from, as their records say, never by time.

A record beside every result holds ``made_from`` (``pipeline.runs.stages``) and the hashes of its inputs; one beside
every executed notebook holds the same of the run. So a copied, moved or older file of the right content is up to date.
"""

import json
from pathlib import Path

from helpers.errors import Damaged
from helpers.files import write_text
from helpers.paths import published_root, results_root
from pipeline.results.provenance import read_record, recorded_of, shown_path, sidecar
from pipeline.runs.stages import Job, jobs_of


def pending(study, seeds: list[int], asked: str) -> list[Job]:
    """The jobs of a study whose results are not there, or were made from something else than is there now.

    In the order of their dependence; whoever reads from a pending job is pending. Results whose records cannot be read
    are made again. Raises StudyError for settings or a ledger that cannot be read.
    """
    published = asked == "published"
    hashes = _hashes(study.name, published)
    found, renewed = [], set()
    for job in jobs_of(study, seeds, asked):
        reads = job.reads(seeds, published)
        if not renewed.isdisjoint(reads) or not _is_current(job, reads, hashes):
            found.append(job)
            renewed |= set(job.writes)
    return found


def note(job: Job, seeds: list[int], seconds: float) -> None:
    """Record beside an executed notebook what it was made from. Raises Unwritable."""
    published = job.seeds == "published"
    hashes = _hashes(job.study.name, published)
    inputs = {shown_path(path): hashes.get(shown_path(path), "") for path in job.reads(seeds, published)}
    record = {"made_from": job.made_from, "inputs": inputs, "seconds": round(seconds, 2)}
    write_text(_beside(job), json.dumps(record, indent=1, sort_keys=True) + "\n")


def seconds_of(job: Job, since: float) -> float | None:
    """Seconds of a job's run if it ended after a time (s of the system's clock), else None."""
    try:
        return json.loads(_beside(job).read_text())["seconds"] if _beside(job).stat().st_mtime >= since else None
    except (OSError, ValueError, KeyError):
        return None


def _beside(job: Job) -> Path:
    return job.output.with_suffix(".json")


def _is_current(job: Job, reads: list[Path], hashes: dict[str, str]) -> bool:
    """Whether notebook and results of a job are there and were made from what is there now."""
    if not job.output.exists():
        return False
    made_from = job.made_from
    try:
        run = json.loads(_beside(job).read_text(encoding="utf-8"))
        results = [read_record(sidecar(path)) for path in job.writes if path.exists()]
    except (OSError, ValueError, Damaged):
        return False
    inputs = {shown_path(path): hashes.get(shown_path(path), "") for path in reads}
    whole = len(results) == len(job.writes) and run.get("made_from") == made_from and run.get("inputs") == inputs
    return whole and all(
        record.get("made_from") == made_from and all(hashes.get(n, h) == h for n, h in record["inputs"].items())
        for record in results
    )


def _hashes(study: str, published: bool) -> dict[str, str]:
    """The hash of every result of a study, own or published, by its recorded name."""
    places = [results_root() / study] + ([published_root() / study] if published else [])
    return {
        name: hashed for place in places for record in recorded_of(place) for name, hashed in record["output"].items()
    }
