"""What the reader of a chapter may open next: the chapter after it, the card of its claim, the explorer set to it."""

import json
import posixpath
import re
from urllib.parse import urlencode

from helpers.paths import RunPaths
from helpers.studies.settings import Study
from pipeline.report.chapters import Chapter, Staged
from pipeline.report.explorer import TABLES
from pipeline.report.templates import render

TITLE = re.compile(r"^# (.*?)[ \t]*$", re.MULTILINE)
EXPLORED = {  # by chapter the panel of the explorer, and what is chosen there; the rest is as the page begins
    "10_C0_behaviour": ("behaviour", {"task": "harmful"}),
    "11_C1_parallel": ("behaviour", {"mode": "parallel"}),
    "12_C2_orthogonal": ("behaviour", {"mode": "orthogonal"}),
    "13_C3_updates": ("updates", {"pair": "alignment-harmful"}),
    "14_C4_activations": ("activations", {"prompts": "useful-harmful"}),
    "15_verdict": ("behaviour", {}),
    "30_own_models": ("updates", {}),
}


def what_next(chapter: Chapter, staged: Staged, following: Chapter | None) -> str:
    """A section for the end of a chapter of a study, with links from its place; ``following``: the chapter after it."""
    study, top = staged.selection.study, "../" * (len(chapter.place.parts) - 1)
    claims = study.claims.items() if isinstance(study, Study) else ()
    claim = next(((name, entry.question) for name, entry in claims if entry.notebook == chapter.place.name), None)
    panel, choices = EXPLORED.get(chapter.place.name, ("", {}))
    known = any(RunPaths(study.name).table(table).exists() for table in TABLES.get(panel, ()))
    address = urlencode({"study": study.name, **choices, "panel": panel})
    then = following and {
        "title": title_of(following),
        "link": posixpath.relpath(f"{following.place}.ipynb", chapter.place.parent),
    }
    return render("what_next.md", top=top, then=then, claim=claim, explored=known and address)


def title_of(chapter: Chapter) -> str:
    """The title of an executed notebook; its name, if it has none."""
    cells = json.loads(chapter.source.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return next((found[1] for text in texts if (found := TITLE.search(text))), chapter.place.name)
