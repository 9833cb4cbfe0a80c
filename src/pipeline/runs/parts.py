"""Parts of the long notebooks of a seed, which a scheduler's jobs make side by side before the notebook gathers them.

A part only fills what the notebook keeps anyway (the geometry's finished tensors, the projection's pieces), so results
are the same with and without it. ``pipeline.runs.execute_part`` makes one.
"""

from helpers.experiments.bases import bases_of
from helpers.studies.own_models import OwnModels
from helpers.studies.settings import Study

SHARDS = 8  # of the tensors whose geometry notebook 4 needs
DIVIDED = ("04_update_overlap", "05_projection")


def parts_of(notebook: str, study: Study | OwnModels) -> list[str]:
    """Names of the parts of a notebook; a notebook that is not divided has none."""
    if isinstance(study, OwnModels) or notebook not in DIVIDED:
        return []
    if notebook == "04_update_overlap":
        return [f"shard-{i}-of-{SHARDS}" for i in range(SHARDS)]
    curves = [f"scaling-{task}" for task in study.projection.parallel]
    return curves + [str(basis) for basis in bases_of(study)]
