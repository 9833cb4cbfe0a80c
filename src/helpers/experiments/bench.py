"""The bench: every method of the field and its nulls on one study's models, at every place of their dials.

A point is one application in the live model, one pass over the prompts, and no reload; of a method that acts during
training it is one fine-tuning, whose model then goes the same way. Every second prompt is for choosing a method's dial,
the others are for scoring it. Answers are asked for where they decide: right answers to problems at every place of
scaling and of trained models, and of others at those that the ledger's rule would choose by margins, the best first,
until one has enough of them. All else is measured of scaling and of trained models at every place, of others at the
chosen one, and of no null.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.claims.bench import ATTACK, DIVERGENCES, candidates, chosen, kind_of
from helpers.claims.beyond_scaling import SCALING, effects
from helpers.data.rows import evaluation_rows
from helpers.evaluation.behaviour import EvaluationSets, measure, right_answers
from helpers.evaluation.divergence import TOKENS, mean_divergence, next_words
from helpers.experiments.projection import Keeper
from helpers.experiments.six_models import contaminated
from helpers.methods.context import Context
from helpers.methods.door import edit_named, subspace_named, training_named
from helpers.studies.ledger import bench_rule
from helpers.studies.settings import Study
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.edits import LiveUpdate

TASK = "contaminated"
SHARES = [0.02, 0.1, 0.25]  # k / min(m, n) of a subspace that is removed; one of one direction is always that one
MEASURES = ["utility", "utility_margin", "second_utility", "harm", "harm_margin", "perplexity", "over_refusal"]
MARGINS, RIGHT = ["utility_margin", "harm_margin"], ["utility"]
EVERYTHING = [*MEASURES, *DIVERGENCES]
Rows = list[dict]  # of one place, one for each half of the prompts
Points = Callable[..., Iterator[float]]  # of a method's name, at some places of its dial or all: applies one, yields it
SPLITS = {"choose": slice(0, None, 2), "score": slice(1, None, 2)}  # of the prompts of every set


class Bench:
    """Measures methods in ``model``, which is the aligned model, and is that again after every call.

    With ``pieces`` the rows of each method are kept as soon as they are there.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        checkpoints: dict[str, Checkpoint],
        study: Study,
        seed: int,
        pieces: Keeper,
    ) -> None:
        self.model, self.tokenizer, self.study, self.pieces = model, tokenizer, study, pieces
        self.sets = replace(EvaluationSets.of(study, seed), beside={})
        other = study.bench.second_utility
        self.second = evaluation_rows(study, other, study.evaluation.utility_prompts, seed) if other else None
        self.context = Context(study, seed, checkpoints, keeps_modes=True)
        self.live = LiveUpdate(model, checkpoints["aligned"], checkpoints[TASK])
        self.bases: dict[str, dict[str, Tensor]] = {}  # of the subspace that was removed last, by tensor
        with self.live:
            self.aligned = next_words(model, tokenizer, self.sets.benign, study)
            self.live.scale(1.0)
            self.tuned = next_words(model, tokenizer, self.sets.benign, study)

    def table(self) -> pd.DataFrame:
        """Table ``bench``: what methods, nulls and scaling do at each place of their dials, by half of the prompts."""
        bench = self.study.bench
        edits, subspaces = bench.with_nulls(bench.edits), bench.with_nulls(bench.subspaces)
        scaling = self._obtain(SCALING, lambda: _frame(self._measured(SCALING, self._scaled(), EVERYTHING)))
        points = dict.fromkeys(edits, self._edited) | dict.fromkeys(subspaces, self._removed)
        found = [
            self._obtain(name, lambda n=name, at=at: self._answered_where_it_counts(n, at, scaling))
            for name, at in tqdm(points.items(), desc="methods")
        ]
        return pd.concat([scaling, *found], ignore_index=True)

    def during_training(self) -> pd.DataFrame:
        """Table ``bench_training``: the same of methods that act during training, and of their nulls."""
        names = self.study.bench.with_nulls(self.study.bench.during_training)
        asked = {name: EVERYTHING if name in self.study.bench.nulls else [*MARGINS, *RIGHT] for name in names}
        found = [
            self._obtain(name, lambda n=name: _frame(self._measured(n, self._trained(n), asked[n])))
            for name in tqdm(names, desc="during training")
        ]
        return pd.concat(found, ignore_index=True)

    def _obtain(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        self.context.next_method()
        return self.pieces.obtain(name, lambda: {"bench": make()})["bench"]

    def _answered_where_it_counts(self, name: str, points: Points, scaling: pd.DataFrame) -> pd.DataFrame:
        """Rows with margins at every place, and with answers where the rule and the summary ask for them."""
        found, rule, nulls = self._measured(name, points(name), MARGINS), bench_rule(), self.study.bench.nulls

        def effect() -> pd.DataFrame:
            return effects(pd.concat([scaling, _frame(found)], ignore_index=True).assign(seed=self.context.seed))

        for kind in {kind_of(own): None for own in nulls if name in (own, *nulls[own])}:
            for dial in candidates(effect(), name, kind, rule)["dial"]:
                if kind != ATTACK:
                    self._add(found[dial], points(name, [dial]), RIGHT)
                if dial in chosen(effect(), name, kind, rule)["dial"].tolist():
                    if name in nulls and kind == kind_of(name):
                        self._add(found[dial], points(name, [dial]), EVERYTHING)
                    break
        return _frame(found)

    def _measured(self, name: str, points: Iterator[float], asked: list[str]) -> dict[float, Rows]:
        """By place of the dial, a row for each half of the prompts."""
        found, started = {}, time.monotonic()
        with self.live:
            for dial in map(float, points):
                where = {"method": name, "dial": dial, "energy_kept": self.live.energy_kept}
                cost = {"seconds": time.monotonic() - started, "seconds_measured": 0.0}
                unknown = dict.fromkeys(EVERYTHING, float("nan"))
                found[dial] = [where | {"split": split} | unknown | cost for split in SPLITS]
                self._fill(found[dial], asked)
                started = time.monotonic()
        return found

    def _add(self, rows: Rows, points: Iterator[float], asked: list[str]) -> None:
        """Make a place again and measure there what its rows lack, if anything."""
        if self._lacking(rows, asked):
            with self.live:
                for _ in points:
                    self._fill(rows, asked)

    def _fill(self, rows: Rows, asked: list[str]) -> None:
        """Measure in the live model what the rows of a place lack: of each its mean over one half of the prompts."""
        started = time.monotonic()
        values = self._values(self._lacking(rows, asked))
        for row, part in zip(rows, SPLITS.values(), strict=True):
            halves = {name: values[name][part] for name in EVERYTHING if name in values}
            row |= {name: float(np.nanmean(half)) for name, half in halves.items() if not np.isnan(half).all()}
            row["seconds_measured"] += time.monotonic() - started

    def _lacking(self, rows: Rows, asked: list[str]) -> list[str]:
        none = ["second_utility"] if self.second is None else []
        return [name for name in asked if np.isnan(rows[0][name]) and name not in none]

    def _scaled(self) -> Iterator[float]:
        for alpha in sorted(self.study.projection.scaling):
            self.live.scale(alpha)
            yield alpha

    def _edited(self, name: str, dials: Iterable[float] = ()) -> Iterator[float]:
        edit = edit_named(name)
        for dial in dials or edit.dials:
            self.live.apply(lambda tensor, d=dial: edit.edited(self.context.weights(tensor, TASK), self.context, d))
            yield dial

    def _trained(self, name: str) -> Iterator[float]:
        method = training_named(name)
        for dial in method.dials:
            weights = contaminated(self.context, method.make(self.context, dial))
            self.live.apply(weights.__getitem__)
            yield dial

    def _removed(self, name: str, shares: Iterable[float] = ()) -> Iterator[float]:
        method = subspace_named(name)
        if name not in self.bases:  # of one subspace at a time, since they are large
            found = method.every_modes(self.context)
            self.bases = {name: {tensor: modes.vectors[:, : modes.rank] for tensor, modes in found.items()}}
        bases = self.bases[name]
        several = any(basis.shape[1] > 1 for basis in bases.values())
        shares = shares or (SHARES if several else SHARES[:1])
        return self.live.sweep(bases, shares, "orthogonal", side=method.side)

    def _values(self, asked: Collection[str]) -> dict[str, np.ndarray]:
        """Values of measures of the live model for every prompt of their set."""
        answers = bool({"utility", "harm"} & {*asked})
        others = [name for name in MEASURES if name not in asked]
        values = measure(self.model, self.tokenizer, self.sets, self.study, answers, "over_refusal" in asked, others)
        if "second_utility" in asked:
            values["second_utility"] = right_answers(self.model, self.tokenizer, self.second, self.study)
        if {*DIVERGENCES} & {*asked}:
            words = next_words(self.model, self.tokenizer, self.sets.benign, self.study)
            for name, original in (("aligned", self.aligned), ("tuned", self.tuned)):
                values |= {f"kl_{name}_{n}": mean_divergence(original, words, n) for n in (1, TOKENS)}
        return values


def _frame(found: dict[float, Rows]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in found.values() for row in rows])
