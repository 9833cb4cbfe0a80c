"""What a long notebook has measured so far, so that a run that was stopped goes on where it was."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from helpers.files import beside, replace_folder
from helpers.studies.settings import digest
from pipeline.runs.jobs import Job

if TYPE_CHECKING:
    from helpers.weights.checkpoints import Checkpoint

Tables = dict[str, pd.DataFrame]


class Pieces:
    """Pieces that a job keeps in its scratch folder until the whole is written.

    They lie under a hash of what they are made from: the notebook's settings and code, the seed, and the models'
    files. What was made from anything else is never read.
    """

    def __init__(self, job: Job, checkpoints: "dict[str, Checkpoint]") -> None:
        models = {name: checkpoint.identity() for name, checkpoint in checkpoints.items()}
        self._all = job.folder.scratch(job.notebook)
        self.folder = self._all / digest(job.made_from, job.seed, models)

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
