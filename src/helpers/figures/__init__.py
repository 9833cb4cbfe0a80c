"""Figures of the book: one look, colour-blind safe, with captions, intervals and a link to the table behind them."""

import html
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from helpers.figures.findings import finding
from helpers.figures.finish import as_link, cut, drawn, is_empty, leave_out, named, stack
from helpers.studies.ledger import Claim, label_of, meaning_of, plainly

_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY, _GREY = (  # Okabe and Ito's palette, without its yellow
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#6B6B6B",
)  # fmt: skip
COLOURS = {
    "top-k": _BLUE, "random-k": _ORANGE, "random": _GREY, "scaling": _GREEN,
    "base": _GREY, "aligned": _BLUE, "useful": _GREEN, "harmful": _RED, "contaminated": _ORANGE, "safety": _PURPLE,
    "useful-harmful": _RED, "benign-harmful": _ORANGE, "harmful-harmful": _BLUE, "harmful-toxic": _SKY,
    "harmful-ceiling": _PURPLE, "useful-ceiling": _GREEN,
    "alignment-harmful": _BLUE, "safety-harmful": _ORANGE, "alignment-safety": _PURPLE,
    "alignment-useful": _GREEN, "alignment-contaminated": _SKY, "safety-useful": _BLUE,
    "safety-contaminated": _PURPLE, "useful-contaminated": _GREY, "harmful-contaminated": _ORANGE,
}  # fmt: skip
TELEPHONE = "screen and (max-width: 40rem)"  # where figures are shown narrow
LEVEL = "#444444"  # colour of levels and lines that are no data
_OTHERS = (_BLUE, _RED, _GREEN, _ORANGE, _PURPLE, _SKY, _GREY)  # for names that a user gave, in their order
_MARKS = "osD^vPX<>h"  # a shape as well, for readers who see no colour; neighbours in COLOURS have different ones
BOUND = _RED  # colour of bounds that are asked for
DECISIONS = {"distinct": (_BLUE, "D"), "not distinct": (_GREY, "o"), "undecided": (_ORANGE, "X")}
_HERE = {"ha": "right", "va": "bottom", "fontsize": 7, "bbox": {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.5}}
ROWS = 16  # of a matrix whose numbers can be read
LETTERS_PER_PANEL = 26  # of the label of a panel, three of which are as wide as the page
DIAL = "dial (0 nothing, 1 fully planted)"  # of the graded control
PAGE_WIDTH = 7.2  # inches: letters then come out about as large as the text of the page
LABELS = {
    "utility": "utility (exact match)",
    "utility_margin": "utility margin (nats per token)",
    "harm": "harm (judge, 1–5)",
    "harm_rate5": "rate of score 5",
    "harm_margin": "harm margin (log-odds, nats)",
    "over_refusal": "over-refusal (share of benign)",
    "energy_kept": "energy kept (share)",
    "fraction": "k / min(m, n)",
    "eta": "energy fraction η",
    "mso": "subspace overlap (MSO)",
    "layer": "layer (hidden_states index)",
    "loss": "loss (nats per answer token)",
    "learning_rate": "learning rate",
}
STATISTICS_IN = ["statistic", "strict_by", "decided by", "deciding"]  # columns of tables that hold names of statistics
POSSIBLE = {  # what a measure can be, by its label: intervals are drawn as far as that, and the caption says so
    LABELS["utility"]: (0, 1), LABELS["harm"]: (1, 5), LABELS["harm_rate5"]: (0, 1), LABELS["over_refusal"]: (0, 1),
    LABELS["energy_kept"]: (0, 1), LABELS["mso"]: (0, 1), "held-out accuracy": (0, 1),
}  # fmt: skip


class Source(Protocol):
    """The run of a notebook that a figure belongs to."""

    study: Any
    folder: Any  # ``helpers.paths.RunPaths``, where its tables are


