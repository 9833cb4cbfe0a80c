"""Under which conditions safety is distinct: the study with one thing changed at a time, its models trained anew."""

import pandas as pd

from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.experiments.bases import GATED, only_strict
from helpers.experiments.graded import device_of, strict_tables, strict_values, trained_models
from helpers.experiments.updates import behaviour_rows
from helpers.models.load import load_model
from helpers.paths import RunPaths
from helpers.studies.settings import Study, digest
from helpers.weights.checkpoints import Checkpoint


def lineage(study: Study, model: str) -> str:
    """Hash of all that a model is made from, but for the seed; models of one lineage are one."""
    chain = []
    while model != "scratch":
        chain.append(getattr(study.training, model) or getattr(study.model, model))  # of one that exists, its origin
        model = getattr(chain[-1], "start", "scratch")
    return digest(study.model, study.language, study.training.optimiser, *study.data.values(), *chain)


def condition_values(study: Study, seed: int, run: RunPaths) -> dict[str, pd.DataFrame]:
    """The strict statistics of a changed study, and those of the gate; models are kept in ``run`` by their lineage.

    A table ``conditions`` with the columns claim, statistic, value.
    """
    changed = only_strict(study)
    places = {name: f"{name}-{lineage(changed, name)}" for name in changed.models}
    models = trained_models(changed, seed, run, places)
    tables = strict_tables(changed, seed, models) | {"behaviour": gate_behaviour(changed, seed, models)}
    return {"conditions": strict_values(changed, tables, gate=True)}


def gate_behaviour(study: Study, seed: int, models: dict[str, Checkpoint]) -> pd.DataFrame:
    """The table ``behaviour`` of the models that the gate of the claims compares."""
    sets, rows = EvaluationSets.of(study, seed), []
    for name in GATED:
        rows += behaviour_rows(name, measure(*load_model(models[name].folder, device_of(study)), sets, study))
    return pd.DataFrame(rows)
