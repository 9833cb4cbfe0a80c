"""The built report, page by page in a real browser: nothing broken, nothing fetched from elsewhere, nothing hidden.

Two reports are looked at: one built here from synthetic results, which hold hostile text, and the one of a study that
really ran: the smoke study through the workflow, or whatever $REPORT_HTML names.
"""

import io
import os
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import matplotlib.image
import pytest
from playwright.sync_api import Error as BrowserError

import axe
from helpers.errors import StudyError
from helpers.paths import RunPaths
from helpers.studies.settings import load_study
from pipeline.report import build as report
from pipeline.runs.selections import Selection
from synthetic_report import write_notebook, write_results

pytestmark = pytest.mark.slow
SELECTIONS = [
    Selection(load_study("organism"), [0]),
    Selection(load_study("smoke"), [0]),
    Selection(load_study("smollm2-135m"), [0], published=True),
]
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
BEYOND = """all => all.filter((e) => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 80))"""
HOSTILE = {"index.html", "all-numbers.html", "notebooks/15_verdict.html"}  # pages that results are in
KINDS = ["index", "method", "all-numbers", "explorer", "how-built", "11_C1_parallel", "15_verdict", "05_projection"]
MATH_READY = """() => [...document.querySelectorAll('article .math')].every((e) => e.querySelector('mjx-container'))
    && document.readyState === 'complete'"""
