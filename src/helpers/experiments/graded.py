"""The graded control: how separable safety must be before a statistic sees it (claims C1–C4).

In weight space, the dial s mixes two fine-tunings of one aligned model, one free and one confined as in the planted
study: W(s) = WA + (1 − s) D_free + s D_planted. In activation space it is the share of the planted study's penalty with
which base and aligned model are trained. At 0 nothing is planted; 1 is the planted study itself.
"""

from pathlib import Path

import pandas as pd
import torch

from helpers.activations import capture
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults
from helpers.data.rows import training_rows
from helpers.experiments.overlap import activation_overlaps, prompt_sets
from helpers.experiments.planted import contaminate, separation
from helpers.experiments.projection import Grid
from helpers.experiments.six_models import first_model
from helpers.models.load import Loaded, load_model, save_model
from helpers.paths import RunPaths
from helpers.studies.sections import Judged
from helpers.studies.settings import MODELS, Study
from helpers.training.train import train
from helpers.weights.checkpoints import Checkpoint, study_updates
from helpers.weights.geometry import weight_geometry

TUNED = ("useful", "harmful", "contaminated")
IN_WEIGHTS, IN_ACTIVATIONS = ("C1", "C2", "C3"), "C4"


def free_updates(study: Study, seed: int, run: RunPaths) -> dict[str, Loaded]:
    """Useful, harmful and contaminated fine-tuning from the planted aligned model, with nothing kept anywhere."""
    found = {}
    for name in TUNED:
        start, objective = load_model(run.model("aligned")), getattr(study.training, name)
        rows = training_rows(study, objective, seed)
        if name == "contaminated":
            contaminate(study, seed, start, rows, safety=None)
        else:
            train(*start, rows, objective, study.training.optimiser, seed)
        found[name] = start
    return found


@torch.no_grad()
def mixed(free: dict[str, Loaded], run: RunPaths, dial: float, folder: Path) -> dict[str, Checkpoint]:
    """Checkpoints of the six models at one place of the dial; the three that are mixed are written below ``folder``."""
    for name, (model, tokenizer) in free.items():
        (planted, _), (mixture, _) = load_model(run.model(name)), load_model(run.model(name))
        parts = zip(mixture.parameters(), planted.parameters(), model.parameters(), strict=True)
        for parameter, confined, unconfined in parts:
            parameter.copy_(torch.lerp(unconfined, confined, dial))  # both share WA, so their changes mix alike
        save_model(mixture, tokenizer, folder / name)
    return {name: Checkpoint(folder / name if name in free else run.model(name)) for name in MODELS}


def in_weights(study: Study, seed: int, run: RunPaths, models: dict[str, Checkpoint]) -> pd.DataFrame:
    """The distinctness statistics of the claims about weights for one set of models: claim, statistic, value."""
    chosen = {"subspaces": ["alignment"], "controls": ["top-k", "random"], "judged": _NOTHING}
    grid = study.projection.model_copy(update=chosen)
    small = study.model_copy(update={"projection": grid})
    variants = Grid(*load_model(run.model("aligned")), models, small, seed)
    geometry = weight_geometry(
        study_updates(models),
        subspaces=grid.subspaces,
        tasks=grid.parallel,
        controls=grid.controls,
        energy_fractions=study.update_overlap.energy_fractions,
        random_k_draws=1,
        seed=seed,
    )
    tables = {
        "projection": variants.projection()["projection"],
        "scaling": variants.scaling()["scaling"],
        "update_overlap": geometry.overlap,
    }
    return _statistics(study, seed, tables, IN_WEIGHTS)


def in_activations(study: Study, seed: int, dial: float) -> pd.DataFrame:
    """The distinctness statistic of the claim about activations where ``dial`` of the penalty is in force.

    Base and aligned model are trained anew, the alignment free to change all weights.
    """
    model, tokenizer = first_model(study, seed)
    optimiser = study.training.optimiser
    for name in ("base", "aligned"):
        objective = getattr(study.training, name)
        rows = training_rows(study, objective, seed)
        penalty = separation(study, tokenizer, dial) if dial and name == "base" else None
        train(model, tokenizer, rows, objective, optimiser, seed, penalty=penalty)
    sets = {name: capture(model, tokenizer, prompts) for name, prompts in prompt_sets(study, seed).items()}
    tables = {"activation_overlap": activation_overlaps(sets, study).assign(model="aligned")}
    return _statistics(study, seed, tables, (IN_ACTIVATIONS,))


_NOTHING = Judged(subspaces=["safety"], controls=["top-k"], modes=["orthogonal"])  # of a grid without that subspace


def _statistics(study: Study, seed: int, tables: dict[str, pd.DataFrame], claims: tuple[str, ...]) -> pd.DataFrame:
    results = SeedResults(**{name: tables.get(name, pd.DataFrame()).assign(seed=seed) for name in TABLES})
    names = {claim: study.claims[claim].distinct.statistic for claim in claims}
    rows = [{"claim": claim, "statistic": name, "value": STATISTICS[name](results)} for claim, name in names.items()]
    return pd.DataFrame(rows)
