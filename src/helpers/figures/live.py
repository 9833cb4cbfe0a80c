"""Figures that are chosen: sliders in JupyterLab, and one of them with a sentence where nothing would move them."""

import html
import os
from collections.abc import Callable, Sequence
from typing import Any

from IPython.display import HTML, display

from helpers.lifeline import WORKFLOW

SESSION = "JPY_SESSION_NAME"  # which a Jupyter server sets in the kernels of its notebooks, and nothing else does
WIDTH = {"description_width": "8em"}


def is_live() -> bool:
    """Whether somebody sits before this kernel: it is of a notebook that is open in JupyterLab, and of no workflow."""
    return SESSION in os.environ and WORKFLOW not in os.environ


def chosen(draw: Callable[..., HTML], /, **choices: tuple[Sequence, Any]) -> Any:
    """What ``draw`` gives for one of several values of each argument: widgets with it below, if somebody can move them.

    ``choices``: of each argument its values and the one that is shown first; numbers get a slider, names alone a list.
    Where nobody can, the first is shown, with a sentence. Raises ValueError if the first is not among the values.
    """
    for name, (values, first) in choices.items():
        if first not in values:
            raise ValueError(f"{name} cannot be {first!r} at first: it is one of {', '.join(map(str, values))}")
    if is_live():
        return _widgets(draw, choices)
    at_first = {name: first for name, (_, first) in choices.items()}
    shown = ", ".join(f"{name} = {first}" for name, first in at_first.items())
    note = f"Shown for {shown}. Other values are chosen in JupyterLab (make lab), where sliders stand in this place."
    return HTML(f'<p class="note">{html.escape(note)}</p>\n{draw(**at_first).data}')


def _widgets(draw: Callable[..., HTML], choices: dict[str, tuple[Sequence, Any]]) -> Any:
    from ipywidgets import Dropdown, SelectionSlider, VBox, interactive_output

    controls = {}
    for name, (values, first) in choices.items():
        numbers = any(isinstance(value, int | float) for value in values)
        kind, how = (SelectionSlider, {"continuous_update": False}) if numbers else (Dropdown, {})
        controls[name] = kind(options=values, value=first, description=name, style=WIDTH, **how)
    return VBox([*controls.values(), interactive_output(lambda **values: display(draw(**values)), controls)])