FACTS = """() => ({
    broken: [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.outerHTML.slice(0, 200)),
    math: document.querySelectorAll('mjx-container').length,
    mathErrors: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
    figures: [...document.querySelectorAll('article figure')].map((f) => ({
        image: !!f.querySelector('img')?.naturalWidth, alt: f.querySelector('img')?.alt.trim(),
        told: f.querySelector('.takeaway')?.textContent === f.querySelector('img')?.alt,
        caption: f.querySelector('figcaption')?.textContent.trim(),
        tables: [...f.querySelectorAll('figcaption a[href$=".csv"]')].length})),
    formulas: document.querySelectorAll('article .math').length,
    loaded: performance.getEntriesByType('resource').filter((r) => r.initiatorType === 'script')
        .map((r) => [r.name, r.decodedBodySize]),
    attacked: window.attacked ?? null,
    scripts: [...document.querySelectorAll('article :is(script, iframe, object, embed)')].length,
})"""


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """Folder of a report of three studies, one of them published, built from synthetic results."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBSPACES_RESULTS", str(root / "results"))
        patch.setenv("SUBSPACES_PUBLISHED", str(root / "published"))
        for selection in SELECTIONS:
            write_results(selection.study, selection.seeds, selection.published)
        report.build(SELECTIONS, root / "build")
    return root / "build" / "html"


@pytest.fixture(scope="session", params=["synthetic", "real"])
def html(request):
    """Folder of the report under test."""
    if request.param == "synthetic":
        return request.getfixturevalue("synthetic")
    return Path(os.environ.get("REPORT_HTML") or request.getfixturevalue("smoke").html)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line per request."""

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture(scope="session")
def address(html):
    """Address of the report on a loopback server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(html))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pages_of(html: Path) -> list[str]:
    return sorted(path.relative_to(html).as_posix() for path in html.rglob("*.html") if "_static" not in path.parts)


def by_name(html: Path) -> dict[str, str]:
    """One page of each name, such as that of the first seed: name without a suffix -> page."""
    return {PurePosixPath(name).stem: name for name in reversed(pages_of(html))}


@pytest.fixture(scope="session")
def visits(html, synthetic, address, chromium):
    """What the browser saw on each page: facts of the page, console errors, failed and outside requests."""
    context = chromium.new_context(color_scheme="light", viewport=axe.WIDE)
    axed = HOSTILE if html == synthetic else {by_name(html)[kind] for kind in KINDS}  # axe takes seconds a page
    seen = {name: visit(context, address, name, name in axed) for name in pages_of(html)}
    context.close()
    return seen


def visit(context, address: str, name: str, axed: bool) -> dict:
    """What is seen on a page, with axe if it is to look at it too."""
    page, errors, outside = context.new_page(), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url[:200]}"))
    page.on("response", lambda answer: answer.status < 400 or errors.append(f"{answer.status}: {answer.url}"))
    page.on("request", lambda request: outside.append(request.url) if not inside(request.url, address) else None)
    page.goto(f"{address}/{name}", wait_until="load")
    try:
        page.wait_for_function(MATH_READY, timeout=20_000)
    except BrowserError:
        errors.append("formulas are not rendered")
    facts = page.evaluate(FACTS)
    for mode in ("light", "dark"):
        page.emulate_media(color_scheme=mode)
        page.wait_for_function("mode => document.documentElement.dataset.theme === mode", arg=mode, timeout=10_000)
        broken = axe.violations(page, mode) if axed else []
        facts |= {f"poor contrast, {mode}": page.evaluate(CONTRAST), f"axe, {mode}": broken}
    page.close()
    return facts | {"errors": errors, "outside": outside}


def inside(url: str, address: str) -> bool:
    return url.startswith((address + "/", "data:", "blob:"))


def each(visits: dict, fact: str) -> dict:
    """Pages where a list of complaints is not empty."""
    return {name: seen[fact] for name, seen in visits.items() if seen[fact]}


def test_there_are_no_errors_on_any_page(visits):
    assert each(visits, "errors") == {}


def test_no_page_asks_another_host_for_anything(visits):
    assert each(visits, "outside") == {}


def test_scripts_are_light_and_formulas_have_theirs_alone(visits):
    for name, seen in visits.items():
        mathjax = {url for url, _ in seen["loaded"] if "mathjax" in url}
        assert bool(mathjax) == bool(seen["formulas"]), name
        others = {url.split("/_static/")[-1]: size for url, size in seen["loaded"] if url not in mathjax}
        assert 0 < sum(others.values()) < 1_000_000, (name, others)


def test_every_image_is_shown(visits):
    assert each(visits, "broken") == {}


def test_formulas_are_rendered(visits):
    assert visits["method.html"]["math"] > 20
    assert each(visits, "mathErrors") == {}


def test_every_figure_says_what_is_found_and_has_a_caption_and_its_table(visits):
    figures = {name: seen["figures"] for name, seen in visits.items() if seen["figures"]}
    chapters = [name for name in visits if name.startswith("notebooks/")]
    assert {name for name in chapters if name not in figures} <= {"notebooks/15_verdict.html"}
    poor = [(name, f) for name, found in figures.items() for f in found if not all(f.values())]
    assert poor == []


def test_text_of_models_does_nothing(visits):
    assert each(visits, "attacked") == {}
    assert each(visits, "scripts") == {}


class Links(HTMLParser):
    """The ids and the references of a page."""

    def __init__(self, page: Path):
        super().__init__()
        self.ids, self.references, self.outside = set(), [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Collect what the tag defines and what it refers to."""
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        for key in ("href", "src", "data-src"):
            reference = values.get(key)
            if not reference or reference.startswith(("data:", "mailto:")):
                continue
            parts = urlsplit(reference)
            if not (parts.scheme or parts.netloc):
                self.references.append(reference)
            elif tag != "a":
                self.outside.append(reference)


@pytest.fixture(scope="session")
def links(html):
    """Links of every page, from its source."""
    return {name: Links(html / name) for name in pages_of(html)}


def test_every_internal_link_has_its_page_and_its_anchor(html, links):
    broken = []
    for name, page in links.items():
        for reference in page.references:
            parts = urlsplit(reference)
            target = (html / name).parent / unquote(parts.path) if parts.path else html / name
            anchors = links.get(os.path.relpath(target.resolve(), html.resolve()))
            anchor = "" if target.name == "explorer.html" else parts.fragment  # there it holds what is chosen
            if not target.is_file() or (anchors and anchor and unquote(anchor) not in anchors.ids):
                broken.append(f"{name}: {reference}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(links):
    assert {name: page.outside for name, page in links.items() if page.outside} == {}


def test_pages_open_from_the_disk(chromium, html):
    page, errors = chromium.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: errors.append(request.url[:200]))
    for name in ("index.html", "method.html", "notebooks/15_verdict.html"):
        page.goto((html / name).as_uri())
        page.wait_for_function(MATH_READY, timeout=20_000)
    page.close()
    assert errors == []


