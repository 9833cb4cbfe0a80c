"""What is said of a study where its results are shown: of which models it is, and where published results come from."""

import json
from pathlib import Path

import yaml

from helpers import paths
from pipeline.report.templates import render
from pipeline.results.provenance import recorded
from pipeline.runs.selections import Selection

SETTINGS = "settings.yml"  # copy of the settings that the published tables were made with, beside them


def banner(selection: Selection) -> str:
    """Markdown for the top of each of a study's chapters; empty where nothing needs to be said."""
    note, published = getattr(selection.study, "note", None) or "", selection.published
    facts = {"origin": origin(selection), "changed": changed(selection)} if published else {}
    return render("banner.md", selection=selection, note=note, **facts).strip()


def origin(selection: Selection) -> str:
    """By which revision, on what device, and when the results of a selection were made, in a few words of Markdown."""
    entries = recorded(selection.runs)
    revisions = sorted({_revision(entry) for entry in entries})
    devices = sorted({device(entry) for entry in entries})
    days = sorted(entry["finished"][:10] for entry in entries)
    when = f"on {days[0]}" if days[0] == days[-1] else f"from {days[0]} to {days[-1]}"
    return f"by revision {' and '.join(revisions)} on {' and '.join(devices)} {when}"


def spent(selection: Selection) -> dict[str, list[float]]:
    """Seconds of each run of a notebook until its last result, by the records of a selection's seeds."""
    found: dict[tuple[str, str], float] = {}
    for entry in recorded(selection.runs):
        run = (entry["notebook"], json.dumps(entry["parameters"], sort_keys=True))
        found[run] = max(found.get(run, 0.0), entry["seconds"])
    names = sorted({notebook for notebook, _ in found})
    return {name: [seconds for (notebook, _), seconds in found.items() if notebook == name] for name in names}


def _revision(entry: dict) -> str:
    return f"`{entry['git_revision'][:12]}`" + (" with uncommitted changes" if entry["git_dirty"] else "")


def device(entry: dict) -> str:
    """What computed a result: a GPU with its machine, or the processor."""
    return entry["cpu"] if entry["device"] == "cpu" else f"{entry['device']} ({entry['cpu']})"


def changed(selection: Selection) -> str:
    """A sentence on the settings that have changed since the tables were published; empty if none has.

    Criteria are not among them: they are the ledger's, which says itself what has changed.
    """
    name = selection.study.name
    files = (paths.published_root() / name / SETTINGS, paths.STUDIES / f"{name}.yml")
    then, now = (_settings(path) for path in files)
    different = sorted(key for key in {*then, *now} - {"title", "note", "claims"} if then.get(key) != now.get(key))
    return f"Settings changed since then: {', '.join(different)}." if different else ""


def _settings(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
