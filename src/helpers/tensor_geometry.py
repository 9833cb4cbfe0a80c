"""Geometry of the updates of one tensor: each decomposed once, then every k, every energy fraction and every pair.

Let D be an update (m, n), s = min(m, n), and X (s, l) the same with its short side first, which arrives in blocks.
Only matrices (s, s) are ever held, so memory does not depend on the long side.

- m ≤ n: U comes from D Dᵀ, and S = U_aᵀ U_b for a pair.
- m > n: V and Σ come from DᵀD, and S = Σ_a⁻¹ V_aᵀ (D_aᵀ D_b) V_b Σ_b⁻¹, without U. Where a spectrum is too wide for
  that division, S is summed over blocks of U_aᵀ U_b with U = D V Σ⁻¹ in a further pass.

With S of a pair (a, task), the energy of the task along mode i of a is Σ_j S_ij² σ_j², so ‖P_k D‖² for every k is a
cumulative sum, and MSO at every energy fraction is a prefix sum of S².
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from helpers.controls import blocks, gaussian_blocks, generator_for, haar, random_order
from helpers.spectra import RESOLVED, add_gram, spectrum
from helpers.streaming import Pieces
from helpers.subspaces import numerical_rank, rank_for_energy, rank_tolerance

Again = Callable[[list[str]], Iterator[Pieces]]  # another pass over the blocks of some updates
NEARLY_SQUARE = 1.5  # m/n below which a Gaussian (m, n) is too ill-conditioned for its Gram matrix


@dataclass(frozen=True)
class Request:
    """What is asked of every tensor."""

    labels: list[str]  # updates, in the order of pairs
    subspaces: list[str]  # updates whose subspaces are projected on
    tasks: list[str]  # updates that are projected
    controls: list[str]
    energy_fractions: list[float]
    random_k_draws: int
    seed: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All unordered pairs of updates."""
        return list(combinations(self.labels, 2))


@dataclass(frozen=True)
class Spectrum:
    """One update on its short side."""

    basis: Tensor  # (s, s): U for m ≤ n, V for m > n
    values: Tensor  # (s,) singular values, decreasing
    rank: int

    @property
    def modes(self) -> Tensor:
        """The basis up to the numerical rank (s, rank)."""
        return self.basis[:, : self.rank]

    @property
    def kept(self) -> Tensor:
        """The singular values up to the numerical rank (rank,)."""
        return self.values[: self.rank]


def tensor_geometry(
    request: Request, name: str, shape: tuple[int, ...], first: Iterable[Pieces], again: Again
) -> dict[str, Tensor]:
    """Everything asked about one tensor, as named float64 arrays on the CPU.

    ``rank|update`` and ``total|task`` (), ``energy|subspace|control|task`` (r,): ‖P_k D‖² for k = 1 … r,
    ``overlap|a|b`` (3, energy fractions): MSO, k_a, k_b. Zero updates have rank 0, and neither energy nor overlap.
    ``first`` are the blocks of all updates; ``again`` goes over those of some updates another time.
    """
    if len(shape) == 1:
        return _vector_geometry(request, name, first)
    tall = shape[0] > shape[1]
    grams, crosses = _accumulate(request, first, request.pairs if tall else [])
    result = {f"total|{task}": grams[task].diagonal().sum() for task in request.tasks}
    spectra = {
        label: _spectrum(grams.pop(label), shape, lambda k=label: (piece[k] for piece in again([k])))
        for label in request.labels
    }
    result |= {f"rank|{label}": torch.tensor(float(spectra[label].rank)) for label in request.labels}
    alive = [label for label in request.labels if spectra[label].rank]
    pairs = [(a, b) for a, b in request.pairs if a in alive and b in alive]
    if tall and any(_ill_conditioned(spectra[label]) for label in alive):
        crosses = _rotated_crosses(pairs, spectra, again)
    elif tall:
        crosses = {pair: _whitened(crosses.pop(pair), *(spectra[x] for x in pair)) for pair in pairs}
    along = {}  # (subspace, task) -> energy of the task along each mode of the subspace (rank,)
    for a, b in pairs:
        squares = (crosses.pop((a, b)) if tall else _products(spectra[a], spectra[b])).square()  # (rank_a, rank_b)
        result[f"overlap|{a}|{b}"] = _overlaps(squares, spectra[a], spectra[b], request.energy_fractions)
        along[a, b] = squares @ spectra[b].kept.square()
        along[b, a] = squares.T @ spectra[a].kept.square()
    random = _random_energies(request, name, shape, spectra, again) if "random" in request.controls else {}
    result |= _energies(request, name, spectra, along, random)
    return {key: value.cpu() for key, value in result.items()}


