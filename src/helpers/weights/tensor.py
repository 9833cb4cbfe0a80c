"""Geometry of the updates of one tensor: each decomposed once, then every k, every energy fraction and every pair.

Let D be an update (m, n), s = min(m, n), and X (s, l) the same with its short side first, which is read in blocks from
mapped files. Only matrices (s, s) are ever held, so memory does not depend on the long side.

- m ≤ n: U comes from G = D Dᵀ, and S = U_aᵀ U_b for a pair.
- An update L R of low rank, L (m, r) and R (r, n), as of a LoRA adapter, is decomposed by the QR factors of L and Rᵀ.
- m > n: V and Σ come from DᵀD, and S = Σ_a⁻¹ V_aᵀ (D_aᵀ D_b) V_b Σ_b⁻¹, without U. Where a spectrum is too wide for
  that division, S is summed over blocks of U_aᵀ U_b with U = D V Σ⁻¹ in a further pass.

With S of a pair (a, task), the energy of the task along mode i of a is Σ_j S_ij² σ_j², so ‖P_k D‖² for every k is a
cumulative sum, and MSO at every energy fraction is a prefix sum of S². Along a basis B that is not a pair's, the
energies are the diagonal of Bᵀ G B (m ≤ n), or the squared row norms of BᵀD (m > n).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from helpers.draws import NEARLY_SQUARE, blocks, gaussian_blocks, generator_for, haar
from helpers.spectra import RESOLVED, add_gram, quadratic_forms, spectrum, spectrum_of_product
from helpers.subspaces import numerical_rank, rank_for_energy, rank_tolerance
from helpers.weights.blocks import TensorUpdates


@dataclass(frozen=True)
class Request:
    """What is asked of every tensor."""

    labels: list[str]  # updates
    subspaces: list[str]  # updates whose subspaces are projected on
    tasks: list[str]  # updates that are projected
    controls: list[str]
    pairs: list[tuple[str, str]]  # updates whose overlap is asked for
    energy_fractions: list[float]
    random_k_draws: int
    seed: int

    @property
    def decomposed(self) -> list[str]:
        """Updates whose modes are needed."""
        return [x for x in self.labels if x in self.subspaces or any(x in pair for pair in self.pairs)]

    @property
    def crossed(self) -> list[tuple[str, str]]:
        """Pairs of updates whose product is needed where m > n."""
        projected = [(a, t) for a in self.subspaces for t in self.tasks]
        return self.pairs + [(a, t) for a, t in projected if (a, t) not in self.pairs and (t, a) not in self.pairs]


@dataclass(frozen=True)
class Spectrum:
    """One update on its short side."""

    basis: Tensor  # (s, s), or (s, r) of a product of low rank: U for m ≤ n, V for m > n
    values: Tensor  # (s,) or (r,) singular values, decreasing
    rank: int

    @property
    def modes(self) -> Tensor:
        """The basis up to the numerical rank (s, rank)."""
        return self.basis[:, : self.rank]

    @property
    def kept(self) -> Tensor:
        """The singular values up to the numerical rank (rank,)."""
        return self.values[: self.rank]

    @property
    def ill_conditioned(self) -> bool:
        """Whether it is too wide for a division by its values."""
        return bool(self.kept[-1] < RESOLVED * self.kept[0])

    @property
    def whitener(self) -> Tensor:
        """V Σ⁻¹ (s, rank), with which U = D V Σ⁻¹ for m > n."""
        return self.modes / self.kept


def tensor_geometry(
    request: Request, tensor: TensorUpdates, keep: Callable[[str, Spectrum], None] | None = None
) -> dict[str, Tensor]:
    """Everything asked about one tensor, as named float64 arrays on the CPU; ``keep`` is given each subspace's modes.

    ``values|update`` (rank,): singular values, ``total|update`` (): ‖D‖², ``energy|subspace|control|task`` (r,):
    ‖P_k D‖² for k = 1 … r, ``overlap|a|b`` (3, energy fractions): MSO, k_a, k_b. Zero updates have rank 0, and neither
    energy nor overlap.
    Raises TensorMismatch when one is not finite.
    """
    if len(tensor.shape) == 1:
        return _vector_geometry(request, tensor)
    grams, crosses = _accumulate(request, tensor)
    totals = {label: gram.diagonal().sum() for label, gram in grams.items()}
    spectra = {label: _spectrum(grams, label, tensor, label in request.tasks) for label in request.decomposed}
    for label in request.subspaces if keep else ():
        keep(label, spectra[label])
    alive = {label for label, total in totals.items() if total > 0}
    pairs = [pair for pair in request.pairs if alive.issuperset(pair)]
    along, result = {}, {f"values|{label}": found.kept for label, found in spectra.items()}
    for (a, b), cosines in _mode_products(tensor, pairs, spectra, crosses):
        squares = cosines.square_()  # (rank_a, rank_b)
        result[f"overlap|{a}|{b}"] = _overlaps(squares, spectra[a], spectra[b], request.energy_fractions)
        along[a, b] = squares @ spectra[b].kept.square()  # (rank_a,)
        along[b, a] = spectra[a].kept.square() @ squares  # (rank_b,)
    projected = [(a, t) for a in request.subspaces for t in request.tasks if a in alive and t in alive]
    for a, t in projected:
        if (a, t) not in along:
            along[a, t] = _energy_along(tensor, a, t, spectra[a], grams, crosses)
    random = _random_energies(request, tensor, projected, grams) if "random" in request.controls else {}
    for a, t in projected:
        result |= _energies(request, tensor.name, a, t, along[a, t], random.get((a, t)))
    result |= {f"total|{label}": total for label, total in totals.items()}
    return {key: value.cpu() for key, value in result.items()}


def _accumulate(request: Request, tensor: TensorUpdates) -> tuple[dict, dict]:
    """Gram matrices X Xᵀ (lower triangles) of all updates and, if tall, products X_a X_bᵀ of pairs, each (s, s)."""
    s, pairs = min(tensor.shape), request.crossed if tensor.tall else []
    known = {label: tensor.factors(label) for label in request.labels}
    thin = {label: found for label, found in known.items() if found is not None}
    full = [label for label in request.labels if label not in thin]
    grams, crosses = {label: _product(found, found, tensor.tall) for label, found in thin.items()}, {}
    for part, piece in zip(tensor.parts(), tensor.blocks(full), strict=True) if full else ():
        for label, x in piece.items():  # (s, b)
            if label not in grams:
                grams[label] = x.new_zeros(s, s)
            add_gram(grams[label], x)
        for a, b in pairs:
            if piece.keys() & {a, b}:
                x, y = (piece[label] if label in piece else thin[label][0][part].T for label in (a, b))  # (s or r, b)
                if (a, b) not in crosses:
                    crosses[a, b] = x.new_zeros(len(x), len(y))
                crosses[a, b].addmm_(x, y.T)
    for a, b in pairs:
        if a in thin and b in thin:
            crosses[a, b] = _product(thin[a], thin[b], tensor.tall)
        elif a in thin or b in thin:
            crosses[a, b] = crosses[a, b] @ thin[b][1] if b in thin else thin[a][1].T @ crosses[a, b]
    if not all(torch.isfinite(gram.diagonal().sum()) for gram in grams.values()):
        tensor.refuse()
    return grams, crosses


def _product(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], tall: bool) -> Tensor:
    """X_a X_bᵀ (s, s) of updates L R given by L (m, r) and R (r, n): D_aᵀ D_b if tall, else D_a D_bᵀ."""
    return a[1].T @ (a[0].T @ b[0]) @ b[1] if tall else a[0] @ (a[1] @ b[1].T) @ b[0].T


def _spectrum(grams: dict[str, Tensor], label: str, tensor: TensorUpdates, keep: bool) -> Spectrum:
    """The spectrum of one update; its Gram matrix is given up unless it is a task's of a wide tensor."""
    gram = grams[label] if keep and not tensor.tall else grams.pop(label)
    tolerance = rank_tolerance(*tensor.shape)
    if (factors := tensor.factors(label)) is not None:
        u, values, v = spectrum_of_product(*factors)
        return Spectrum(v if tensor.tall else u, values, numerical_rank(values, tolerance))
    basis, values = spectrum(gram, lambda: (piece[label] for piece in tensor.blocks([label])), tolerance)
    return Spectrum(basis, values, numerical_rank(values, tolerance))


