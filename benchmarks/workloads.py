"""The two workloads, by the method as released and by the engine, and the engine's floor.

The method as released, written from its description: the update is decomposed by a full float32 singular value
decomposition again for every fraction, mode, control and fine-tuned model, and twice for every energy fraction of an
overlap. Decompositions of one shape take the same time whatever they are for, so a few are timed and counted. A wide
matrix is decomposed as its transpose, which LAPACK does about three times faster: the comparison is with the best that
the method can do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import Cost, cost, seconds
from benchmarks.shapes import NAME, TASKS
from helpers.draws import NEARLY_SQUARE, generator_for, haar
from helpers.spectra import gram, quadratic_forms
from helpers.subspaces import rank_for_fraction
from helpers.weights.checkpoints import Updates, update
from helpers.weights.geometry import Geometry, weight_geometry

FRACTIONS = [0.01, 0.25, 0.5, 0.75, 0.99]
ETAS = [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99]
CONTROLS = ["top-k", "random-k", "random"]
SEED = 0


@dataclass(frozen=True)
class Workload:
    """What is asked of every matrix."""

    name: str
    subspaces: list[str]
    random_k_draws: int
    pairs: list[tuple[str, str]] | None  # None: all pairs of the five updates

    @property
    def updates(self) -> list[str]:
        """Updates it reads."""
        return [*self.subspaces, *TASKS]

    @property
    def overlaps(self) -> int:
        """Number of pairs."""
        return len(self.updates) * (len(self.updates) - 1) // 2 if self.pairs is None else len(self.pairs)

    @property
    def variants(self) -> int:
        """Projected variants: subspaces, fine-tuned models, fractions, two modes, controls with their draws."""
        return len(self.subspaces) * len(TASKS) * len(FRACTIONS) * 2 * (2 + self.random_k_draws)

    @property
    def decompositions(self) -> int:
        """Full decompositions of a matrix by the method as released."""
        return self.variants + 2 * len(ETAS) * self.overlaps


RELEASED = Workload("released", ["alignment"], 1, [("useful", "harmful")])
PROJECT = Workload("project", ["alignment", "safety"], 5, None)


@dataclass(frozen=True)
class Released:
    """Timed pieces of the method as released, for one matrix."""

    decomposition: Cost  # one float32 decomposition
    decomposition64: float  # one float64 decomposition, for comparison
    projection: float  # mean over fractions of P_k D = L (Lᵀ D), the variant, and the energy, float32
    overlap: float  # mean over ranks of one overlap, float32

    def seconds(self, workload: Workload, precision: str = "float32") -> float:
        """CPU seconds of a workload."""
        one = self.decomposition.seconds if precision == "float32" else self.decomposition64
        pieces = workload.variants * self.projection + len(ETAS) * workload.overlaps * self.overlap
        return workload.decompositions * one + pieces


def run_released(updates: Updates) -> Released:
    """Time the method as released on one matrix."""
    d_a, d_t = (update(*updates[label], NAME).float() for label in ("alignment", "useful"))
    start = updates["useful"][1].tensor(NAME).float()
    svd = cost(lambda: _full_svd(d_a))
    svd = Cost((svd.seconds + seconds(lambda: _full_svd(d_t))) / 2, svd.peak, svd.result)
    u = svd.result[0]

    def project(k: int) -> tuple[Tensor, float]:
        part = u[:, :k] @ (u[:, :k].T @ d_t)
        return start + part, float(part.square().sum())

    ranks = [rank_for_fraction(tuple(d_t.shape), fraction) for fraction in FRACTIONS]
    projection = sum(seconds(lambda k=k: project(k)) for k in ranks) / len(ranks)
    overlap = sum(seconds(lambda k=k: (u[:, :k].T @ u[:, :k]).square().sum()) for k in ranks) / len(ranks)
    double = seconds(lambda: _full_svd(d_a.double()))
    return Released(svd, double, projection, overlap)


def _full_svd(d: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors and singular values by the full decomposition."""
    if d.shape[0] < d.shape[1]:
        _, values, right = torch.linalg.svd(d.T, full_matrices=False)
        return right.T, values
    return torch.linalg.svd(d, full_matrices=False)[:2]


