"""What ``make lab`` does when JupyterLab saves a committed notebook: text and code go to its file, outputs beside it.

JupyterLab saves by itself, so that a notebook that was only looked at would count as changed. With this hook of the
Jupyter server its file stays as it was; the notebook with its outputs is in ``lab/``, which git does not see.
"""

import nbformat

from helpers.files import write_text
from helpers.paths import NOTEBOOKS, ROOT

COPIES = ROOT / "lab"  # beside ``notebooks/``, so that links between notebooks and to tables lead to the same places
KEPT = ("tags", "jupyter")  # of a cell's metadata; the rest is what JupyterLab notes of an execution or of the screen


def save(model: dict, path: str, **_: object) -> None:
    """Take the outputs out of a notebook that is about to be saved in ``notebooks/``, and keep a copy that has them.

    ``model`` is the server's, changed in place; ``path`` is its place below the clone. Raises Unwritable.
    """
    file = ROOT / path
    if model["type"] != "notebook" or file.parent != NOTEBOOKS:
        return
    notebook = nbformat.from_dict(model["content"])
    if any(cell.get("outputs") for cell in notebook.cells):
        write_text(COPIES / file.name, nbformat.writes(notebook) + "\n")
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if file.exists():  # the kernel's own words on itself differ between machines
        notebook.metadata = nbformat.read(file, as_version=4).metadata
    model["content"] = notebook
