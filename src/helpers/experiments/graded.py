"""The graded control: how separable safety must be before a statistic sees it (claims C1–C4).

At the place s of the dial a share s of the planted study's construction is in force, from the base model on: at 0 every
training is free and nothing is penalised, which is a true zero; 1 is the planted study itself.
"""

from collections.abc import Mapping

import pandas as pd

from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.data.rows import training_rows
from helpers.experiments.bases import TASK, bases_of, only_strict
from helpers.experiments.overlap import (
    MATCHED,
    TOPICS,
    matched_overlaps,
    probe_accuracies,
    prompt_sets,
    set_activations,
)
from helpers.experiments.projection import Grid
from helpers.experiments.six_models import first_model, obtain
from helpers.experiments.updates import study_geometry
from helpers.models.load import load_model, save_model
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import energy_table


def planted_by(study: Study, share: float) -> Study:
    """The study with a share of its construction, and only what the strict statistics of the claims read."""
    planted = study.planted.model_copy(update={"share": share})
    return only_strict(study).model_copy(update={"planted": planted})


def trained_models(
    study: Study, seed: int, run: RunPaths, places: Mapping[str, str] | None = None
) -> dict[str, Checkpoint]:
    """The models of a study, made in ``run`` one after another; those that are there already are kept.

    ``places``: name of each model's folder, where it is not the model's own.
    """
    folders = {name: run.model((places or {}).get(name, name)) for name in study.models}
    for name, folder in folders.items():
        objective = getattr(study.training, name)
        if not (folder / "config.json").exists():
            first = objective is None or objective.start == "scratch"
            start = first_model(study, seed) if first else load_model(folders[objective.start], device_of(study))
            rows = training_rows(study, objective, seed, folders["base"]) if objective else pd.DataFrame()
            *found, _ = obtain(study, name, seed, start, rows, run)
            save_model(*found, folder)
    return {name: Checkpoint(folder) for name, folder in folders.items()}


def device_of(study: Study) -> str | None:
    """Where models are trained and asked here: an organism on the CPU, others on a GPU if there is one (None)."""
    return "cpu" if study.embedded else None


def strict_tables(study: Study, seed: int, models: dict[str, Checkpoint]) -> dict[str, pd.DataFrame]:
    """The tables of one seed that the strict statistics read."""
    grid = Grid(*load_model(models["aligned"].folder), models, study, seed)
    geometry = study_geometry(study, seed, models, cached=False)
    wanted = {*MATCHED.values(), *TOPICS.values()}
    sets = {name: prompts for name, prompts in prompt_sets(study, seed).items() if name in wanted}
    activations = set_activations(*load_model(models["aligned"].folder), sets, study)
    return {
        "projection": grid.projection(bases_of(study))["projection"],
        "scaling": grid.scaling([TASK])["scaling"],
        "energy": energy_table(geometry, study.projection.fractions),
        "update_overlap": geometry.overlap,
        "matched_activations": matched_overlaps(activations, study),
        "probe": probe_accuracies(activations, study),
    }


def strict_values(study: Study, tables: dict[str, pd.DataFrame], gate: bool = False) -> pd.DataFrame:
    """The strict statistics of every claim for the tables of one seed: columns claim, statistic, value.

    ``gate``: also those without whose rise no claim has a verdict, which read the table ``behaviour``.
    """
    results = SeedResults(**{name: tables.get(name, pd.DataFrame()) for name in TABLES})
    rows = [
        (name, statistic, float(STATISTICS[statistic](results)))
        for name, claim in study.claims.items()
        for statistic in [*(claim.gate if gate else ()), *(guard.statistic for guard in claim.strict)]
    ]
    return pd.DataFrame(rows, columns=["claim", "statistic", "value"])