def run_engine(updates: Updates, workload: Workload) -> Cost:
    """Energies and overlaps of a workload by the engine; the result is a Geometry."""
    chosen = {label: updates[label] for label in workload.updates}
    return cost(
        lambda: weight_geometry(
            chosen, workload.subspaces, TASKS, CONTROLS, ETAS, workload.random_k_draws, SEED, pairs=workload.pairs
        )
    )


def kernels(updates: Updates) -> dict[str, float]:
    """CPU seconds of each kind of product and decomposition that the engine needs for one matrix."""
    d = update(*updates["alignment"], NAME)
    m, n = d.shape
    short = d if m <= n else d.T
    s = len(short)
    lower, square = gram(short), torch.randn(s, s, dtype=torch.float64)
    found = {
        "gram": seconds(lambda: gram(short)),
        "eigh": seconds(lambda: torch.linalg.eigh(lower)),
        "short": seconds(lambda: square @ square),
        "forms": seconds(lambda: quadratic_forms(square, lower)),
        "long": seconds(lambda: short @ short.T) if m > n else 0.0,
    }
    if m < NEARLY_SQUARE * n:
        return found | {"basis": seconds(lambda: torch.linalg.qr(d[:, :m])), "solve": 0.0}
    definite = gram(square) + s * torch.eye(s, dtype=torch.float64)
    factor = torch.linalg.cholesky(definite)
    found["basis"] = found["gram"] + seconds(lambda: torch.linalg.cholesky(definite))
    return found | {"solve": seconds(lambda: torch.linalg.solve_triangular(factor, square, upper=False))}


def floor(timed: dict[str, float], workload: Workload, tall: bool) -> float:
    """CPU seconds of the engine's products and decompositions of one matrix alone, each kind timed and counted."""
    subspaces = len(workload.subspaces)
    projected = subspaces * len(TASKS)
    in_pairs = set(TASKS) if workload.pairs is None else {x for pair in workload.pairs for x in pair}
    alone = 0 if workload.pairs is None else projected  # energies that no pair gives
    total = len(workload.updates) * timed["gram"] + (subspaces + len(in_pairs)) * timed["eigh"]
    total += subspaces * timed["basis"]
    if not tall:
        return total + workload.overlaps * timed["short"] + (alone + projected) * timed["forms"]
    total += (workload.overlaps + alone + projected) * timed["long"] + projected * timed["solve"]
    return total + (2 * workload.overlaps + alone) * timed["short"]


def largest_differences(updates: Updates, geometry: Geometry) -> tuple[float, float]:
    """Largest difference to float64 full decompositions: of energy kept, at every k, and of MSO, at every η.

    Top-K and Random-K are compared on the decomposition's own vectors, and Random on the basis as drawn.
    """
    d = {label: update(*pair, NAME) for label, pair in updates.items()}
    svd = {label: _full_svd(x) for label, x in d.items()}
    energy = mso = 0.0
    for key, kept in geometry.energy.items():
        label, control, task, _ = key.split("|")
        rank = len(kept)
        if control == "random":
            basis = haar(*svd[label][0].shape, generator_for(SEED, label, NAME, "random"))
        else:
            basis = svd[label][0]
        rows = (basis.T @ d[task]).square().sum(1)
        draws = [generator_for(SEED, label, NAME, "random-k", i) for i in range(PROJECT.random_k_draws)]
        orders = [torch.randperm(rank, generator=g) for g in draws] if control == "random-k" else [torch.arange(rank)]
        expected = torch.stack([rows[order].cumsum(0) for order in orders]).mean(0)
        energy = max(energy, float((kept - expected).abs().max() / d[task].square().sum()))
    for row in geometry.overlap.itertuples():
        u, v = svd[row.a][0][:, : row.k_a], svd[row.b][0][:, : row.k_b]
        mso = max(mso, abs(row.mso - float((u.T @ v).square().sum()) / min(row.k_a, row.k_b)))
    return energy, mso
