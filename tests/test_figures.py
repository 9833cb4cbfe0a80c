"""Figures say what was found and what was not measured, and call statistics by their plain labels."""

import colorsys
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from helpers.figures import DECISIONS, LABELS, curves, heatmap, look, panels, points, reference, responses, show
from helpers.figures.finish import is_empty
from helpers.figures.verdicts import against_margins, forest
from helpers.paths import ROOT, RunPaths
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


def test_a_panel_without_data_is_not_drawn_but_named():
    figure, axes = panels(3)
    for ax, mean in zip(axes, (0.5, np.nan, 0.2), strict=True):
        curves(ax, summary(mean), "fraction", "control")
        ax.set(title=f"panel of {mean}", ylabel=LABELS["mso"])
        reference(ax, 0.0, "aligned")  # a level is no measurement
    assert [is_empty(ax) for ax in axes] == [False, True, False]
    html, _ = shown(figure)
    assert "Not measured: panel of nan, subspace overlap (MSO)." in html
    assert figure.axes == [axes[0], axes[2]] and axes[2].get_subplotspec().colspan.start == 1


def test_a_name_has_one_look_in_all_panels_of_a_figure():
    """Of a card, the fine-tunes on the left, and on the right alignment before them, as its own curve comes first."""
    figure, axes = panels(2)
    for ax, names in zip(axes, (["mine", "yours"], ["alignment", "mine", "yours"]), strict=True):
        curves(ax, pd.concat([summary(0.5).assign(task=name) for name in names]), "fraction", "task")
    left, right = ({line.get_label(): (line.get_color(), line.get_marker()) for line in ax.lines} for ax in axes)
    assert left == {name: right[name] for name in left} and len(set(right.values())) == 3


def test_no_interval_is_drawn_beyond_what_a_measure_can_be():
    figure, axes = panels(2)
    for ax, low in zip(axes, (0.4, -0.3), strict=True):
        rows = summary(0.9).assign(low=low, high=1.2 if low < 0 else 0.95)
        curves(ax, rows, "fraction", "control")
        points(ax, rows[:1], ["top-k"], by="control")
        ax.set_ylabel(LABELS["utility"])
    html, _ = shown(figure)
    assert "Intervals are drawn as far as the measure can go." in html
    for ax in axes:
        ends = np.concatenate([path.vertices[:, 1] for one in ax.collections for path in one.get_paths()])
        assert ends.min() >= 0 and ends.max() <= 1


def test_intervals_within_the_possible_are_left_alone():
    figure, (ax,) = panels(1)
    curves(ax, summary(0.5).assign(low=0.1, high=0.9), "fraction", "control")
    ax.set_ylabel(LABELS["utility"])
    assert "as far as" not in shown(figure)[0] and "as far as" not in show_margin(1.7)


def show_margin(high):
    """A figure of a measure without bounds."""
    figure, (ax,) = panels(1)
    curves(ax, summary(0.5).assign(low=-2, high=high), "fraction", "control")
    ax.set_ylabel(LABELS["utility_margin"])
    return shown(figure)[0]


def test_what_is_found_stands_over_the_figure_and_is_its_alternative_text():
    figure, (ax,) = panels(1)
    curves(ax, summary(0.5), "fraction", "control")
    html = show(figure, "fig-x", "What it shows.", RUN, "strict", takeaway="A < B.").data
    assert html.index('<p class="takeaway">A &lt; B.</p>') < html.index("<img") and 'alt="A &lt; B."' in html


def test_a_decision_has_one_colour_in_figures_and_pages():
    css = (ROOT / "book" / "_static" / "report.css").read_text()
    for name, (colour, _) in DECISIONS.items():
        one = f"verdict-{name.replace(' ', '-')}"
        rule = re.search(
            rf"^\.verdict[^{{]*(?<=\.){one}[ ,)][^{{]*{{ color: (#\w+)|^\.{one} {{ color: (#\w+)", css, re.M
        )
        drawn, written = (colorsys.rgb_to_hsv(*to_rgb(one)) for one in (colour, rule[1] or rule[2]))
        grey = drawn[1] < 0.2
        assert written[1] < 0.2 if grey else abs(drawn[0] - written[0]) < 0.03, name
        assert look(f"{name}, 5 seeds", 3)[0] == colour


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
    assert [bar.get_xlabel() for bar in figure.axes[1:]] == [LABELS["mso"]]


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
