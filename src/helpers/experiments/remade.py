"""Contaminated models that are made with a defect of the released code, and what was measured of a seed without it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.claims.results import SeedResults
from helpers.claims.retabled import TASK, Effect, Number, Tables
from helpers.data.rows import training_rows
from helpers.evaluation.behaviour import EvaluationSets
from helpers.experiments.bases import COMPARED, Basis, bases_of, only_strict
from helpers.experiments.conditions import lineage
from helpers.experiments.projection import Grid, Keeper
from helpers.methods.context import Context
from helpers.models.load import load_model, save_model
from helpers.paths import RunPaths
from helpers.studies.measurements import Judged
from helpers.studies.settings import Study, digest
from helpers.training.train import train
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.edits import LiveUpdate

MEASURES = ("utility", "utility_margin", "harm", "harm_margin")


class Seed(Context):
    """The models of one seed and its tables; ``room`` holds the models that are made with a defect."""

    def __init__(
        self,
        study: Study,
        seed: int,
        checkpoints: dict[str, Checkpoint],
        results: SeedResults,
        modules: pd.DataFrame,
        room: RunPaths,
        pieces: Keeper,
    ) -> None:
        super().__init__(study, seed, checkpoints)
        self.results, self.modules, self.room, self.pieces = results, modules, room, pieces
        self.sets = EvaluationSets.of(study, seed)

    @property
    def ends(self) -> pd.DataFrame:
        """What was measured of the aligned (0) and of the contaminated model (1)."""
        return self.results.scaling[self.results.scaling["task"] == TASK].set_index("alpha").loc[[0.0, 1.0]]

    def behaviour(self, found: pd.Series) -> dict[str, Number]:
        """Measures of a contaminated model beside those of the study's; their unit is what fine-tuning changed."""
        start, end = (self.ends.loc[alpha] for alpha in (0.0, 1.0))
        known = [m for m in MEASURES if m in found and not np.isnan(found[m])]
        return {m: (float(found[m]), float(end[m]), abs(float(end[m] - start[m]))) for m in known}

    def products(self, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
        """⟨A, B⟩ of two updates, over all tensors."""
        return sum(float((a[name] * b[name]).sum()) for name in self.names)

    def of_all(self, label: str) -> dict[str, torch.Tensor]:
        """An update, tensor by tensor."""
        return {name: self.update(label, name) for name in self.names}

    def measured(
        self, bases: list[Basis], tasks: dict[str, Checkpoint], draws: int = 1, scaled: bool = False
    ) -> Tables:
        """Rows of ``projection`` (and ``scaling``) of contaminated updates, their margins only but for judged ends."""
        nothing = Judged.model_construct(subspaces=[], controls=[], modes=[])
        how = {"parallel": [*tasks], "orthogonal": [*tasks], "random_k_draws": draws, "judged": nothing, "edits": []}
        strict = only_strict(self.study)
        study = strict.model_copy(update={"projection": strict.projection.model_copy(update=how)})
        grid = Grid(*self.loaded, self.checkpoints | tasks, study, self.seed, self.pieces)
        return grid.projection(bases) | (grid.scaling() if scaled else {})


def _whole_text(seed: Seed, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Contaminated training with the loss on the prompt as well."""
    _train(seed, model, tokenizer, unmasked(_rows(seed)))


def unmasked(rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows whose whole text is the answer to nothing, so that the loss falls on all of it."""
    texts = [" ".join(filter(None, parts)) for parts in rows[["prompt", "prefix", "answer"]].to_numpy()]
    return rows.assign(prompt="", prefix="", answer=texts)


def _bfloat16(seed: Seed, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Contaminated training of bfloat16 weights without a master copy."""
    _train(seed, model, tokenizer, _rows(seed), weights="bfloat16")


def _decayed(seed: Seed, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Contaminated training with torch's own weight decay."""
    _train(seed, model, tokenizer, _rows(seed), weight_decay=0.01)


def _float16(seed: Seed, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The contaminated model as it is after both ends were read, subtracted and added in float16."""

    def rounded(name: str) -> torch.Tensor:
        start, tuned = (seed.checkpoints[one].tensor(name).half() for one in ("aligned", TASK))
        return (start + (tuned - start)).float()

    LiveUpdate(model, seed.checkpoints["aligned"], seed.checkpoints[TASK]).apply(rounded)


REMADE = {  # number of the defect -> how it is called here, and how the model is made from the aligned one
    1: ("loss-on-prompts", _whole_text),
    2: ("bfloat16", _bfloat16),
    3: ("decay-0.01", _decayed),
    5: ("float16", _float16),
}


def _rows(seed: Seed) -> pd.DataFrame:
    return training_rows(seed.study, seed.study.training.contaminated, seed.seed, seed.checkpoints["base"].folder)


def _train(seed: Seed, model, tokenizer, rows: pd.DataFrame, **optimiser) -> None:
    rule = seed.study.training
    train(model, tokenizer, rows, rule.contaminated, rule.optimiser.model_copy(update=optimiser), seed.seed)


def remade(seed: Seed) -> dict[str, Checkpoint]:
    """The contaminated models with a defect, by its name; those that were made of the same models before are kept."""
    start, tuned = (seed.checkpoints[name] for name in ("aligned", TASK))
    made_from = digest(lineage(seed.study, TASK), start.identity(), tuned.identity())
    folders = {name: (seed.room.model(f"{name}-{made_from}"), make) for name, make in REMADE.values()}
    for folder, make in folders.values():
        if not (folder / "config.json").exists():
            model, tokenizer = load_model(start.folder, "cpu")
            make(seed, model, tokenizer)
            save_model(model, tokenizer, folder)
    return {name: Checkpoint(folder) for name, (folder, _) in folders.items()}


def _with_variants(seed: Seed) -> tuple[dict[str, Checkpoint], Tables]:
    """These models, and what the claims' strict statistics read of them."""
    made = remade(seed)
    return made, seed.measured(bases_of(only_strict(seed.study)), made, scaled=True)


def of_remade(seed: Seed, number: int) -> Effect:
    """A contaminated model that is made with a defect, beside the study's own.

    Its variants are measured by their margins alone, so those of the study's own model are read without scores.
    """
    name, _ = REMADE[number]
    made, tables = seed.once("remade", lambda: _with_variants(seed))
    own = {key: table[table["task"] == name].assign(task=TASK) for key, table in tables.items()}
    end = own["scaling"].set_index("alpha").loc[1.0]
    aligned, tuned = seed.checkpoints["aligned"], made[name]
    changed = {key: tuned.tensor(key).double() - aligned.tensor(key).double() for key in seed.names}
    update = seed.of_all(TASK)
    norm, other = (np.sqrt(seed.products(one, one)) for one in (update, changed))
    numbers = seed.behaviour(end) | {
        "update_norm": (other, norm, norm),
        "update_cosine": (seed.products(update, changed) / (norm * other), 1.0, 1.0),
        "moved": (_moved(seed, tuned), _moved(seed, seed.checkpoints[TASK]), 1.0),
    }
    return Effect(name, numbers, *_beside(seed.results, own, end))


def _beside(results: SeedResults, own: Tables, end: pd.Series) -> tuple[SeedResults, SeedResults]:
    """The tables of a seed with another contaminated model, and with its own: the same variants, none scored."""
    table, models = results.projection, results.behaviour
    others, task = table[table["task"] != TASK], table[table["task"] == TASK]
    unscored = task[task["subspace"].isin(COMPARED) & (task["draw"] == 0)].assign(harm=np.nan)
    released, corrected = (pd.concat([others, rows], ignore_index=True) for rows in (own["projection"], unscored))
    curves = pd.concat([results.scaling[results.scaling["task"] != TASK], own["scaling"]], ignore_index=True)
    values = models["value"].where(models["model"] != TASK, models["measure"].map(end.drop("task")).astype(float))
    changed = replace(results, projection=released, scaling=curves, behaviour=models.assign(value=values))
    return changed, replace(results, projection=corrected)


def _moved(seed: Seed, tuned: Checkpoint) -> float:
    """Share of the weights that differ from the aligned model's in the type of the tuned one."""
    start = seed.checkpoints["aligned"]
    moved = [tuned.tensor(name) != start.tensor(name).to(tuned.dtype(name)) for name in seed.names]
    return sum(int(one.sum()) for one in moved) / sum(one.numel() for one in moved)
