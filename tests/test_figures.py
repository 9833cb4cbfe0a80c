"""Figures say what was found and what was not measured, and call statistics by their plain labels."""

import colorsys
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from helpers.figures import (
    DECISIONS,
    LABELS,
    band,
    curves,
    heatmap,
    look,
    loss_curve,
    panels,
    parity,
    points,
    reference,
    responses,
    show,
    table,
    trade_off,
)  # fmt: skip
from helpers.figures.benches import methods
from helpers.figures.findings import finding
from helpers.figures.finish import drawn, dress, is_empty, stack
from helpers.figures.judges import agreements
from helpers.figures.labelled import _short
from helpers.figures.verdicts import against_margins, forest
from helpers.paths import ROOT, RunPaths
from helpers.studies.settings import load_study

CLAIM = load_study("organism").claims["C1"]
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
    assert figure.axes == [axes[0], axes[2]] and axes[2].get_subplotspec().rowspan.start == 1  # narrow


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
    assert not is_empty(ax) and "<img" in shown(figure)[0] and figure.axes == [ax]
    assert [bar.ax.get_xlabel() for bar in dress(figure)] == [LABELS["mso"]]


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


def test_a_narrow_figure_has_its_panels_one_below_the_other_and_cuts_no_name():
    """As wide as a telephone, names beside a panel and in the legend included; the wide one is drawn before."""
    rows = pd.DataFrame(
        {"statistic": [guard.statistic for guard in CLAIM.strict], "mean": 0.1, "low": 0.0, "high": 0.2, "margin": 0.05}
    )
    figure, (one, other) = panels(2)
    against_margins(one, rows.assign(decision="undecided"), "C1")
    responses(other, rows[["statistic"]].assign(dial=0.5, value=0.1), CLAIM, "C1")
    wide = drawn(figure)
    stack(figure)
    assert [ax.get_subplotspec().rowspan.start for ax in (one, other)] == [0, 1]
    legend = dress(figure)[-1]
    figure.canvas.draw()
    names = [*one.get_yticklabels(), *legend.get_texts()]
    boxes = [name.get_window_extent() for name in names]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    beside = sorted(boxes[: len(rows)], key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in zip(beside, beside[1:], strict=False))
    assert min(ax.get_position().height * figure.get_figheight() for ax in figure.axes) > 1  # inches
    assert [np.frombuffer(wide[16:20], ">u4")[0]] == [7.2 * 150]  # pixels, of a PNG's head


def told(draw):
    """What a rule finds in a figure of one panel."""
    figure, (ax,) = panels(1)
    draw(ax)
    return finding(figure)