def _mode_products(
    tensor: TensorUpdates, pairs: list[tuple[str, str]], spectra: dict[str, Spectrum], crosses: dict
) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """S = U_aᵀ U_b (rank_a, rank_b) of each pair."""
    if tensor.tall and any(spectra[label].ill_conditioned for pair in pairs for label in pair):
        rotated = _rotated_products(tensor, pairs, spectra)
        yield from ((pair, rotated.pop(pair)) for pair in pairs)
        return
    for pair in pairs:
        a, b = (spectra[label] for label in pair)
        yield pair, a.whitener.T @ crosses.pop(pair) @ b.whitener if tensor.tall else a.modes.T @ b.modes


def _rotated_products(tensor: TensorUpdates, pairs: list[tuple[str, str]], spectra: dict[str, Spectrum]) -> dict:
    labels = list(dict.fromkeys(label for pair in pairs for label in pair))
    products = {}
    for piece in tensor.blocks(labels):
        u = {label: spectra[label].modes.T @ piece[label] / spectra[label].kept[:, None] for label in labels}
        for a, b in pairs:
            products[a, b] = products.get((a, b), 0) + u[a] @ u[b].T  # (rank_a, rank_b)
    return products


def _energy_along(tensor: TensorUpdates, a: str, task: str, modes: Spectrum, grams: dict, crosses: dict) -> Tensor:
    """Energy of a task along each mode of a subspace that is no pair with it: (rank,)."""
    if not tensor.tall:
        return quadratic_forms(modes.modes.T.contiguous(), grams[task])
    if not modes.ill_conditioned:
        return (modes.whitener.T @ crosses[a, task]).square().sum(1)
    blocks = tensor.blocks([a, task])
    coordinates = sum(modes.modes.T @ piece[a] / modes.kept[:, None] @ piece[task].T for piece in blocks)  # (rank, n)
    return coordinates.square().sum(1)


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
    request: Request, tensor: TensorUpdates, projected: list[tuple[str, str]], grams: dict[str, Tensor]
) -> dict[tuple[str, str], Tensor]:
    """Energy of each task along each vector of each subspace's Haar basis: (subspace, task) -> (s,)."""
    generators = {a: generator_for(request.seed, a, tensor.name, "random") for a, _ in projected}
    if tensor.tall:
        return _tall_random(tensor, generators, list(dict.fromkeys(t for _, t in projected)))
    energies, m = {}, tensor.shape[0]
    for label, generator in generators.items():
        rows = haar(m, m, generator, tensor.device).T.contiguous()
        energies |= {(a, t): quadratic_forms(rows, grams[t]) for a, t in projected if a == label}
    return energies


