"""Labelled subspaces, which are told what is harmful, and their twins, beside the alignment subspace.

Of each: the energy of the updates that it holds and its overlap with D_A and D_S, against chance of equal rank, and the
behaviour of a model whose contaminated update keeps nothing else, or loses it. All tensors together, at every rank, and
at the largest rank each module type and each third of the depth, where the update of all other tensors is lost when the
group's part is kept, and kept when it is lost.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.claims.beyond_scaling import SCALING
from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.experiments.bench import SHARES, TASK
from helpers.experiments.projection import Keeper
from helpers.methods.calibration import matrices
from helpers.methods.context import Context
from helpers.methods.door import Subspace, subspace_named
from helpers.subspaces import decompose, rank_for_fraction
from helpers.weights.edits import LiveUpdate, side_first
from helpers.weights.names import layer_of, module_of

TASKS, WHOLE = ("useful", "harmful", TASK), ("alignment", "safety")  # updates whose energy, and whose overlap, is taken
THIRDS = ("first third", "middle third", "last third")  # of the blocks
ALL = ("all", "all")
AMOUNTS = ["tensor", "k", "quantity", "of", "kept", "chance", "whole"]
MEASURES = ("utility", "utility_margin", "harm", "harm_margin")
Bases = dict[str, Tensor]


def groups(context: Context) -> dict[tuple[str, str], list[str]]:
    """Tensors of each group, by grouping and name: all, each module type of matrices, each third of the blocks."""
    found: dict[tuple[str, str], list[str]] = {ALL: context.names}
    for name in (name for name in context.names if len(context.shape(name)) == 2):
        found.setdefault(("module", module_of(name)), []).append(name)
    blocks, depth = matrices(context), 1 + max(map(layer_of, context.names))
    for name in blocks:
        found.setdefault(("depth", THIRDS[3 * layer_of(name) // depth]), []).append(name)
    return found


def bases_of(method: Subspace, context: Context) -> Bases:
    """The orthonormal columns of every tensor that has some, (m, r) or of the input side (n, r)."""
    return {tensor: modes.vectors[:, : modes.rank] for tensor, modes in method.every_modes(context).items()}


def directions(context: Context, bases: Bases, share: float) -> dict[str, int]:
    """k of every tensor with a basis: that share of min(m, n), at most its columns."""
    return {name: min(rank_for_fraction(context.shape(name), share), b.shape[1]) for name, b in bases.items()}


def shares_of(context: Context, bases: Bases) -> list[float]:
    """The shares at which some tensor has more directions than at the one before."""
    ranks = {share: directions(context, bases, share) for share in SHARES}
    return [share for before, share in zip([None, *SHARES], SHARES, strict=False) if ranks[share] != ranks.get(before)]


def geometry(context: Context) -> pd.DataFrame:
    """Table ``labelled_geometry``: energies and overlaps of all subspaces, by groups, beside what chance would give."""
    rows, grouped = [], groups(context)
    for name in tqdm(context.study.bench.compared, desc="geometry"):
        method = subspace_named(name)
        bases = bases_of(method, context)
        shares = shares_of(context, bases)
        for share in shares:
            ranks = directions(context, bases, share)
            amounts = [row for tensor in context.names for row in _of_tensor(method, tensor, bases, ranks, context)]
            single = pd.DataFrame(amounts, columns=AMOUNTS)
            for (grouping, group), names in grouped.items() if share == shares[-1] else [(ALL, grouped[ALL])]:
                own = single[single["tensor"].isin(names)]
                if own["k"].any():
                    where = {"subspace": name, "grouping": grouping, "group": group, "fraction": share}
                    rows += [where | row for row in _shares(own)]
    return pd.DataFrame(rows)


def _of_tensor(method: Subspace, tensor: str, bases: Bases, ranks: dict[str, int], context: Context) -> Iterator[tuple]:
    """Amounts of one tensor (AMOUNTS): each with what chance would give, and with the whole that it is a share of."""
    k = ranks.get(tensor, 0)
    q = bases[tensor][:, :k] if k else None
    for of in TASKS:
        change = side_first(context.update(of, tensor), method.side)
        whole = float(change.square().sum())
        kept = float((q.T @ change).square().sum()) if k else 0.0
        yield tensor, k, "energy", of, kept, k / len(change) * whole, whole
    for of in WHOLE if k and len(context.shape(tensor)) == 2 else ():
        leading = _leading(of, tensor, method, context)[:, :k]
        if leading.shape[1]:
            shared = float((q.T @ leading).square().sum()) / leading.shape[1]
            yield tensor, k, "overlap", of, shared, k / len(q), 1.0


def _leading(label: str, tensor: str, method: Subspace, context: Context) -> Tensor:
    """Singular vectors of an update of the base model on the side of a subspace, for the largest share: (m, k)."""

    def make() -> Tensor:
        modes = decompose(side_first(context.update(label, tensor), method.side))
        return modes.vectors[:, : min(modes.rank, rank_for_fraction(context.shape(tensor), SHARES[-1]))].clone()

    return context.once(("leading", label, tensor, method.side), make)


def _shares(amounts: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Of a group of tensors: sums of amounts over sums of wholes, which of overlaps is a mean over matrices."""
    k = amounts.loc[amounts["k"] > 0].drop_duplicates("tensor")["k"].mean()
    for (quantity, of), own in amounts.groupby(["quantity", "of"], sort=False):
        value, chance = (own[column].sum() / own["whole"].sum() for column in ("kept", "chance"))
        yield {"directions": k, "quantity": quantity, "of": of, "value": value, "chance": chance}


