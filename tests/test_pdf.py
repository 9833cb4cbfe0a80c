"""The report as one PDF: pages in their order, links within it, nothing of what is left out."""

import re
import subprocess
import sys
import zlib

import pytest
import yaml
from bs4 import BeautifulSoup

from pipeline.report.pdf import document, parts_of
from pipeline.results import project

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
FIRST = """<p id="here">See <a href="notebooks/one.html#deep">one</a>, <a href="runs/x.html">a run</a>,
<a href="explorer.html#study=x">chosen live</a>.</p>"""
SECOND = f"""<section id="parameters"><h2>Parameters</h2><div class="cell_input">code = 1</div></section>
<section id="deep"><h2>Deep<a class="headerlink" href="#deep">#</a></h2><p>Back to <a href="../index.html">it</a>,
<a href="#deep">here</a>, <a href="../results/x.csv">x.csv</a>, <a href="https://arxiv.org/abs/2505.14185">arXiv</a>.
<figure><img src="{PIXEL}" loading="lazy"></figure></p></section><details><summary>More</summary>text</details>"""


@pytest.fixture
def built(tmp_path):
    """A report of two pages, and one of a single run."""
    contents = {
        "root": "index",
        "parts": [{"caption": "Results", "chapters": [{"file": "notebooks/one"}, {"file": "explorer"}]}],
    }
    contents["parts"].append({"caption": "Appendix", "chapters": [{"file": "runs/x"}]})
    for place in ("stage", "html/notebooks", "html/runs"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "stage" / "_toc.yml").write_text(yaml.safe_dump(contents))
    for page, text in {"index": FIRST, "notebooks/one": SECOND, "runs/x": ""}.items():
        body = f'<nav>menu</nav><article class="bd-article"><h1>Page {page}</h1>{text}</article>'
        (tmp_path / "html" / f"{page}.html").write_text(f"<html><head><title>Book</title></head>{body}</html>")
    return tmp_path


def test_links_lead_within_the_document_or_are_plain_text(built):
    found = BeautifulSoup(document(built / "html", parts_of(built / "stage")), "html.parser")
    links = [link["href"] for link in found.select("article a")]
    ids = [tag["id"] for tag in found.find_all(id=True)]
    assert links == ["#notebooks-one--deep", "#index", "#notebooks-one--deep", "https://arxiv.org/abs/2505.14185"]
    assert {link.removeprefix("#") for link in links[:3]} <= {*ids} and len(ids) == len({*ids})
    assert "a run" in found.text and "chosen live" in found.text and "x.csv" in found.text
    assert [h.text for h in found.select("h1, h2, h3")] == [
        "The answer", "Page index", "Results", "Page notebooks/one", "Deep",
    ]  # fmt: skip
    assert "code = 1" not in found.text and "menu" not in found.text and found.select_one("details").has_attr("open")
    assert f"Version {project.version()}" in found.text


def printed(folder):
    """``make pdf`` of a report, in a process of its own: the tests have a browser in this one."""
    command = [sys.executable, "-m", "pipeline.report.pdf", "--report", str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_document_is_printed_with_an_outline(built, chromium):
    """By a real browser; with nothing in it that leads to files of this machine."""
    done = printed(built)
    assert done.returncode == 0 and done.stdout == f"PDF: {built / 'report.pdf'}\n", done.stderr
    found = (built / "report.pdf").read_bytes()
    streams = [found]
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", found, re.DOTALL):
        try:
            streams.append(zlib.decompress(stream))
        except zlib.error:
            continue
    whole = b"".join(streams)
    assert found.startswith(b"%PDF") and b"/Outlines" in whole and b"2505.14185" in whole and b"file:" not in whole
    assert sorted(path.name for path in built.iterdir()) == ["html", "report.pdf", "stage"]
    assert sorted(path.name for path in (built / "html").iterdir()) == ["index.html", "notebooks", "runs"]


@pytest.mark.slow
def test_what_is_missing_is_one_sentence(built, chromium):
    page = built / "html" / "index.html"
    page.write_text(page.read_text().replace("See", '<img src="gone.png">See'))
    said = printed(built).stderr
    assert said.startswith("error: the image file:")
    assert said.endswith("gone.png is not in the report: make it again with `make book`\n")
    page.write_text(page.read_text().replace('<img src="gone.png">', '<span class="math">(x)</span>'))
    assert printed(built).stderr.startswith("error: the formula (x) is not in the report")
    assert not (built / "report.pdf").exists() and not list((built / "html").glob("*print*"))
    page.unlink()
    assert printed(built).stderr == f"error: there is no report in {page.parent}: make it first with `make book`\n"
