"""The page of a card: its notebook executed on the tables, as one HTML file without scripts, and as a PDF."""

import html
import shutil
import subprocess
from pathlib import Path

import nbformat

from helpers.files import write_text
from helpers.paths import NOTEBOOKS
from pipeline.card.record import Card
from pipeline.runs.execute import execute

NAME = "31_card"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 120  # that a browser may take to print
SCROLLED = '<div class="output_html'  # how nbconvert begins what may be wider than a telephone
STYLE = Path(__file__).with_name("page.css")


def write_page(card: Card) -> Path:
    """Execute the notebook on the card's tables and write ``card.html``. Raises StudyError."""
    output = card.folder.notebook(NAME)
    execute(NOTEBOOKS / f"{NAME}.ipynb", output, {"study": card.study.name})
    body = _body(nbformat.read(output, as_version=4))
    body = body.replace(f"../results/{card.study.name}/all/", "")  # links to tables: the page lies beside them
    title = html.escape(f"Report card: {', '.join(card.study.tuned)}")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}'
    style = STYLE.read_text(encoding="utf-8")
    page = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</title>\n<style>\n{style}</style></head>\n<body><main>{body}'
    write_text(card.page, f"{page}</main></body></html>\n")
    return card.page


def _body(notebook: nbformat.NotebookNode) -> str:
    """Texts and results of a notebook, without its code."""
    from nbconvert import HTMLExporter  # here: who only wants an edited model need not wait for it

    notebook.cells = [cell for cell in notebook.cells if cell.source != "## Parameters"]
    exporter = HTMLExporter(template_name="basic", exclude_input=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    found = exporter.from_notebook_node(notebook)[0]
    return found.replace(SCROLLED, f'{SCROLLED[:4]} tabindex="0"{SCROLLED[4:]}')  # for the keyboard


def write_pdf(card: Card) -> Path | None:
    """Print the page as ``card.pdf`` through a Chromium; None where there is none, or it cannot print."""
    browser, final = next(filter(None, map(shutil.which, BROWSERS)), None), card.page.with_suffix(".pdf")
    if browser is None:
        return None
    final.unlink(missing_ok=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={final}"]
    try:
        command = [browser, *options, card.page.resolve().as_uri()]
        subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return final if final.exists() else None
