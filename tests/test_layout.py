"""Chapters in the order of a reader: results first, code folded, and nothing lost or run in another order."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from helpers.paths import NOTEBOOKS
from pipeline.report.layout import code_folded, reading_time, results_first
from pipeline.runs.stages import CHAPTERS

FIRST = "# Title\n\n## Overview\n\nWhy.\n\n(how)=\n## What is computed\n\n$x$\n"
LAST = "## What it means\n\nThis.\n\n## Limits\n\n- One."


def test_how_it_is_computed_stands_before_the_limits():
    cells = [new_markdown_cell(FIRST), new_code_cell("1"), new_markdown_cell("## Result"), new_markdown_cell(LAST)]
    results_first(cells)
    assert [cell.source for cell in cells] == [
        "# Title\n\n## Overview\n\nWhy.",
        "1",
        "## Result",
        "## What it means\n\nThis.\n\n(how)=\n## What is computed\n\n$x$\n\n## Limits\n\n- One.",
    ]


def test_without_limits_it_stands_last():
    cells = [new_markdown_cell(FIRST), new_code_cell("1")]
    results_first(cells)
    assert [cell.source.strip() for cell in cells][1:] == ["1", "(how)=\n## What is computed\n\n$x$"]


def test_a_chapter_without_such_a_section_stays_as_it_is():
    cells = [new_markdown_cell("# Title"), new_code_cell("1"), new_markdown_cell(LAST)]
    results_first(cells)
    assert [cell.source for cell in cells] == ["# Title", "1", LAST]


@pytest.mark.parametrize("name", sorted(CHAPTERS))
def test_no_word_is_lost_and_code_keeps_its_order(name):
    before, after = (nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells for _ in range(2))
    results_first(after)
    codes, words = (
        [[cell.source for cell in cells if cell.cell_type == kind] for cells in (before, after)]
        for kind in ("code", "markdown")
    )
    assert codes[0] == codes[1]
    assert sorted(" ".join(words[0]).split()) == sorted(" ".join(words[1]).split())


def test_all_code_is_folded_and_a_heading_over_code_alone_is_gone():
    cells = [
        new_markdown_cell("## Parameters"),
        new_code_cell("1", metadata={"tags": ["parameters"]}),
        new_code_cell("2"),
    ]
    code_folded(cells)
    assert [cell.metadata["tags"] for cell in cells] == [["hide-input", "parameters"], ["hide-input"]]


def test_reading_time_counts_words_and_figures():
    """200 words a minute and three figures a minute: 200 words and 2 figures take 1.67 minutes, 2 in whole ones."""
    shown = new_output("display_data", {"text/html": "<figure>…</figure>"})
    cells = [new_markdown_cell("word " * 200), new_code_cell("show()", outputs=[shown, shown])]
    assert reading_time(cells) == "About 2 minutes to read."
    assert reading_time(cells[:1]) == "About 1 minute to read."
