"""The provenance page: what the records beside the results say of code, machines, time and hashes."""

import json
from collections import defaultdict
from itertools import groupby

from helpers.html_tables import code, lines, link, table
from helpers.paths import RunPaths
from helpers.staging import Chapter, Selection, Staged


def provenance(study: Staged) -> str:
    """Environments, seconds per notebook, and hashes of the results of a study."""
    entries = sidecars(study.selection)
    title = study.selection.study.title
    parts = [f"## {title}: environment\n", _environments(entries)]
    parts += [f"## {title}: seconds per notebook\n", _durations([*study.chapters, *study.runs])]
    parts += [f"## {title}: results and their hashes\n", _hashes(study.selection, entries)]
    return "\n".join(parts)


def sidecars(selection: Selection) -> list[dict]:
    """The provenance of every result of a selection, in a fixed order, each with its file's path below the results."""
    name = selection.study.name
    entries = []
    for run in [RunPaths(name), *(RunPaths(name, seed) for seed in selection.seeds)]:
        for path in sorted(run.root.glob("*/*.json")):
            entry = json.loads(path.read_text(encoding="utf-8"))
            entries.append(entry | {"path": f"{name}/{path.relative_to(run.root.parent).as_posix()}"})
    return entries


def _environments(entries: list[dict]) -> str:
    """A table per environment that made results; one means that all results are comparable."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for entry in entries:
        groups[json.dumps(_facts(entry), sort_keys=True)].append(entry)
    sentence = f"{len(entries)} results, made in {len(groups)} environment{'s' if len(groups) != 1 else ''}.\n"
    shown = []
    for key, made in groups.items():
        facts = {"results": len(made), **json.loads(key)}
        shown.append(table(["fact", "value"], [[k.replace("_", " "), v] for k, v in facts.items()]))
    return "\n".join([sentence, *shown])


def _facts(entry: dict) -> dict[str, str]:
    """What an environment is: code, machine and versions."""
    dirty = {True: " with uncommitted changes", False: ""}.get(entry.get("git_dirty"), "")
    facts = {"revision": f"{entry.get('git_revision', 'unknown')}{dirty}", "settings": entry.get("settings", "")}
    facts |= {key: str(entry.get(key, "")) for key in ("device", "cpu", "threads", "platform", "python")}
    return facts | {name: str(found) for name, found in sorted(entry.get("packages", {}).items())}


def _durations(chapters: list[Chapter]) -> str:
    """Seconds per notebook over its runs."""
    durations: dict[str, list[float]] = defaultdict(list)
    for chapter in chapters:
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
    return json.loads(chapter.source.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
