"""What a figure shows, in a sentence made by rule from the table behind it: said over the figure, and to who hears it.

Every rule counts or names what the table holds (columns mean, low, high) and asserts no more. *Surely* means that two
intervals lie apart, or that one lies clear of a level; where no such number is said, nothing is sure, as with one seed.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

NOTHING = ""  # of what was not measured: the figure says so


def together(sentences: Iterable[str]) -> str:
    """The sentences that there are, one after the other, each with a capital."""
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences if sentence)


def between(table: pd.DataFrame, by: str, first: str, second: str, what: str, decimals: int = 2) -> str:
    """How one row lies to another: *Harm is 4.68 for harmful and 1.61 for aligned: surely higher.*"""
    rows = table.dropna(subset=["mean"]).set_index(by)
    if not {first, second} <= set(rows.index):
        return NOTHING
    one, other = rows.loc[first], rows.loc[second]
    word = "equal" if one["mean"] == other["mean"] else "higher" if one["mean"] > other["mean"] else "lower"
    surely = "surely " if _apart(one, other) else ""
    values = f"{one['mean']:.{decimals}f} for {first} and {other['mean']:.{decimals}f} for {second}"
    return f"{what} is {values}: {surely}{word}."


def compared(table: pd.DataFrame, x: str, by: str, first: str, second: str, what: str) -> str:
    """At how many places of ``x`` one curve lies above another, and at how many of them surely."""
    rows = table.dropna(subset=["mean"])
    if not {first, second} <= set(rows[by]):
        return NOTHING
    wide = rows.pivot(index=x, columns=by, values=["mean", "low", "high"])
    one, other = (wide.xs(name, axis=1, level=1).dropna(subset=["mean"]) for name in (first, second))
    one, other = one.align(other, join="inner", axis=0)
    if one.empty:
        return NOTHING
    above, below = one["mean"] > other["mean"], one["mean"] < other["mean"]
    return _counted(what, f"{first} is {{}} {second}", above, below, _apart(one, other))


def against(table: pd.DataFrame, level: float, what: str) -> str:
    """At how many rows a mean lies above a level or below it, and at how many of them with the whole interval."""
    rows = table.dropna(subset=["mean"])
    if rows.empty:
        return NOTHING
    clear = (rows["low"] > level) | (rows["high"] < level)
    return _counted(what, f"{{}} {level:g}", rows["mean"] > level, rows["mean"] < level, clear)


def _counted(what: str, words: str, above: pd.Series, below: pd.Series, sure: pd.Series) -> str:
    """The more frequent of above and below, in how many of all cases, and in how many of them surely."""
    word, those = ("above", above) if above.sum() >= below.sum() else ("below", below)
    if not those.any():
        word, those = "level with", ~those
    surely, said = int((those & sure).sum()), words.format(word)
    return f"{what}: {said} at {int(those.sum())} of {len(those)} places" + (f", {surely} surely." if surely else ".")


def _apart(one: pd.Series | pd.DataFrame, other: pd.Series | pd.DataFrame) -> np.bool_ | pd.Series:
    """Whether two intervals have nothing in common; False where there is none."""
    return (one["low"] > other["high"]) | (one["high"] < other["low"])


def highest(table: pd.DataFrame, by: str, what: str, decimals: int = 2) -> str:
    """The highest row and the lowest, with their values."""
    rows = table.dropna(subset=["mean"])
    if rows.empty:
        return NOTHING
    top, bottom = rows.loc[rows["mean"].idxmax()], rows.loc[rows["mean"].idxmin()]
    if len(rows) == 1:
        return f"{what}: {top['mean']:.{decimals}f} ({top[by]})."
    low = f"lowest for {bottom[by]} ({bottom['mean']:.{decimals}f})"
    return f"{what}: highest for {top[by]} ({top['mean']:.{decimals}f}), {low}."


def leading(table: pd.DataFrame, x: str, by: str, what: str) -> str:
    """Which curve is the highest at most places of ``x``, and at how many."""
    rows = table.dropna(subset=["mean"])
    if rows.empty:
        return NOTHING
    winners = rows.loc[rows.groupby(x)["mean"].idxmax(), by].value_counts()
    return f"{what}: {winners.index[0]} is the highest at {winners.iloc[0]} of {int(winners.sum())} places."


def span(table: pd.DataFrame, what: str, column: str = "mean", decimals: int = 2) -> str:
    """The range of a column."""
    values = table[column].dropna()
    if values.empty:
        return NOTHING
    ends = [f"{value:.{decimals}f}" for value in (values.min(), values.max())]
    return f"{what}: {ends[0]}." if ends[0] == ends[1] else f"{what}: {ends[0]} to {ends[1]}."


def kept_halfway(curve: pd.DataFrame, task: str, measures: Iterable[str], names: dict[str, str]) -> str:
    """How much of the way from the aligned to the fine-tuned model is left when an update is about halved."""
    parts, rows = [], curve[curve["task"] == task].dropna(subset=["mean"])
    for measure in measures:
        means = rows[rows["measure"] == measure].set_index("alpha")["mean"]
        if not {0.0, 1.0} <= set(means.index) or means[1.0] == means[0.0]:
            continue
        half = means.index[np.abs(means.index - 0.5).argmin()]
        share = (means[half] - means[0.0]) / (means[1.0] - means[0.0])
        parts.append((half, f"{share:.0%} of the change of {names[measure]}"))
    if not parts:
        return NOTHING
    return f"{parts[0][0]:g} of the {task} update has {' and '.join(text for _, text in parts)}."


def removed_at(removed: pd.DataFrame, curve: pd.DataFrame, subspace: str, control: str, kept: float = 0.8) -> str:
    """The most harm that a projection takes away while it keeps a share of the utility gain, judged scores both."""
    ends = curve[curve["task"] == "contaminated"].set_index(["measure", "alpha"])["mean"]
    own = removed[(removed["subspace"] == subspace) & (removed["control"] == control)]
    wide = own.pivot(index="fraction", columns="measure", values="mean").reindex(columns=["utility", "harm"]).dropna()
    gains = {name: (ends.get((name, 0.0), np.nan), ends.get((name, 1.0), np.nan)) for name in wide}
    if wide.empty or any(not np.isfinite(start + end) or start == end for start, end in gains.values()):
        return NOTHING
    left = wide.apply(lambda one: (one - gains[one.name][0]) / (gains[one.name][1] - gains[one.name][0]))
    keeping = left[left["utility"] >= kept]
    if keeping.empty:
        return f"{subspace}, {control}: no k keeps {kept:.0%} of the gain in utility."
    best = keeping.loc[keeping["harm"].idxmin()]
    most = f"at most {max(0.0, 1 - best['harm']):.0%} of the rise of harm goes"
    return f"{subspace}, {control}: {most} where at least {kept:.0%} of the gain in utility stays."


def decided(table: pd.DataFrame, by: str, column: str) -> str:
    """Which rows have which decision: *Not distinct: C1, C3. Undecided: C2.*"""
    rows = table[table[column].fillna("") != ""]  # some claims are not put to this question
    groups = {word: list(dict.fromkeys(own[by])) for word, own in rows.groupby(column, sort=False)}
    return " ".join(f"{word[:1].upper()}{word[1:]}: {', '.join(names)}." for word, names in groups.items())


def tallied(table: pd.DataFrame, column: str, what: str) -> str:
    """How many rows have which decision: *Of 12 criteria 8 yes, 3 undecided, 1 no.*"""
    counts = table.loc[table[column].fillna("") != "", column].value_counts()
    if counts.empty:
        return NOTHING
    return f"Of {int(counts.sum())} {what}: " + ", ".join(f"{count} {word}" for word, count in counts.items()) + "."
