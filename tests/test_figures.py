"""Figures say what was not measured, and call statistics by their plain labels."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers.figures import LABELS, curves, heatmap, is_empty, panels, reference, responses, show
from helpers.figures.verdicts import against_margins, forest
from helpers.paths import RunPaths
from helpers.studies.settings import load_study

RUN = SimpleNamespace(study=load_study("organism"), folder=RunPaths("organism"))


def shown(figure):
    """A figure as a page has it, and the texts that were in its panels."""
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    html = show(figure, "fig-x", "What it shows.", RUN, "strict").data
    return html, [text.get_text() for ax in figure.axes for text in ax.texts][len(texts) :]


def summary(mean):
    """A line of three points over k."""
    found = {"fraction": [0.1, 0.5, 0.9], "control": "top-k", "mean": mean, "low": mean, "high": mean}
    return pd.DataFrame(found)


def test_a_panel_without_data_says_so_and_others_do_not():
    figure, axes = panels(2)
    curves(axes[0], summary(0.5), "fraction", "control")
    curves(axes[1], summary(np.nan), "fraction", "control")
    reference(axes[1], 0.0, "aligned")  # a level is no measurement
    assert [is_empty(ax) for ax in axes] == [False, True]
    html, added = shown(figure)
    assert html.startswith("<figure") and added == ["not measured"]


def test_a_figure_without_data_is_a_sentence():
    figure, axes = panels(2)
    for ax in axes:
        curves(ax, summary(np.nan), "fraction", "control")
        ax.set_ylabel(LABELS["mso"])
    html, _ = shown(figure)
    assert html == '<p class="note">Not measured in these results: What it shows.</p>'


def test_a_matrix_is_data():
    figure, (ax,) = panels(1)
    heatmap(ax, pd.DataFrame([[0.1, 0.2], [0.3, 0.4]]), "overlap")
    assert not is_empty(ax) and "<img" in shown(figure)[0]


@pytest.mark.parametrize("mean", [0.2, np.nan])
def test_statistics_have_their_labels_and_say_what_was_not_measurable(mean):
    rows = pd.DataFrame([{"statistic": "energy_gap", "mean": mean, "low": np.nan, "high": np.nan}])
    figure, (bounds, margins) = panels(2)
    forest(bounds, rows, [[-0.1, 0.1]], "C1")
    against_margins(margins, rows.assign(margin=0.05, decision="undecided"), "C1")
    for ax in (bounds, margins):
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert labels == ["energy inside, harmful − useful update"]
        said = [text.get_text() for text in ax.texts]
        assert said == (["not measurable"] if np.isnan(mean) else [])
    assert re.search("strict.csv", shown(figure)[0])


@pytest.mark.parametrize("columns", [2, 3])
def test_no_label_of_a_dial_is_cut_at_the_edge(columns):
    conditions = load_study("conditions").conditions
    figure, axes = panels(len(conditions), columns=columns)
    rows = pd.DataFrame({"statistic": "energy_gap_above_random", "at": [0.0, 1.0], "value": [-0.1, 0.2]})
    for ax, condition in zip(axes, conditions, strict=True):
        responses(ax, rows, RUN.study.claims["C1"], condition.dial, x="at", label=condition.label)
    figure.canvas.draw()
    for ax in axes:
        box = ax.xaxis.label.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, ax.get_xlabel()