def test_the_landing_page_answers_without_scrolling_and_shows_the_verdicts(chromium, address):
    page = chromium.new_page(viewport=axe.WIDE)
    page.goto(f"{address}/index.html")
    assert (
        page.locator("article h1").inner_text().startswith("Is the safety")
        and page.locator(".answer .finding strong").inner_text()
    )
    assert page.locator(".answer").evaluate("e => e.getBoundingClientRect().bottom") <= axe.WIDE["height"]
    claims = page.locator("table.forest tr.claim a")
    assert claims.all_inner_texts() == ["C0", "C1", "C2", "C3", "C4"]
    rows = page.locator("table.forest tbody tr:not(.claim)")
    assert rows.count() >= claims.count() and page.locator("table.forest .verdict").count() >= rows.count()
    assert page.locator(".claim-card").evaluate_all("all => all.map((one) => one.id)") == claims.all_inner_texts()
    page.set_viewport_size(axe.NARROW)
    assert page.locator(".answer .finding").evaluate("e => e.getBoundingClientRect().bottom") <= axe.NARROW["height"]
    assert page.locator("html").evaluate("e => e.scrollWidth <= e.clientWidth")
    page.close()


def test_the_explorer_shows_every_study_that_has_tables(chromium, html, address):
    page, studies = chromium.new_page(), {path.stem for path in (html / "explorer").glob("*.js")}
    page.goto(f"{address}/explorer.html")
    if studies:
        page.locator('[data-explorer="behaviour"] svg').first.wait_for()
        choices = page.locator("#explorer-study option").evaluate_all("all => all.map((one) => one.value)")
        assert set(choices) == studies
    else:  # synthetic results have no such tables
        assert "No study of this report has tables" in page.locator(".explorer").inner_text()
    page.close()


def test_on_a_phone_the_verdicts_need_no_scrolling(chromium, address):
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/all-numbers.html")
    for place in ("html", "div.wide:has(table.verdicts)"):
        assert page.locator(place).evaluate("e => e.scrollWidth <= e.clientWidth"), place
    cell = page.locator("table.verdicts td").first
    assert cell.evaluate("e => getComputedStyle(e, '::before').content").startswith(
        f'"{cell.get_attribute("data-head")}'
    )
    page.close()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_is_legible(visits, mode):
    assert each(visits, f"poor contrast, {mode}") == {}


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_no_violation_on_pages_of_every_kind(visits, mode):
    assert each(visits, f"axe, {mode}") == {}


@pytest.mark.soak
@pytest.mark.parametrize("html", ["real"], indirect=True)
def test_axe_finds_no_violation_on_a_page_of_any_name(html, address, chromium):
    """The pages of the kinds that the test above looks at, and all others."""
    context = chromium.new_context(color_scheme="light", viewport=axe.WIDE)
    seen = {name: visit(context, address, name, True) for name in by_name(html).values()}
    context.close()
    assert [each(seen, f"axe, {mode}") for mode in ("light", "dark")] == [{}, {}]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_keep_their_light_ground(chromium, address, mode):
    page = chromium.new_page(color_scheme=mode)
    page.goto(f"{address}/notebooks/10_C0_behaviour.html")
    image = page.locator("article figure img").first
    dimmed = {"light": "none", "dark": "brightness(0.85)"}  # colours keep their hues, and white does not dazzle
    assert image.evaluate("e => getComputedStyle(e).filter") == dimmed[mode]
    pixels = matplotlib.image.imread(io.BytesIO(image.screenshot()))[..., :3]
    page.close()
    assert pixels.mean() > 0.75
    assert pixels.min() < 0.45  # something is drawn on it


def test_a_figure_opens_large_and_closes(chromium, address):
    page = chromium.new_page()
    page.goto(f"{address}/notebooks/10_C0_behaviour.html")
    image, large, shown = page.locator("article figure img").first, page.locator("dialog.enlarged img"), []
    for size in (axe.WIDE, axe.NARROW):  # where it is narrow there is another one, whose panels lie below one another
        page.set_viewport_size(size)
        image.click()
        shown.append(image.evaluate("image => image.currentSrc"))
        assert large.is_visible() and large.get_attribute("src") == shown[-1]
        page.keyboard.press("Escape")
        page.locator("dialog.enlarged").wait_for(state="detached")
    assert len({*shown}) == 2 and image.evaluate("image => image.naturalWidth / image.clientWidth") > 1.5
    page.close()