def test_figures_of_single_runs_say_what_is_drawn_in_them():
    """Every kind of panel of notebooks 1 to 9 and 32, with what can be read off by hand."""
    both = pd.concat([summary(0.5), summary([0.6, 0.6, 0.1]).assign(control="random")], ignore_index=True)
    log = pd.DataFrame({"step": [1, 9], "loss": [5.0, 0.25]})
    assert (
        told(lambda ax: curves(ax, both, "fraction", "control")) == "One panel: random is the highest at 2 of 3 places."
    )
    ceiling = pd.concat([both, summary(0.9).assign(control="random-ceiling")], ignore_index=True)  # is no finding
    assert told(lambda ax: curves(ax, ceiling, "fraction", "control")) == told(
        lambda ax: curves(ax, both, "fraction", "control")
    )
    shaded = told(lambda ax: (band(ax, pd.Series([2, 3]), "paper's band"), ax.plot([1, 4], [0.5, 0.75])))
    assert shaded == "One panel: from 0.5 at 1 to 0.75 at 4."
    assert told(lambda ax: loss_curve(ax, log, title="base")) == f"Base, {LABELS['loss']}: from 5 at 1 to 0.25 at 9."
    cells = pd.DataFrame([[0.1, np.nan], [0.3, 0.4]], index=["a", "b"], columns=["c", "d"])
    found = "Overlap: highest for b and d (0.40), lowest for a and c (0.10)."
    assert told(lambda ax: heatmap(ax, cells, "overlap")) == found
    curve = pd.DataFrame({"utility": [0.0, 1.0], "harm": [1.0, 5.0]})
    path = pd.DataFrame({"draw": 0, "control": "top-k", "utility": [0.25, 0.5, 0.75], "harm": [1.5, 2.5, 4.5]})
    said = told(lambda ax: trade_off(ax, path, curve, "utility", "harm"))
    assert said.endswith(
        f"below that of scaling at equal {LABELS['utility']}: top-k at 2 of 3 places."
    )  # 2, 3 and 4 there
    matrices = pd.DataFrame({"by": ["near", "far"], "predicted": [0.2, 0.9], "measured": [0.25, 0.5]})
    said = told(lambda ax: parity(ax, matrices, "by", "MSO"))
    assert said.endswith("mean distance from what is predicted: highest for far (0.40), lowest for near (0.05).")
    people = pd.DataFrame({"data": ["harm"], "kappa": [0.4], "low": [0.3], "high": [0.5]})
    judges = {"judge": [*["rule"] * 3, *["model"] * 2], "data": ["harm", "refusal", "evasion", "harm", "evasion"]}
    scored = pd.DataFrame(judges).assign(part="all", kappa=[0.2, 0.9, 0.1, 0.7, 0.8], low=0.1, high=0.95)
    said = told(lambda ax: agreements(ax, scored, people, 0.6))  # values run across, names stand beside them
    assert said == "Cohen's κ with people: model judge is the highest at 2 of 3 places."
    rows = pd.DataFrame({"statistic": ["a", "a", "b", "b"], "dial": [0, 1, 0, 1], "value": [0.0, 0.9, 0.0, 0.06]})
    said = told(lambda ax: responses(ax, rows, CLAIM, "C1"))
    assert said == "C1, strict statistic: of 2, above every margin lie 0 at 0, 1 at 1."  # 0.07 is the largest margin


def test_what_a_notebook_says_itself_takes_the_place_of_the_rule():
    figure, (ax,) = panels(1)
    curves(ax, summary(0.5), "fraction", "control")
    assert 'class="takeaway">One panel: from 0.5 at 0.1 to 0.5 at 0.9.<' in shown(figure)[0]


def test_a_statistic_says_what_it_is_where_it_heads_a_column():
    html = table(pd.DataFrame({"at_most": [1.0], "energy_gap": [0.5]})).data
    heads = re.findall(r"<th>(.*?)</th>", html)
    assert heads[0] == "at most" and heads[1].startswith('<abbr title="Share of the harmful update')
    assert heads[1].endswith(">energy inside, harmful − useful update</abbr>")


def test_a_method_without_a_value_in_a_study_has_no_row():
    rows = [
        ("resta", 0.6, 0.5, "undecided"),
        ("lox", np.nan, np.nan, "not measurable"),
        ("snip", 0.0, -0.1, "does not"),
    ]
    summary = pd.DataFrame(rows, columns=["method", "mean", "above_null_mean", "decision"])
    summary = summary.assign(kind="defence", low=summary["mean"] - 0.1, high=summary["mean"] + 0.1)
    _, axes = plt.subplots()
    methods(axes, summary, ["snip", "asft", "lox", "resta"], 0.1, "a study")
    assert [mark.get_text() for mark in axes.get_yticklabels()] == ["snip", "resta"]
    points = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines() if line.get_label() == "its null"}
    assert points["its null"] == pytest.approx([0.1, 0.1])


@given(st.floats(-1, 1))
def test_numbers_in_a_matrix_are_hundredths_without_what_need_not_be_said(value):
    text = _short(value)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.00501)
    assert len(text) <= 5 and not text.startswith(("0.", "−0", "-", "+"))


@pytest.mark.parametrize("rows, names, numbers", [(8, 8, 16), (31, 16, 0)])
def test_a_matrix_has_numbers_and_every_name_only_where_they_do_not_lie_on_one_another(rows, names, numbers):
    """As of the layers of a model with thirty, which were a black bar."""
    ax = plt.figure().subplots()
    heatmap(ax, pd.DataFrame(np.full((rows, 2), 0.5), index=range(rows)), "by layer")
    assert len(ax.get_yticklabels()) == names and len(ax.texts) == numbers
