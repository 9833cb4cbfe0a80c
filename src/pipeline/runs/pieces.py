"""Pieces of a long table, kept as soon as they are made: a killed run goes on there, and jobs can make them apart."""

import shutil
from collections.abc import Callable

import pandas as pd

from helpers.files import beside, replace_folder
from helpers.paths import RunPaths
from helpers.studies.settings import Study, digest
from helpers.weights.checkpoints import Checkpoint
from pipeline.runs.stages import made_from

Tables = dict[str, pd.DataFrame]


class Pieces:
    """Pieces that a notebook's run keeps in its scratch folder until the whole is written.

    They lie under a hash of what they are made from: the notebook's settings and code, the seed, and the models'
    files. What was made from anything else is never read.
    """

    def __init__(self, notebook: str, study: Study, seed: int, checkpoints: dict[str, Checkpoint]) -> None:
        models = {name: checkpoint.identity() for name, checkpoint in checkpoints.items()}
        self._all = RunPaths(study.name, seed).scratch(notebook)
        self.folder = self._all / digest(made_from(notebook, study), seed, models)

    def obtain(self, name: str, make: Callable[[], Tables]) -> Tables:
        """The tables of a piece: as they were kept, or else made now and kept, to the last digit in both cases.

        Raises Unwritable.
        """
        folder = self.folder / name
        if not folder.exists():
            made = make()
            with beside(folder) as partial:
                partial.mkdir()
                for table, rows in made.items():
                    rows.to_csv(partial / f"{table}.csv", index=False, float_format="%.17g")
                replace_folder(partial, folder)
        return {path.stem: pd.read_csv(path, float_precision="round_trip") for path in sorted(folder.glob("*.csv"))}

    def clear(self) -> None:
        """Remove all pieces, once the whole is written."""
        shutil.rmtree(self._all, ignore_errors=True)