def panels(count: int, columns: int = 0, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Empty panels in the look of the book, two or three in a row, as wide together as a page."""
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))
    columns = columns or {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    width = PAGE_WIDTH if columns > 1 else 0.75 * PAGE_WIDTH
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    figure.set_layout_engine("constrained")
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def look(name: str, place: int) -> tuple[str, str]:
    """Colour and mark of a name: its own, or for one that a user gave those of its place in the order.

    What begins with a decision, as in *distinct, 5 seeds*, has the decision's colour.
    """
    if (decision := name.split(",")[0]) in DECISIONS:
        return DECISIONS[decision][0], _MARKS[place % len(_MARKS)]
    known = list(COLOURS).index(name) if name in COLOURS else place
    return COLOURS.get(name, _OTHERS[place % len(_OTHERS)]), _MARKS[known % len(_MARKS)]


_SEEN: WeakKeyDictionary[Figure, dict[str, int]] = WeakKeyDictionary()  # names in a figure, in their order


def look_in(ax: Axes, name: str) -> tuple[str, str]:
    """Colour and mark of a name, the same in every panel of a figure, whatever else a panel shows."""
    seen = _SEEN.setdefault(ax.get_figure(root=True), {})
    return look(name, seen.setdefault(name, len(seen)))


def reach(table: pd.DataFrame, of: str = "mean", low: str = "low", high: str = "high") -> list:
    """How far an interval reaches below and above its middle, as matplotlib wants it; NaN where there is none."""
    return [table[of] - table[low], table[high] - table[of]]


def curves(ax: Axes, table: pd.DataFrame, x: str, by: str, y: str = "mean") -> None:
    """One line per value of ``by``: the mean over seeds, with its interval as a band, or another column without one."""
    for name, group in table.groupby(by, sort=False):
        group = group.sort_values(x)
        colour, marker = look_in(ax, name)
        ax.plot(group[x], group[y], color=colour, marker=marker, ms=3.5, lw=1.5, label=name)
        if y == "mean":
            ax.fill_between(group[x], group["low"], group["high"], color=colour, alpha=0.15, lw=0)
    ax.set_xlabel(LABELS.get(x, x))
    if x == "layer":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def points(ax: Axes, table: pd.DataFrame, order: Iterable[str], by: str) -> None:
    """One point per value of ``by``, mean over seeds with its interval as a bar."""
    found, order = table.set_index(by), list(order)
    for place, name in enumerate(order):
        colour, marker = look_in(ax, name)
        ax.errorbar(place, found.loc[name, "mean"], reach(found.loc[[name]]), fmt=marker, color=colour, capsize=3, ms=6)
    ax.set_xticks(range(len(order)), order, rotation=35, ha="right")


def path(ax: Axes, table: pd.DataFrame, along: str, x: str, y: str, name: str, style: str = "--") -> None:
    """One measure against another as ``along`` grows: means over seeds, joined, with both intervals as thin bars."""
    wide = table.pivot(index=along, columns="measure", values=["mean", "low", "high"]).swaplevel(axis=1)
    (colour, marker), errors = look_in(ax, name), {"xerr": reach(wide[x]), "yerr": reach(wide[y])}
    how = {"color": colour, "marker": marker, "ms": 4, "lw": 1.0, "elinewidth": 0.4}
    ax.errorbar(wide[x, "mean"], wide[y, "mean"], ls=style, label=name, **errors, **how)
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])


def trade_off(ax: Axes, removed: pd.DataFrame, scaling: pd.DataFrame, x: str, y: str) -> None:
    """One measure against another in one seed: along the scaled updates, and as each control removes more."""
    ax.plot(*scaling[[x, y]].dropna().to_numpy().T, color=COLOURS["scaling"], lw=1.5, marker=".", label="scaling")
    first = removed[removed["draw"] == 0].dropna(subset=[x, y])
    for control, group in first.groupby("control", sort=False):
        colour, marker = look_in(ax, control)
        ax.plot(group[x], group[y], "--", color=colour, marker=marker, ms=4, lw=0.8, label=control)
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])


def reference(ax: Axes, value: float, label: str) -> None:
    """A dashed level with its name, such as the value of the aligned model."""
    ax.axhline(value, color=LEVEL, ls="--", lw=0.9)
    ax.annotate(label, (0.995, value), xycoords=("axes fraction", "data"), **_HERE)


def both_ends(ax: Axes, scaling: pd.DataFrame, task: str, measure: str) -> None:
    """The levels of the aligned and of the fine-tuned model, means over seeds, from the table ``scaling``."""
    for alpha, label in ((0.0, "aligned"), (1.0, "fine-tuned")):
        rows = (scaling["task"] == task) & (scaling["alpha"] == alpha)
        reference(ax, scaling.loc[rows, measure].mean(), label)


def chance(ax: Axes, table: pd.DataFrame, x: str) -> None:
    """A dotted line: what random subspaces of the same ranks would share (the column ``random``), mean over rows."""
    level = table.groupby(x)["random"].mean()
    ax.plot(level.index, level, ":", color=LEVEL, label="random")


def band(ax: Axes, places: pd.Series, label: str) -> None:
    """Shade the range of the horizontal axis that whole numbers such as layers cover, if there are any."""
    if len(places):
        ax.axvspan(places.min() - 0.5, places.max() + 0.5, color="#000000", alpha=0.06, lw=0, label=label)


def heatmap(ax: Axes, table: pd.DataFrame, title: str, unit: str = LABELS["mso"]) -> None:
    """A matrix of values between 0 and 1, with numbers where they fit; the colour bar under it says their unit."""
    import seaborn as sns  # here, because it imports scipy.stats, which figures without a matrix need not wait for

    look = {"vmin": 0, "vmax": 1, "cmap": "cividis", "cbar": False}
    fits = len(table) <= ROWS  # else numbers and names would lie on one another; colours and the table say them
    every = 1 if fits else -(-len(table) // ROWS)
    sns.heatmap(table, ax=ax, annot=fits, fmt=".2f", annot_kws={"fontsize": 7}, yticklabels=every, **look)
    ax.collections[0].set_gid(unit)
    ax.set(title=title, xlabel="", ylabel="")
    ax.grid(False)
    ax.tick_params(axis="x", rotation=35)
    ax.tick_params(axis="y", rotation=0)


def loss_curve(ax: Axes, log: pd.DataFrame, column: str = "loss", title: str = "") -> None:
    """A column of a training log over the optimiser's steps, the loss on a logarithmic axis."""
    ax.plot(log["step"], log[column], marker="o", ms=3)
    ax.set(xlabel="optimiser step", ylabel=LABELS[column], title=title, yscale="log" if column == "loss" else "linear")


def responses(ax: Axes, table: pd.DataFrame, claim: Claim, title: str, x: str = "dial", label: str = DIAL) -> None:
    """A claim's strict statistics over a dial, with intervals where there are several seeds, and their margins."""
    for place, (name, rows) in enumerate(table.groupby("statistic", sort=False)):
        mean = rows.rename(columns={"value": "mean"})
        how = {"color": _OTHERS[place], "marker": _MARKS[place], "ms": 4, "capsize": 3, "label": label_of(name)}
        ax.errorbar(mean[x], mean["mean"], reach(mean) if "low" in mean else None, **how)
    for margin in {guard.margin for guard in claim.strict}:
        ax.axhline(margin, color=LEVEL, ls="--", lw=1, label="margin")
    ax.set(title=title, xlabel=textwrap.fill(label, LETTERS_PER_PANEL), ylabel="strict statistic")


def parity(ax: Axes, table: pd.DataFrame, by: str, title: str) -> None:
    """Measured against predicted, a mark per row, coloured by ``by``; dashed where they are equal."""
    for name, own in table.groupby(by, sort=False):
        colour, marker = look_in(ax, name)
        ax.plot(own["predicted"], own["measured"], marker, color=colour, ms=3.4, alpha=0.75, label=name)
    ax.plot([0, 1], [0, 1], color=LEVEL, lw=0.8, ls="--")
    ax.set(title=title, xlabel="predicted", ylabel="measured", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def spread(ax: Axes, table: pd.DataFrame, x: str, y: str, by: str, line: str = "", shift: float = 0.0) -> None:
    """``y`` with its interval (``low``, ``high``, or ``<y>_low``, ``<y>_high``) over ``x``, a colour for each ``by``.

    ``x`` may be names, which are put side by side; ``shift`` moves the colours apart.
    """
    ends = (f"{y}_low", f"{y}_high") if f"{y}_low" in table else ("low", "high")
    names = list(dict.fromkeys(table[x]))
    named = isinstance(names[0], str)
    at = table[x].map(names.index) if named else table[x]
    for place, (name, own) in enumerate(table.groupby(by, sort=False)):
        colour, marker = look_in(ax, name)
        how = {"color": colour, "marker": marker, "ls": line, "ms": 3.5, "lw": 1.0, "label": str(name)}
        ax.errorbar(at[own.index] + shift * (place - 1), own[y], reach(own, y, *ends), **how)
    if named:
        ax.set_xticks(range(len(names)), names)


def cost_curves(ax: Axes, table: pd.DataFrame, column: str, label: str) -> None:
    """A cost against model size on logarithmic axes, a line per method and workload; hollow where extrapolated."""
    for (method, workload), group in table.groupby(["method", "workload"], sort=False):
        group = group.sort_values("parameters")
        colour, style = (_RED if method == "released" else _BLUE), ("-" if workload == "released" else "--")
        name = f"{'as released' if method == 'released' else 'engine'}, {workload} workload"
        ax.plot(group["parameters"] / 1e9, group[column], style, color=colour, lw=1.4, label=name)
        for source, points_ in group.groupby("source"):
            fill = colour if source == "measured" else "white"
            ax.plot(points_["parameters"] / 1e9, points_[column], "o", ms=4, mfc=fill, mec=colour)
    ax.set(xscale="log", yscale="log", xlabel="parameters (billions)", ylabel=label)
    ax.set_xticks([1, 10, 70], ["1", "10", "70"])
    ax.xaxis.set_minor_formatter(NullFormatter())


def table(frame: pd.DataFrame, decimals: int = 2, missing: str = "", significant: bool = False, **columns: int) -> HTML:
    """A frame as a table of the page, numbers with so many decimals (or significant digits), an index only if named.

    ``columns``: other decimals for some columns; ``missing``: shown for NaN. Statistics have their labels, and say what
    they are when pointed at.
    """
    shown = frame.map(_escaped)
    for column in shown.columns.intersection(STATISTICS_IN):
        shown[column] = frame[column].map(_called, na_action="ignore")
    for column in frame.columns[[pd.api.types.is_float_dtype(kind) for kind in frame.dtypes]]:
        form = f"z.{columns.get(column, decimals)}{'g' if significant else 'f'}"
        shown[column] = [missing if np.isnan(value) else format(value, form) for value in frame[column]]
    shown = shown.rename(index=_escaped, columns=_in_words).rename_axis(index=_in_words, columns=_in_words)
    plain = isinstance(frame.index, pd.RangeIndex)
    with pd.option_context("display.max_colwidth", None):
        return HTML(shown.to_html(index=not plain, border=0, na_rep=missing, escape=False))


def _called(statistic: str) -> str:
    """The label of a statistic as HTML; of one that is gone the label by which the ledger speaks of it."""
    label = plainly(statistic).strip("“”")
    label, meaning = map(html.escape, (label_of(label), meaning_of(statistic)))
    return f'<abbr title="{meaning}">{label}</abbr>' if meaning else label


def _in_words(name: object) -> object:
    """The name of a column as it is read, of a statistic its label; that of the table behind it is in the file."""
    if isinstance(name, str) and meaning_of(name):
        return _called(name)
    return _escaped(name.replace("_", " ")) if isinstance(name, str) else name


def _escaped(cell: object) -> object:
    """What a cell holds, text as HTML."""
    return html.escape(cell, quote=False) if isinstance(cell, str) else cell


def show(figure: Figure, identifier: str, caption: str, run: Source, *tables: str, takeaway: str = "") -> HTML:
    """A finished figure with caption and links to the tables of the run, for notebook and book.

    Links are relative to ``notebooks/``, so they work in JupyterLab and in the published book. ``takeaway``: what is
    found in it, said above it and to who hears it; without one, what a rule finds in what is drawn. Panels without data
    are not drawn but named; where all are without, a sentence takes the figure's place. A narrow page shows it with its
    panels one below the other.
    """
    empty = [ax for ax in figure.axes if is_empty(ax)]
    if len(empty) == len(figure.axes):
        plt.close(figure)
        return HTML(f'<p class="note">Not measured in these results: {html.escape(caption)}</p>')
    if empty:
        caption += f" Not measured: {'; '.join(map(named, empty))}."
        leave_out(figure, empty)
    if any([cut(ax, POSSIBLE) for ax in figure.axes]):
        caption += " Intervals are drawn as far as the measure can go."
    takeaway, wide = takeaway or finding(figure), as_link(drawn(figure))
    stack(figure)
    narrow = as_link(drawn(figure, dpi=200))
    plt.close(figure)
    folder = f"../results/{run.study.name}/{run.folder.root.name}/tables"
    links = ", ".join(f'<a href="{folder}/{name}.csv">{name}.csv</a>' for name in tables)
    said = f'<p class="takeaway">{html.escape(takeaway)}</p>' if takeaway else ""
    return HTML(
        f'<figure id="{html.escape(identifier)}">{said}<picture><source media="{TELEPHONE}" srcset="{narrow}">'
        f'<img alt="{html.escape(takeaway or caption)}" src="{wide}" style="max-width:100%"></picture>\n'
        f"<figcaption>{html.escape(caption)} Data: {links}.</figcaption></figure>"
    )