def _accumulate(request: Request, pieces: Iterable[Pieces], pairs: list[tuple[str, str]]) -> tuple[dict, dict]:
    """Gram matrices X Xᵀ (lower triangles) of all updates and cross products X_a X_bᵀ of pairs, each (s, s)."""
    grams, crosses = {}, {}
    for piece in pieces:
        for label in request.labels:
            x = piece[label]  # (s, b)
            if label not in grams:
                grams[label] = x.new_zeros(len(x), len(x))
            add_gram(grams[label], x)
        for a, b in pairs:
            if (a, b) not in crosses:
                crosses[a, b] = x.new_zeros(len(x), len(x))
            crosses[a, b].addmm_(piece[a], piece[b].T)
    return grams, crosses


def _spectrum(gram: Tensor, shape: tuple[int, int], blocks: Callable[[], Iterator[Tensor]]) -> Spectrum:
    tolerance = rank_tolerance(*shape)
    basis, values = spectrum(gram, blocks, tolerance)
    return Spectrum(basis, values, numerical_rank(values, tolerance))


def _ill_conditioned(spectrum: Spectrum) -> bool:
    return bool(spectrum.values[spectrum.rank - 1] < RESOLVED * spectrum.values[0])


def _products(a: Spectrum, b: Spectrum) -> Tensor:
    return a.modes.T @ b.modes


def _whitened(cross: Tensor, a: Spectrum, b: Spectrum) -> Tensor:
    return (a.modes / a.kept).T @ cross @ (b.modes / b.kept)


def _rotated_crosses(pairs: list[tuple[str, str]], spectra: dict[str, Spectrum], again: Again) -> dict:
    crosses, labels = {}, list(dict.fromkeys(label for pair in pairs for label in pair))
    for piece in again(labels) if pairs else ():
        u = {label: (spectra[label].modes.T @ piece[label]) / spectra[label].kept[:, None] for label in labels}
        for a, b in pairs:
            crosses[a, b] = crosses.get((a, b), 0) + u[a] @ u[b].T  # (rank_a, rank_b)
    return crosses


def _overlaps(squares: Tensor, a: Spectrum, b: Spectrum, energy_fractions: list[float]) -> Tensor:
    """MSO, k_a, k_b (3, energy fractions) from prefix sums of S² (rank_a, rank_b)."""
    k_a, k_b = (
        torch.tensor([min(rank_for_energy(x.values, eta), x.rank) for eta in energy_fractions], device=squares.device)
        for x in (a, b)
    )
    in_a = (torch.arange(a.rank, device=squares.device) < k_a[:, None]).to(squares)  # (energy fractions, rank_a)
    in_b = (torch.arange(b.rank, device=squares.device) < k_b[:, None]).to(squares)
    sums = ((in_a @ squares) * in_b).sum(1)
    return torch.stack([(sums / torch.minimum(k_a, k_b)).clamp(max=1), k_a, k_b])