def test_keys_open_figures_and_code_and_the_focus_comes_back(chromium, address):
    page = chromium.new_page(viewport=axe.WIDE)
    page.goto(f"{address}/notebooks/10_C0_behaviour.html")
    image, large = page.locator("article figure img").first, page.locator("dialog.enlarged")
    image.press("Enter")
    assert large.is_visible() and large.get_attribute("aria-label") == image.get_attribute("alt")
    for _ in range(2):  # closed, and open again from where one was
        page.keyboard.press("Escape")
        large.wait_for(state="detached")
        assert image.evaluate("image => image === document.activeElement")
        page.keyboard.press("Enter")
        assert large.is_visible()
    page.keyboard.press("Escape")
    code = page.locator("article details.hide:has(.cell_input)").first
    code.locator("> summary").press("Enter")
    assert code.locator(".cell_input pre").first.is_visible()
    page.close()


def test_the_verdicts_begin_on_the_first_screen_of_their_chapter(chromium, smoke):
    page = chromium.new_page(viewport=axe.WIDE)
    page.goto((smoke.html / "notebooks" / "15_verdict.html").as_uri())
    first = page.locator("article table").first
    assert "as the paper states it" in first.inner_text()
    assert first.bounding_box()["y"] < axe.WIDE["height"]
    assert page.locator("article .cell_input:visible").count() == 0  # code is a click away
    page.close()


def test_terms_say_what_they_mean(chromium, address):
    page = chromium.new_page(viewport=axe.WIDE)
    page.goto(f"{address}/method.html")
    words = page.locator("article abbr").evaluate_all("all => all.map((word) => [word.textContent, word.title])")
    assert "MSO" in dict(words) and all(word and title for word, title in words)
    assert page.locator("article :is(code, a, mjx-container) abbr").count() == 0
    page.close()


def test_tables_have_heads_and_captions(chromium, address):
    page = chromium.new_page(viewport=axe.WIDE)
    page.goto(f"{address}/notebooks/15_verdict.html")
    tables = page.locator("article table")
    assert tables.count() and page.locator("article th:not([scope])").count() == 0
    assert all(tables.evaluate_all("all => all.map((table) => table.caption?.textContent.trim())"))
    page.close()


def test_on_paper_nothing_is_cut(chromium, address, html):
    page = chromium.new_page(viewport={"width": 700, "height": 1000})  # about A4
    page.emulate_media(media="print")
    for name in ("index.html", "method.html", "notebooks/15_verdict.html", "add-your-own.html"):
        page.goto(f"{address}/{name}")
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        beyond = page.locator("article :is(table, pre, figure img)").evaluate_all(BEYOND)
        assert beyond == [], name
        assert page.locator("article details:not([open]):not(.hide)").count() == 0
        assert page.locator("article .cell_input:visible, .bd-sidebar-primary:visible").count() == 0
    page.close()


def test_search_finds_a_page(chromium, address):
    page = chromium.new_page()
    page.goto(f"{address}/search.html?q=subspace")
    page.locator("#search-results li a").first.wait_for(timeout=20_000)
    page.close()


def test_notebooks_can_be_downloaded(chromium, address):
    page = chromium.new_page()
    page.goto(f"{address}/notebooks/10_C0_behaviour.html")
    target = page.locator("a.btn-download-source-button").get_attribute("href")
    assert target.endswith(".ipynb")
    assert page.request.get(f"{address}/notebooks/{target}").ok
    page.close()


def test_the_same_results_are_not_built_again(synthetic, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(synthetic.parents[1] / "results"))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(synthetic.parents[1] / "published"))
    before = (synthetic / "index.html").stat().st_mtime_ns
    report.build(SELECTIONS, synthetic.parent)
    assert (synthetic / "index.html").stat().st_mtime_ns == before


def test_a_report_that_cannot_be_built_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    write_results(SELECTIONS[0].study, SELECTIONS[0].seeds)
    path = RunPaths("organism").notebook("10_C0_behaviour")
    write_notebook(path, "organism", "")
    path.write_text(path.read_text().replace("../book/method.md", "../book/nowhere.md"))
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("old")
    with pytest.raises(StudyError, match=r"report\.log"):
        report.build(SELECTIONS[:1], tmp_path)
    assert (tmp_path / "html" / "index.html").read_text() == "old"
    assert "nowhere" in (tmp_path / "report.log").read_text()
