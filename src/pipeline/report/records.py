"""The provenance page: what the records beside the results say of code, machines, time and hashes."""

import json
from collections import Counter, defaultdict
from itertools import groupby

from pipeline.report.published import changed, origin, spent
from pipeline.report.staging import Chapter, Staged
from pipeline.report.templates import render
from pipeline.results import environment
from pipeline.results.provenance import read_record, records_of
from pipeline.runs.selections import Selection

FACTS = ("device", "cpu", "threads", "platform", "python")


def provenance(study: Staged) -> str:
    """Environments, seconds per notebook, and hashes of the results of a study."""
    selection, entries = study.selection, sidecars(study.selection)
    facts = _environments(entries)
    published = {"origin": origin(selection), "changed": changed(selection)} if selection.published else {}
    return render(
        "provenance.md",
        selection=selection,
        entries=entries,
        facts=facts,
        mixed=sorted(name for name, values in facts.items() if len(values) > 1),
        today=against_today(entries),
        durations=_durations(study),
        runs={run: list(made) for run, made in groupby(entries, key=lambda entry: entry["run"])},
        **published,
    )


def sidecars(selection: Selection) -> list[dict]:
    """The provenance of every result of a selection, in a fixed order, with its ``run`` and its ``result``'s name."""
    return [
        read_record(path) | {"run": run.root.name, "result": path.relative_to(run.root).with_suffix("").as_posix()}
        for run in [*selection.over_seeds, *selection.runs]
        for path in records_of(run)
    ]


def _environments(entries: list[dict]) -> dict[str, Counter]:
    """What made the results: code, machine and versions, each value with the number of results."""
    found: dict[str, Counter] = defaultdict(Counter)
    for entry in entries:
        dirty = " with uncommitted changes" if entry.get("git_dirty") else ""
        facts = {"revision": f"{entry.get('git_revision', 'unknown')}{dirty}", "settings": entry.get("settings", "")}
        facts |= {key: entry.get(key, "") for key in FACTS} | dict(sorted(entry.get("packages", {}).items()))
        for name, value in facts.items():
            found[name][str(value)] += 1
    return found


def against_today(entries: list[dict]) -> str:
    """How far the environment of this report is from those of the results: a warning where it matters, and a table."""
    now, graded = environment.today(), {}
    for entry in entries:
        graded |= {(d.fact, d.then): d for d in environment.differences(entry, now)}
    overall = environment.worst(difference.grade for difference in graded.values())
    causes = sorted({d.fact for d in graded.values() if d.grade == overall})
    return render("today.md", overall=overall, causes=causes, differences=list(graded.values()))


def _durations(study: Staged) -> list[tuple[str, list[float]]]:
    """Seconds of the runs of each notebook; of a published study's seeds, where those were run."""
    found: dict[str, list[float]] = defaultdict(list, spent(study.selection) if study.selection.published else {})
    for chapter in [*study.chapters, *study.runs]:
        if (duration := seconds(chapter)) is not None:
            found[chapter.place.name].append(duration)
    return sorted(found.items())


def seconds(chapter: Chapter) -> float | None:
    """Duration of an executed notebook, from papermill's record in it."""
    found = json.loads(chapter.source.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
    return None if found is None else max(found, 0.0)  # papermill's clock is the wall's, which may be set back
