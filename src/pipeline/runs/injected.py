"""What papermill gave a notebook beside its own parameters: it only warns of a name that the notebook does not know.

Papermill writes the parameters that it is given into a cell of their own, which runs before the notebook's first cell
of code; IPython keeps the text of every cell that has run. The same cell is there in an executed notebook that is
opened and run again in JupyterLab.
"""

import ast
import difflib
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress

from helpers.errors import SettingsError

BEGINNING = "# Parameters\n"  # of the cell that papermill writes


def refuse_unknown(notebook: str, known: Collection[str]) -> None:
    """Raise SettingsError if papermill gave a notebook a parameter that is not among those it has."""
    ipython = sys.modules.get("IPython")  # which a process without a notebook need not wait for
    shell = ipython.get_ipython() if ipython else None
    for name in given(shell.user_ns.get("In", []) if shell else []):
        if name not in known:
            raise unknown(notebook, name, known)


def given(cells: Sequence[str]) -> list[str]:
    """Names that papermill's cell assigns to: the last such one among the texts of cells that have run."""
    written = [cell for cell in cells if cell.startswith(BEGINNING)]
    assigned: list[ast.stmt] = []
    with suppress(SyntaxError):  # of a cell that has been changed by hand, and has stopped with that itself
        assigned = ast.parse(written[-1]).body if written else []
    targets = [target for node in assigned if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def unknown(notebook: str, name: str, known: Collection[str]) -> SettingsError:
    """The sentence on a parameter that a notebook does not have, with the one that is meant where one is like it."""
    meant = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {meant[0]!r}?)" if meant else ""
    return SettingsError(f"{notebook} has no parameter {name!r}{hint}: its parameters are {', '.join(known)}")
