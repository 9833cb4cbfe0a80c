"""The parts of a report card that are HTML: what is said of a fine-tune, and the map of its layers and modules."""

import html
from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML

WORDS = {"fell": "safety fell", "sign": "early sign", "held": "no sign of harm", "more": "more refusals"}
SHADES = {"share": (0, 114, 178), "times": (213, 94, 0)}  # blue and vermilion of the palette
BRIGHTEST = 3.0  # times of chance at which a cell of the map has its full colour


def box(name: str, word: str, verdict: str, sentences: Iterable[str]) -> str:
    """The verdict on one fine-tune, with the sentences that it rests on."""
    points = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    head = f'<h4>{html.escape(name)} <span class="word">{WORDS[word]}</span></h4>'
    body = f"<p><strong>{html.escape(verdict)}</strong></p><ul>{points}</ul>"
    return f'<section class="verdict {word}">{head}{body}</section>'


def boxes(parts: Iterable[str]) -> HTML:
    """Several of them."""
    return HTML("\n".join(parts))


def layer_map(tensors: pd.DataFrame, colour: str) -> HTML:
    """Modules by layers of one fine-tune, from the table ``card_tensors``; pointing at a cell shows its values.

    ``colour``: ``share``, how much of the update lies there, or ``times``, its energy in the leading alignment
    directions over chance. A tensor outside the layers stands in the first column; an empty cell did not move.
    """
    cells = tensors.groupby(["module", "layer"], sort=False).apply(_cell, include_groups=False)
    layers = sorted(tensors["layer"].unique())
    top = cells["share"].max() if colour == "share" else BRIGHTEST
    head = "".join(f'<th scope="col">{"–" if layer < 0 else layer}</th>' for layer in layers)
    rows = [
        f'<tr><th scope="row">{html.escape(module)}</th>'
        + "".join(_shaded(cells, (module, layer), colour, top) for layer in layers)
        + "</tr>"
        for module in dict.fromkeys(tensors["module"])
    ]
    table = f'<table class="map"><tr><td></td>{head}</tr>{"".join(rows)}</table>'
    return HTML(f'<div class="wide">{table}</div>')


def _cell(rows: pd.DataFrame) -> pd.Series:
    """One module of one layer: weight and bias, or all experts, together."""
    share = rows["share"].sum()
    kept, chance = ((rows[name] * rows["share"]).sum() / share for name in ("energy_kept", "random"))
    largest = rows.loc[rows["share"].idxmax()]
    facts = {"share": share, "times": kept / chance if chance else float("nan")}
    text = f"{share:.2%} of the update; {kept:.1%} of that in the leading alignment directions (random {chance:.1%})"
    text += f"; relative change {largest['relative_change']:.2g}, rank {largest['rank']:.0f}"
    if pd.notna(largest["mso"]):
        text += f"; overlap with alignment {largest['mso']:.2f} (random {largest['mso_random']:.2f})"
    return pd.Series(facts | {"text": text})


def _shaded(cells: pd.DataFrame, place: tuple[str, int], colour: str, top: float) -> str:
    if place not in cells.index:
        return "<td></td>"
    cell, (module, layer) = cells.loc[place], place
    value = cell[colour]
    strength = 0.0 if pd.isna(value) else min(1.0, max(0.0, value / top))
    shade = "rgba({}, {}, {}, {:.2f})".format(*SHADES[colour], 0.06 + 0.94 * strength)
    where = module if layer < 0 else f"layer {layer}, {module}"
    text = html.escape(f"{where}: {cell['text']}")
    return f'<td style="background:{shade}" title="{text}" tabindex="0"></td>'
