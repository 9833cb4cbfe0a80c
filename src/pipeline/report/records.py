"""What the records beside results say of them: the provenance page, and whence published results come."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby

import yaml

from helpers import paths
from pipeline.report.chapters import Chapter, Staged
from pipeline.report.templates import render
from pipeline.results import environment
from pipeline.results.provenance import recorded
from pipeline.runs.selections import Selection

OF_ALL_CLAIMS = ("15_verdict", "17_sensitivity")  # chapters that speak of every claim
FACTS = ("device", "cpu", "threads", "platform", "python")


def banner(selection: Selection, notebook: str = "") -> str:
    """Markdown for the top of a study's chapter; empty where nothing needs to be said.

    The chapters of a claim, and those of all verdicts, have the study's caveat on it.
    """
    study = selection.study
    claims = study.claims if getattr(study, "caveats", None) else {}
    caveats = {name: study.caveats[name] for name in claims if name in study.caveats}
    own = {name: text for name, text in caveats.items() if notebook in (claims[name].notebook, *OF_ALL_CLAIMS)}
    facts = {"note": getattr(study, "note", None) or "", "caveats": own}
    return render("banner.md", selection=selection, **facts, **of_published(selection)).strip()


def of_published(selection: Selection) -> dict[str, str]:
    """The ``origin`` of published results, and what has ``changed`` since; {} for results of one's own."""
    return {"origin": origin(selection), "changed": changed(selection)} if selection.published else {}


def origin(selection: Selection) -> str:
    """By which revision, on what device, and when the results of a selection were made, in a few words of Markdown."""
    entries = recorded(selection.runs)
    made = sorted({f"`{entry['git_revision'][:12]}`{_dirty(entry)}" for entry in entries})
    days = sorted(entry["finished"][:10] for entry in entries)
    when = f"on {days[0]}" if days[0] == days[-1] else f"from {days[0]} to {days[-1]}"
    return f"by revision {' and '.join(made)} on {' and '.join(devices(entries))} {when}"


def revisions(selection: Selection) -> list[str]:
    """The revisions of the code that made the results of a selection's seeds, by their first 12 digits."""
    return sorted({entry["git_revision"][:12] for entry in recorded(selection.runs)})


def _dirty(entry: dict) -> str:
    return " with uncommitted changes" if entry.get("git_dirty") else ""


def devices(entries: Iterable[dict]) -> list[str]:
    """What computed some results: GPUs with their machines, or processors."""
    return sorted({e["cpu"] if e["device"] == "cpu" else f"{e['device']} ({e['cpu']})" for e in entries})


def changed(selection: Selection) -> str:
    """A sentence on the settings that have changed since the tables were published; empty if none has.

    Criteria are not among them: they are the ledger's, which says itself what has changed.
    """
    name = selection.study.name
    files = (paths.published_root() / name / paths.SETTINGS, paths.STUDIES / f"{name}.yml")
    then, now = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    decisive = {*then, *now} - {"title", "note", "caveats", "claims"}
    different = sorted(key for key in decisive if then.get(key) != now.get(key))
    return f"Settings changed since then: {', '.join(different)}." if different else ""


def _durations(study: Staged) -> dict[str, list[float]]:
    """Seconds of the runs of each notebook of the report; of a published study's seeds, where those were run."""
    found = defaultdict(list, spent(study.selection) if study.selection.published else {})
    for chapter in [*study.chapters, *study.runs]:
        if (duration := seconds(chapter)) is not None:
            found[chapter.place.name].append(duration)
    return dict(sorted(found.items()))


def spent(selection: Selection) -> dict[str, list[float]]:
    """Seconds of each run of a notebook until its last result, by the records of a selection's seeds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for entry in recorded(selection.runs):
        runs, run = found[entry["notebook"]], json.dumps(entry["parameters"], sort_keys=True)
        runs[run] = max(runs.get(run, 0.0), entry["seconds"])
    return {notebook: list(runs.values()) for notebook, runs in found.items()}


def seconds(chapter: Chapter) -> float | None:
    """Duration of an executed notebook, from papermill's record in it."""
    found = json.loads(chapter.source.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
    return None if found is None else max(found, 0.0)  # papermill's clock is the wall's, which may be set back


def provenance(study: Staged) -> str:
    """Environments, seconds per notebook, and hashes of the results of a study."""
    selection = study.selection
    entries = recorded([*selection.over_seeds, *selection.runs])
    facts = _environments(entries)
    return render(
        "provenance.md",
        selection=selection,
        entries=entries,
        facts=facts,
        mixed=sorted(name for name, values in facts.items() if len(values) > 1),
        today=against_today(entries),
        durations=_durations(study),
        runs={run: list(made) for run, made in groupby(entries, key=lambda entry: entry["run"])},
        **of_published(selection),
    )


def _environments(entries: list[dict]) -> dict[str, Counter]:
    """What made the results: code, machine and versions, each value with the number of results."""
    found: dict[str, Counter] = defaultdict(Counter)
    for entry in entries:
        facts = {"revision": entry.get("git_revision", "unknown") + _dirty(entry)}
        facts |= {key: entry.get(key, "") for key in ("settings", *FACTS)}
        for name, value in (facts | dict(sorted(entry.get("packages", {}).items()))).items():
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