def _tall_random(
    tensor: TensorUpdates, generators: dict[str, torch.Generator], tasks: list[str]
) -> dict[tuple[str, str], Tensor]:
    """Row energies of QᵀD for each task, Q (m, n) the Haar basis, by C = R⁻ᵀ(GᵀD) with G = QR unless nearly square."""
    m, n = tensor.shape
    explicit = m < NEARLY_SQUARE * n
    drawn = {a: (_haar_blocks if explicit else gaussian_blocks)(m, n, g) for a, g in generators.items()}
    zeros = torch.zeros(n, n, dtype=torch.float64, device=tensor.device)
    grams = {a: zeros.clone() for a in drawn}
    products = {(a, t): zeros.clone() for a in drawn for t in tasks}
    for piece in tensor.blocks(tasks):
        for a, source in drawn.items():
            g = next(source)[1].to(zeros)  # (b, n)
            if not explicit:
                add_gram(grams[a], g.T)
            for task in tasks:
                products[a, task].addmm_(g.T, piece[task].T)
    if not explicit:
        factors = {a: torch.linalg.cholesky(gram) for a, gram in grams.items()}
        for a, task in products:
            products[a, task] = torch.linalg.solve_triangular(factors[a], products[a, task], upper=False)
    return {key: c.square().sum(1) for key, c in products.items()}


def _haar_blocks(m: int, n: int, generator: torch.Generator) -> Iterator[tuple[slice, Tensor]]:
    q = haar(m, n, generator)
    return ((part, q[part]) for part in blocks(m, n))


def _energies(
    request: Request, name: str, subspace: str, task: str, along: Tensor, random: Tensor | None
) -> dict[str, Tensor]:
    """Cumulative energies ‖P_k D‖², k = 1 … rank, of one subspace and task under every control."""
    result = {}
    for control in request.controls:
        if control == "random":
            energy = random[: len(along)].cumsum(0)
        elif control == "random-k":
            draws = [generator_for(request.seed, subspace, name, control, i) for i in range(request.random_k_draws)]
            energy = torch.stack([along[torch.randperm(len(along), generator=g)].cumsum(0) for g in draws]).mean(0)
        else:
            energy = along.cumsum(0)
        result[f"energy|{subspace}|{control}|{task}"] = energy
    return result


def _vector_geometry(request: Request, tensor: TensorUpdates) -> dict[str, Tensor]:
    """A 1-D tensor has one mode, its own direction, under every control but ``random``; it has no overlap."""
    parts = list(tensor.blocks(request.labels))
    vectors = {label: torch.cat([part[label] for part in parts]).cpu() for label in request.labels}
    if not all(torch.isfinite(vector.sum()) for vector in vectors.values()):
        tensor.refuse()
    result = {
        f"values|{label}": vectors[label].norm()[None][: int(vectors[label].any())] for label in request.decomposed
    }
    result |= {f"total|{label}": vector.square().sum() for label, vector in vectors.items()}
    for label, control, task in product(request.subspaces, request.controls, request.tasks):
        if vectors[label].any() and vectors[task].any():
            direction = vectors[label] / vectors[label].norm()
            if control == "random":
                direction = haar(len(direction), 1, generator_for(request.seed, label, tensor.name, "random"))[:, 0]
            result[f"energy|{label}|{control}|{task}"] = (direction @ vectors[task]).square()[None]
    return result
