"""The report as one PDF: ``python -m pipeline.report.pdf`` prints ``_build/html`` to ``_build/report.pdf``.

The pages are put one after the other into one document, which a Chromium prints with an outline: links between pages
lead within it. Code of notebooks, the explorer and the pages of single runs are left out; a link to what is not in it
is plain text.
"""

import posixpath
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from helpers import paths
from helpers.errors import StudyError
from helpers.files import beside, rename
from pipeline.report.templates import render
from pipeline.results import project
from pipeline.results.provenance import revision
from pipeline.runs.command_line import Parser, exit_status

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LEFT_OUT = "script, source, button, a.headerlink, div.cell_input, details.hide, link, iframe, .sd-summary-state-marker"
LIVE = "explorer"  # a page of which nothing is left on paper
HEADINGS = ("h5", "h4", "h3", "h2", "h1")  # each becomes one lower: a part of the report is above its pages
STYLE = Path(__file__).with_name("pdf.css")
FOOTER = '<div style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></span></div>'
MARGINS = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
READY = """async () => {
    await window.MathJax?.startup?.promise;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
    const images = [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src.slice(0, 200));
    const formulas = [...document.querySelectorAll('article .math')].filter((e) => !e.querySelector('mjx-container'));
    return [...images.map((place) => `the image ${place}`), ...formulas.map((e) => `the formula ${e.textContent}`)];
}"""
Parts = list[tuple[str, list[str]]]  # caption of each part of the report and its pages, such as ``notebooks/16_power``


def parts_of(stage: Path) -> Parts:
    """The parts of a staged report but its appendix and what is chosen live; the first page is a part of its own."""
    contents = yaml.safe_load((stage / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(part["caption"], [one["file"] for one in part["chapters"]]) for part in contents["parts"]]
    parts = [(caption, [page for page in pages if page != LIVE]) for caption, pages in parts]
    return [("The answer", [contents["root"]]), *(part for part in parts if part[0] != "Appendix")]


def document(html: Path, parts: Parts) -> str:
    """All pages as one HTML document, for a file in the folder ``html``."""
    places = {page for _, pages in parts for page in pages}
    found = [(caption, [_article(html, page, places) for page in pages]) for caption, pages in parts]
    first = BeautifulSoup((html / "index.html").read_text(encoding="utf-8"), "html.parser")
    styles = [link["href"] for link in first.select('link[rel="stylesheet"]')]
    code = revision()["git_revision"]
    facts = {"version": project.version(), "revision": code, "date": datetime.now(UTC).date().isoformat()}
    own = STYLE.read_text(encoding="utf-8")
    return render("print.html", parts=found, title=first.title.string, styles=styles, own=own, **facts)


def _article(html: Path, page: str, places: set[str]) -> dict[str, str]:
    """Title, anchor and contents of a page, its links and names made right for the one document."""
    soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    for tag in article.select(LEFT_OUT):
        tag.decompose()
    for section in article.select("section"):  # of code alone
        if not section.select_one("p, figure, table, ul, pre, img, section, div.math"):
            section.decompose()
    title = article.find("h1").get_text(strip=True)
    for tag in article.find_all(True):
        if tag.get("id"):
            tag["id"] = _anchor(page, tag["id"])
        if tag.name in HEADINGS:
            tag.name = f"h{int(tag.name[1]) + 1}"
        elif tag.name == "details":
            tag["open"] = ""
        elif tag.name == "a":
            _link(tag, page, places)
        elif tag.name == "img":
            del tag["loading"]
            tag["src"] = tag["src"] if urlsplit(tag["src"]).scheme else _below(page, tag["src"])
    return {"title": title, "anchor": _anchor(page), "text": article.decode_contents()}


def _anchor(page: str, name: str = "") -> str:
    """Name of a page, or of a place in it, in the one document."""
    return "--".join([page.replace("/", "-"), *([name] if name else [])])


def _below(page: str, link: str) -> str:
    """Path of a page's relative link, from the top of the report."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _link(tag: Tag, page: str, places: set[str]) -> None:
    """Have a link lead to its page in the document, or be plain text where that is not in it."""
    parts = urlsplit(tag.get("href", ""))
    if parts.scheme in ("http", "https"):
        return
    target = _below(page, unquote(parts.path)).removesuffix(".html") if parts.path else page
    if target in places:
        tag["href"] = "#" + _anchor(target, unquote(parts.fragment))
    else:
        tag.unwrap()


def browser() -> str:
    """Path of a Chromium: the system's, or the one that Playwright got. Raises StudyError if there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    found = next((path for path in [*map(shutil.which, BROWSERS), own] if path and Path(path).exists()), None)
    if found is None:
        raise StudyError(
            "a PDF needs a Chromium: install one, or run `.venv/bin/python -m playwright install chromium`"
        )
    return found


def print_report(folder: Path) -> Path:
    """Print the report in ``folder/html`` as ``folder/report.pdf``. Raises StudyError, Unwritable."""
    html, final = folder / "html", folder / "report.pdf"
    if not ((html / "index.html").exists() and (folder / "stage" / "_toc.yml").exists()):
        raise StudyError(f"there is no report in {html}: make it first with `make book`")
    from playwright.sync_api import Error, sync_playwright

    path, text = browser(), document(html, parts_of(folder / "stage"))
    with beside(html / "print.html") as page, beside(final) as printed:
        source = page.with_suffix(".html")
        try:
            source.write_text(text, encoding="utf-8")
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
                _print(chromium.new_page(), source, printed)
                chromium.close()
        except Error as error:
            why = error.message.splitlines()[0]
            raise StudyError(f"{path} could not print the report ({why}): try another Chromium") from None
        finally:
            source.unlink(missing_ok=True)
        rename(printed, final)
    return final


def _print(page: object, source: Path, target: Path) -> None:
    """Print a document once its formulas and images are there. Raises StudyError for one that is not."""
    page.set_default_timeout(600_000)
    page.goto(source.as_uri(), wait_until="load")
    if missing := page.evaluate(READY):
        raise StudyError(f"{missing[0]} is not in the report: make it again with `make book`")
    options = {"format": "A4", "margin": MARGINS, "print_background": True, "outline": True, "tagged": True}
    page.pdf(
        path=target, display_header_footer=True, header_template="<span></span>", footer_template=FOOTER, **options
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--report", type=Path, default=paths.ROOT / "_build", help="folder of the report; default: _build"
    )
    given = parser.parse_args(arguments)
    return exit_status(lambda: f"PDF: {print_report(given.report)}", "stopped: there is no new PDF")


if __name__ == "__main__":
    sys.exit(main())
