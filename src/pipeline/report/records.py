"""The provenance page: what the records beside the results say of code, machines, time and hashes."""

import json
from collections import Counter, defaultdict
from itertools import groupby

from pipeline.report.html import code, lines, link, table
from pipeline.report.published import changed, origin, spent
from pipeline.report.staging import Chapter, Staged
from pipeline.results import environment
from pipeline.results.provenance import read_record, records_of
from pipeline.runs.selections import Selection


def provenance(study: Staged) -> str:
    """Environments, seconds per notebook, and hashes of the results of a study."""
    entries = sidecars(study.selection)
    title = study.selection.study.title
    parts = [f"## {title}: environment\n", _published(study.selection), _environments(entries), _against_today(entries)]
    parts += [f"## {title}: seconds per notebook\n", _durations(study)]
    parts += [f"## {title}: results and their hashes\n", _hashes(study.selection, entries)]
    return "\n".join(parts)


def sidecars(selection: Selection) -> list[dict]:
    """The provenance of every result of a selection, in a fixed order, each with its file's path below the results."""
    name = selection.study.name
    entries = []
    for run in [*selection.over_seeds, *selection.runs]:
        for path in records_of(run):
            entries.append(read_record(path) | {"path": f"{name}/{path.relative_to(run.root.parent).as_posix()}"})
    return entries


def _published(selection: Selection) -> str:
    """A paragraph on published results, which are only in part made where the report is; else nothing."""
    if not selection.published:
        return ""
    made = f"These results are **published**: the tables of the seeds were made {origin(selection)}."
    rounded = "Their numbers are rounded, and each record keeps the hash of the table before that."
    return f"{made} {rounded} {changed(selection)} The tables over all seeds were made from them by this report.\n\n"


def _environments(entries: list[dict]) -> str:
    """One table of what made the results; a fact that differs between results shows each value with their number."""
    found: dict[str, Counter] = defaultdict(Counter)
    for entry in entries:
        for name, value in _facts(entry).items():
            found[name][value] += 1
    rows = []
    for name, values in found.items():
        several = [f"{value} ({count} of {len(entries)} results)" for value, count in values.most_common()]
        rows.append([name, lines(several if len(values) > 1 else values)])
    mixed = sorted(name for name, values in found.items() if len(values) > 1)
    same = f"not all made alike: they differ in {', '.join(mixed)}" if mixed else "all made in the same environment"
    return f"{len(entries)} results, {same}.\n\n{table(['fact', 'value'], rows, 'facts')}"


def _against_today(entries: list[dict]) -> str:
    """How far the environment of this report is from those of the results: a warning where it matters, and a table."""
    now, graded = environment.today(), {}
    for entry in entries:
        graded |= {(d.fact, d.then): d for d in environment.differences(entry, now)}
    overall = environment.worst(difference.grade for difference in graded.values())
    causes = sorted({d.fact for d in graded.values() if d.grade == overall})
    text = f"\nAgainst the environment of this report: **{overall}**.\n\n"
    if overall in (environment.MAY_DIFFER, environment.DIFFERS):
        verb = "may differ" if overall == environment.MAY_DIFFER else "cannot be expected to be the same"
        text += f":::{{warning}}\nNumbers made again here {verb}, because of another {', '.join(causes)}.\n:::\n\n"
    rows = [[d.fact, d.then, d.now, d.grade] for d in graded.values()]
    body = table(["fact", "of the results", "of this report", "grade"], rows, "facts")
    return f"{text}:::{{dropdown}} Fact by fact\n{body}:::\n"


def _facts(entry: dict) -> dict[str, str]:
    """What an environment is: code, machine and versions."""
    dirty = {True: " with uncommitted changes", False: ""}.get(entry.get("git_dirty"), "")
    facts = {"revision": f"{entry.get('git_revision', 'unknown')}{dirty}", "settings": entry.get("settings", "")}
    facts |= {key: str(entry.get(key, "")) for key in ("device", "cpu", "threads", "platform", "python")}
    return facts | {name: str(found) for name, found in sorted(entry.get("packages", {}).items())}


def _durations(study: Staged) -> str:
    """Seconds per notebook over its runs; of a published study's seeds, where those were run."""
    durations: dict[str, list[float]] = defaultdict(list, spent(study.selection) if study.selection.published else {})
    for chapter in [*study.chapters, *study.runs]:
        if (duration := seconds(chapter)) is not None:
            durations[chapter.place.name].append(duration)
    rows = [
        [name, len(d), f"{sum(d) / len(d):.1f}", f"{min(d):.1f} – {max(d):.1f}", f"{sum(d):.1f}"]
        for name, d in sorted(durations.items())
    ]
    total = ["all", sum(map(len, durations.values())), "", "", f"{sum(map(sum, durations.values())):.1f}"]
    return table(["notebook", "runs", "mean, s", "range, s", "sum, s"], [*rows, total])


def _hashes(selection: Selection, entries: list[dict]) -> str:
    """Per run, each result with the notebook that made it, its hash, and its full record."""
    parts = []
    for run, made in groupby(entries, key=lambda entry: entry["path"].split("/")[1]):
        rows = [
            [
                link(f"results/{entry['path']}", entry["path"].split("/", 2)[2].removesuffix(".json")),
                entry.get("notebook", ""),
                lines(map(code, entry.get("output", {}).values())),
                len(entry.get("inputs", {})),
            ]
            for entry in made
        ]
        body = table(["result (its record)", "notebook", "SHA-256, first 16 digits", "inputs"], rows)
        parts.append(f":::{{dropdown}} {selection.study.name}, {run}\n{body}:::\n")
    return "\n".join(parts)


def seconds(chapter: Chapter) -> float | None:
    """Duration of an executed notebook, from papermill's record in it."""
    found = json.loads(chapter.source.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
    return None if found is None else max(found, 0.0)  # papermill's clock is the wall's, which may be set back
