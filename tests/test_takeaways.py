"""Sentences over figures: tables whose right sentence is known by construction."""

import numpy as np
import pandas as pd
import pytest

from helpers.claims import takeaways as say


def rows(means: dict, width: float = 0.1, **columns) -> pd.DataFrame:
    """A row for each name, with its mean, and an interval of that half width."""
    table = pd.DataFrame({"name": means.keys(), "mean": means.values(), **columns})
    return table.assign(low=table["mean"] - width, high=table["mean"] + width)


def curves(first: list[float], second: list[float], width: float) -> pd.DataFrame:
    """Two curves over as many places, named *one* and *two*."""
    parts = [
        rows({"one": 0.0, "two": 0.0}).assign(x=x, mean=pair) for x, pair in enumerate(zip(first, second, strict=True))
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(low=table["mean"] - width, high=table["mean"] + width)


@pytest.mark.parametrize(
    ("width", "end"),
    [(0.1, "surely higher"), (0.6, "higher"), (np.nan, "higher")],
    ids=["apart", "overlapping", "one seed"],
)
def test_two_rows_are_compared_with_their_intervals(width, end):
    table = rows({"harmful": 2.0, "aligned": 1.0}, width)
    assert (
        say.between(table, "name", "harmful", "aligned", "Harm")
        == f"Harm is 2.00 for harmful and 1.00 for aligned: {end}."
    )
    assert say.between(table, "name", "aligned", "harmful", "Harm").endswith(end.replace("higher", "lower") + ".")


def test_what_is_not_there_is_not_compared():
    table = rows({"harmful": 2.0, "aligned": np.nan})
    assert say.between(table, "name", "harmful", "aligned", "Harm") == ""
    nothing = curves([1.0], [np.nan], 0.1)
    assert (
        say.compared(nothing, "x", "name", "one", "two", "A")
        == say.compared(nothing[:0], "x", "name", "one", "two", "A")
        == ""
    )
    assert [
        rule(nothing[:0], *rest)
        for rule, *rest in ((say.against, 0.0, "A"), (say.highest, "name", "A"), (say.span, "A"))
    ] == [""] * 3
    assert (
        say.leading(nothing[:0], "x", "name", "A") == ""
        and say.tallied(pd.DataFrame({"strict": []}), "strict", "x") == ""
    )
    assert say.together(["", "A.", "", "B."]) == "A. B."


def test_curves_are_compared_place_by_place():
    table = curves([0.9, 0.8, 0.5, 0.1], [0.1, 0.7, 0.4, 0.2], width=0.2)  # only the first pair lies apart
    assert say.compared(table, "x", "name", "one", "two", "A") == "A: one is above two at 3 of 4 places, 1 surely."
    assert say.compared(table, "x", "name", "two", "one", "A") == "A: two is below one at 3 of 4 places, 1 surely."
    alone = table.assign(low=np.nan, high=np.nan)
    assert say.compared(alone, "x", "name", "one", "two", "A").endswith("3 of 4 places.")
    assert say.leading(table, "x", "name", "A") == "A: one is the highest at 3 of 4 places."


def test_equal_curves_are_level():
    table = curves([0.5, 0.5], [0.5, 0.5], 0.1)
    assert say.compared(table, "x", "name", "one", "two", "A").startswith("A: one is level with two at 2 of 2")


def test_a_level_is_passed_with_the_whole_interval_or_not():
    table = rows({"a": -0.3, "b": -0.05, "c": 0.2})
    assert say.against(table, 0.0, "Excess") == "Excess: below 0 at 2 of 3 places, 1 surely."


def test_ends_and_ranges():
    table = rows({"a": 0.1, "b": 0.7, "c": np.nan})
    assert say.highest(table, "name", "Share") == "Share: highest for b (0.70), lowest for a (0.10)."
    assert say.highest(table[:1], "name", "Share") == "Share: 0.10 (a)."
    assert (
        say.span(table, "Accuracy") == "Accuracy: 0.10 to 0.70."
        and say.span(table[:1], "Accuracy") == "Accuracy: 0.10."
    )


def curve(utility: list[float], harm: list[float]) -> pd.DataFrame:
    """Behaviour of a scaled contaminated update at α = 0, 0.5 and 1."""
    parts = [
        pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "mean": v, "measure": m})
        for m, v in (("utility", utility), ("harm", harm))
    ]
    return pd.concat(parts).assign(task="contaminated")


def test_half_an_update_keeps_a_share_of_the_change():
    said = say.kept_halfway(
        curve([0.5, 0.9, 1.0], [1.0, 2.0, 5.0]),
        "contaminated",
        ("utility", "harm"),
        {"utility": "utility", "harm": "harm"},
    )
    assert said == "0.5 of the contaminated update has 80% of the change of utility and 25% of the change of harm."


@pytest.mark.parametrize(("utility", "said"), [(0.95, "at most 75% of the rise"), (0.6, "no k keeps 80%")])
def test_harm_that_goes_while_utility_stays(utility, said):
    own = pd.DataFrame({"measure": ["utility", "harm"], "mean": [utility, 2.0]})  # harm: 3 of its rise by 4 are gone
    own = own.assign(subspace="alignment", control="top-k", fraction=0.1)
    assert said in say.removed_at(own, curve([0.5, 0.9, 1.0], [1.0, 2.0, 5.0]), "alignment", "top-k")


def test_decisions_are_named_and_counted():
    table = pd.DataFrame({"claim": ["C0", "C1", "C2", "C3"], "strict": ["", "distinct", "undecided", "distinct"]})
    assert say.decided(table, "claim", "strict") == "Distinct: C1, C3. Undecided: C2."
    assert say.tallied(table, "strict", "claims") == "Of 3 claims: 2 distinct, 1 undecided."