def _random_energies(
    request: Request, name: str, shape: tuple[int, int], spectra: dict[str, Spectrum], again: Again
) -> dict[tuple[str, str], Tensor]:
    """Energy of each task along each vector of each subspace's Haar basis: (subspace, task) -> (s,)."""
    energies, tasks = {}, [task for task in request.tasks if spectra[task].rank]
    for label in request.subspaces:
        generator = generator_for(request.seed, label, name, "random")
        if not spectra[label].rank or not tasks:
            continue
        if shape[0] <= shape[1]:
            q = haar(shape[0], shape[0], generator).to(spectra[label].basis)
            found = {t: (q.T @ spectra[t].modes).square() @ spectra[t].kept.square() for t in tasks}
        else:
            found = _tall_random(shape, generator, tasks, again)
        energies |= {(label, task): energy for task, energy in found.items()}
    return energies


def _tall_random(
    shape: tuple[int, int], generator: torch.Generator, tasks: list[str], again: Again
) -> dict[str, Tensor]:
    """Row energies of QᵀD for each task, Q (m, n) the Haar basis, by C = R⁻ᵀ(GᵀD) with G = QR unless nearly square."""
    m, n = shape
    explicit = m < NEARLY_SQUARE * n
    drawn = _haar_blocks(m, n, generator) if explicit else gaussian_blocks(m, n, generator)
    gram, products = None, {}
    for (_, block), piece in zip(drawn, again(tasks), strict=True):
        g = block.to(piece[tasks[0]])  # (b, n)
        gram = g.new_zeros(n, n) if gram is None else gram
        if not explicit:
            add_gram(gram, g.T)
        for task in tasks:
            products[task] = products.get(task, 0) + g.T @ piece[task].T  # (n, n)
    if not explicit:
        factor = torch.linalg.cholesky(gram)
        products = {t: torch.linalg.solve_triangular(factor, p, upper=False) for t, p in products.items()}
    return {task: c.square().sum(1) for task, c in products.items()}


def _haar_blocks(m: int, n: int, generator: torch.Generator) -> Iterator[tuple[slice, Tensor]]:
    q = haar(m, n, generator)
    return ((part, q[part]) for part in blocks(m, n))


def _energies(
    request: Request, name: str, spectra: dict[str, Spectrum], along: dict, random: dict
) -> dict[str, Tensor]:
    """Cumulative energies ‖P_k D‖², k = 1 … rank, of every subspace, control and task that are not zero."""
    result = {}
    for label, task in ((a, t) for a in request.subspaces for t in request.tasks):
        rank = spectra[label].rank
        if not rank or not spectra[task].rank:
            continue
        row = along[label, task] if label != task else spectra[label].kept.square()
        for control in request.controls:
            if control == "random":
                energy = random[label, task][:rank].cumsum(0)
            elif control == "random-k":
                draws = [row[order].cumsum(0) for order in _orders(request, label, name, rank)]
                energy = torch.stack(draws).mean(0)
            else:
                energy = row.cumsum(0)
            result[f"energy|{label}|{control}|{task}"] = energy
    return result


def _orders(request: Request, label: str, name: str, rank: int) -> Iterator[Tensor]:
    for draw in range(request.random_k_draws):
        yield random_order(rank, generator_for(request.seed, label, name, "random-k", draw))


def _vector_geometry(request: Request, name: str, pieces: Iterable[Pieces]) -> dict[str, Tensor]:
    """A 1-D tensor has one mode, its own direction, under every control but ``random``; it has no overlap."""
    parts = list(pieces)
    vectors = {label: torch.cat([piece[label] for piece in parts]).cpu() for label in request.labels}
    result = {f"rank|{label}": torch.tensor(float(bool(v.any()))) for label, v in vectors.items()}
    result |= {f"total|{task}": vectors[task].square().sum() for task in request.tasks}
    for label, task in ((a, t) for a in request.subspaces for t in request.tasks):
        if not vectors[label].any() or not vectors[task].any():
            continue
        for control in request.controls:
            direction = vectors[label] / vectors[label].norm()
            if control == "random":
                direction = haar(len(direction), 1, generator_for(request.seed, label, name, "random"))[:, 0]
            result[f"energy|{label}|{control}|{task}"] = (direction @ vectors[task]).square()[None]
    return result
