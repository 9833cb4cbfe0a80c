"""Long notebooks in pieces, kept as they are made: a killed run goes on there, and a scheduler's jobs make them apart.

A part of a notebook, which such a job makes, only fills what the notebook keeps anyway (the geometry's finished
tensors, the projection's pieces), so results are the same with and without it.
``python -m pipeline.runs.parts 05_projection llama-2-7b --seed 0 --part …`` makes one.
"""

import os
import sys
import time

from helpers.errors import StudyError
from helpers.experiments.bases import bases_of
from helpers.lifeline import WORKFLOW, end_with
from helpers.studies.settings import OwnModels, Study
from pipeline.runs.command_line import Parser, exit_status

SHARDS = 8  # of the tensors whose geometry notebook 4 needs
DIVIDED = ("04_update_overlap", "05_projection")


def parts_of(notebook: str, study: Study | OwnModels) -> list[str]:
    """Names of the parts of a notebook; a notebook that is not divided has none."""
    if isinstance(study, OwnModels) or notebook not in DIVIDED:
        return []
    if notebook == "04_update_overlap":
        return [f"shard-{i}-of-{SHARDS}" for i in range(SHARDS)]
    return [f"scaling-{task}" for task in study.projection.parallel] + list(map(str, bases_of(study)))


def make_part(notebook: str, study: str, seed: int, part: str) -> None:
    """Make a part, which the notebook will then find. Raises StudyError for a part that there is not."""
    from helpers.experiments.projection import Grid  # here, because the names of parts are asked for without torch
    from helpers.experiments.updates import study_geometry
    from helpers.models.load import load_model
    from helpers.weights.checkpoints import Checkpoint
    from pipeline.runs.notebook import begin

    run = begin(notebook, study=study, seed=seed)
    if part not in (names := parts_of(notebook, run.study)):
        raise StudyError(f"{notebook} of study {study} has no part {part!r}: choose one of {', '.join(names)}")
    checkpoints = {name: Checkpoint(run.require(f"models/{name}")) for name in run.study.models}
    if notebook == "04_update_overlap":
        study_geometry(run.study, seed, checkpoints, (names.index(part), SHARDS))
        return
    grid = Grid(*load_model(run.require("models/aligned")), checkpoints, run.study, seed, run.pieces(checkpoints))
    if part.startswith("scaling-"):
        grid.scaling([part.removeprefix("scaling-")])
    else:
        grid.projection([basis for basis in bases_of(run.study) if str(basis) == part])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("notebook", choices=DIVIDED)
    parser.add_argument("study")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--part", required=True)
    given, started = parser.parse_args(arguments), time.monotonic()
    end_with(os.environ.get(WORKFLOW))

    def made() -> str:
        make_part(**vars(given))
        seconds = time.monotonic() - started
        return f"{given.study}/seed-{given.seed} {given.notebook} {given.part}: {seconds:.0f} s"

    return exit_status(made)  # who pressed Ctrl-C knows why it stopped


if __name__ == "__main__":
    sys.exit(main())
