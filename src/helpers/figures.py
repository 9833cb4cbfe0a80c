"""Figures of the book: one look, colour-blind safe, with captions, intervals and a link to the table behind them."""

import base64
import html
import io
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

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
_OTHERS = (_BLUE, _RED, _GREEN, _ORANGE, _PURPLE, _SKY, _GREY)  # for names that a user gave, in their order
MARKERS = dict(zip(COLOURS, "osD^vPXo<>hsDd^vPX^<>Dhso", strict=True))  # a shape as well, for readers who see no colour
_LEVEL = {"ha": "right", "va": "bottom", "fontsize": 7, "bbox": {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.5}}
LETTERS_PER_LINE = 100  # of a legend as wide as the page
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
}


class Source(Protocol):
    """The run of a notebook that a figure belongs to."""

    study: Any
    folder: Any  # ``helpers.paths.RunPaths``, where its tables are


def panels(count: int, columns: int = 0, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Empty panels in the look of the book, two or three in a row, as wide together as a page."""
    sns.set_theme(context="paper", style="whitegrid", rc={"font.size": 9, "axes.titlesize": 9, "grid.color": "#E4E4E4"})
    columns = columns or {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    width = PAGE_WIDTH if columns > 1 else 0.75 * PAGE_WIDTH
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    figure.set_layout_engine("constrained")
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def look(name: str, place: int) -> tuple[str, str]:
    """Colour and mark of a name: its own, or for one that a user gave those of its place in the order."""
    return COLOURS.get(name, _OTHERS[place % len(_OTHERS)]), MARKERS.get(name, "osD^vPX"[place % 7])


def curves(ax: Axes, table: pd.DataFrame, x: str, by: str, styles: Mapping[str, str] | None = None) -> None:
    """One line per value of ``by``: the mean over seeds, with its interval as a band."""
    for place, (name, group) in enumerate(table.groupby(by, sort=False)):
        group = group.sort_values(x)
        style, (colour, marker) = (styles or {}).get(name, "-"), look(name, place)
        ax.plot(group[x], group["mean"], style, color=colour, marker=marker, ms=3.5, lw=1.5, label=name)
        ax.fill_between(group[x], group["low"], group["high"], color=colour, alpha=0.15, lw=0)
    ax.set_xlabel(LABELS.get(x, x))
    if x == "layer":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def points(ax: Axes, table: pd.DataFrame, order: Iterable[str], by: str) -> None:
    """One point per value of ``by``, mean over seeds with its interval as a bar."""
    found = table.set_index(by)
    for place, name in enumerate(order):
        row = found.loc[name]
        errors = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        colour, marker = look(name, place)
        ax.errorbar(place, row["mean"], errors, fmt=marker, color=colour, capsize=3, ms=6)
    ax.set_xticks(range(len(list(order))), list(order), rotation=35, ha="right")


def path(ax: Axes, table: pd.DataFrame, along: str, x: str, y: str, name: str, style: str = "--") -> None:
    """One measure against another as ``along`` grows: means over seeds, joined, with both intervals as thin bars."""
    wide = table.pivot(index=along, columns="measure", values=["mean", "low", "high"])
    mean, low, high = wide["mean"], wide["low"], wide["high"]
    spread = {m: [mean[m] - low[m], high[m] - mean[m]] for m in (x, y)}
    colour, marker = look(name, len(ax.get_lines()))
    how = {"color": colour, "marker": marker, "ms": 4, "lw": 1.0, "elinewidth": 0.4}
    ax.errorbar(mean[x], mean[y], xerr=spread[x], yerr=spread[y], ls=style, label=name, **how)
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])


def reference(ax: Axes, value: float, label: str) -> None:
    """A dashed level with its name, such as the value of the aligned model."""
    ax.axhline(value, color="#444444", ls="--", lw=0.9)
    ax.annotate(label, (0.995, value), xycoords=("axes fraction", "data"), **_LEVEL)


def band(ax: Axes, low: float, high: float, label: str) -> None:
    """Shade a range of the horizontal axis."""
    ax.axvspan(low, high, color="#000000", alpha=0.06, lw=0, label=label)


def heatmap(ax: Axes, table: pd.DataFrame, title: str) -> None:
    """A matrix of overlaps between 0 and 1, annotated."""
    sns.heatmap(
        table, ax=ax, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", annot_kws={"fontsize": 7}, cbar=False
    )
    ax.set(title=title, xlabel="", ylabel="")
    ax.grid(False)
    ax.tick_params(axis="x", rotation=35)
    ax.tick_params(axis="y", rotation=0)


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


def show(figure: Figure, identifier: str, caption: str, run: Source, *tables: str) -> HTML:
    """A finished figure with caption, alternative text and links to the tables of the run, for notebook and book.

    Links are relative to ``notebooks/``, so they work in JupyterLab and in the published book.
    """
    entries = {}
    for ax in figure.axes:
        if ax.get_legend() is None:
            entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if entries:
        columns = max(1, min(len(entries), LETTERS_PER_LINE // (max(map(len, entries)) + 6)))
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    image = base64.b64encode(buffer.getvalue()).decode()
    folder = f"../results/{run.study.name}/{run.folder.root.name}/tables"
    links = ", ".join(f'<a href="{folder}/{name}.csv">{name}.csv</a>' for name in tables)
    text = html.escape(caption)
    return HTML(
        f'<figure id="{html.escape(identifier)}"><img alt="{text}" src="data:image/png;base64,{image}" '
        f'style="max-width:100%">\n<figcaption>{text} Data: {links}.</figcaption></figure>'
    )