class Labelled:
    """Measures variants in ``model``, which is the aligned model, and is that again after every call.

    With ``pieces`` the rows of each subspace are kept as soon as they are there.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: Context, pieces: Keeper
    ) -> None:
        self.model, self.tokenizer, self.context, self.pieces = model, tokenizer, context, pieces
        self.sets = EvaluationSets.of(context.study, context.seed)
        self.live = LiveUpdate(model, context.checkpoints["aligned"], context.checkpoints[TASK])
        self.grouped = groups(context)

    def behaviour(self) -> pd.DataFrame:
        """Table ``labelled_behaviour``: the scaled update, then every subspace kept (parallel) and removed."""
        names = {SCALING: self._scaled} | {name: self._projected for name in self.context.study.bench.compared}
        found = []
        for name, rows in tqdm(names.items(), desc="behaviour"):
            self.context.next_method()
            piece = self.pieces.obtain(name, lambda n=name, rows=rows: {"labelled": pd.DataFrame([*rows(n)])})
            found.append(piece["labelled"])
        return pd.concat(found, ignore_index=True)

    def _scaled(self, name: str) -> Iterator[dict[str, object]]:
        with self.live:
            for alpha in sorted(self.context.study.projection.scaling):
                self.live.scale(alpha)
                yield self._row(name, SCALING, ALL, alpha, judged=True)

    def _projected(self, name: str) -> Iterator[dict[str, object]]:
        method = subspace_named(name)
        bases = bases_of(method, self.context)
        shares = shares_of(self.context, bases)
        with self.live:
            for place, names in self.grouped.items():
                own = {tensor: basis for tensor, basis in bases.items() if tensor in names}
                at = shares if place == ALL else shares[-1:]
                for mode in ("parallel", "orthogonal") if own else ():
                    for share in self.live.sweep(own, at, mode, side=method.side):
                        yield self._row(name, mode, place, share, judged=place == ALL)

    def _row(self, name: str, mode: str, place: tuple[str, str], share: float, judged: bool) -> dict[str, object]:
        study = self.context.study  # utility is matched by margins; of right answers a pass of their own is not made
        but = ("perplexity",) if study.embedded else ("perplexity", "utility")
        values = measure(self.model, self.tokenizer, self.sets, study, judged, but=but)
        means = {one: float(np.nanmean(values[one])) if one in values else float("nan") for one in MEASURES}
        where = {"subspace": name, "mode": mode, "grouping": place[0], "group": place[1], "fraction": float(share)}
        return where | {"energy_kept": self.live.energy_kept} | means
