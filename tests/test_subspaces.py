"""Properties of the algebra, and its agreement with full singular value decompositions."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.errors import StudyError, TensorMismatch
from helpers.subspaces import (
    control_vectors,
    decompose,
    energy_kept,
    mode_subspace_overlap,
    project,
    rank_for_energy,
    rank_for_fraction,
)

settings.register_profile("algebra", deadline=None, max_examples=60)
settings.load_profile("algebra")

SIDES = st.integers(1, 24)
SEEDS = st.integers(0, 2**31)
SHARES = st.floats(0.01, 1.0)


def gaussian(m: int, n: int, seed: int, rank: int | None = None) -> torch.Tensor:
    """A Gaussian matrix, of full rank or of the given one."""
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(m, n, generator=generator, dtype=torch.float64)
    return gaussian(m, rank, seed) @ gaussian(rank, n, seed + 1)


@st.composite
def updates(draw):
    """Updates of all kinds: wide, tall, rank-deficient, with zero rows, zero, tiny and huge, in any float type."""
    m, n, seed = draw(SIDES), draw(SIDES), draw(SEEDS)
    matrix = gaussian(m, n, seed, draw(st.none() | st.integers(1, min(m, n))))
    matrix[: draw(st.integers(0, m))] *= draw(st.sampled_from([0.0, 1.0, 1e-6]))
    matrix *= draw(st.sampled_from([1.0, 0.0, 1e-3, 1e-30, 1e30]))
    return matrix.to(draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16])))


@given(updates())
def test_modes_are_the_singular_value_decomposition(d):
    modes = decompose(d)
    r = min(d.shape)
    u, s, _ = torch.linalg.svd(d.double(), full_matrices=False)
    assert modes.vectors.shape == (d.shape[0], r)
    assert modes.vectors.dtype == modes.singular_values.dtype == torch.float64
    assert (modes.vectors.T @ modes.vectors - torch.eye(r)).abs().max() < 1e-12
    assert (modes.singular_values - s).abs().max() <= 1e-12 * s[0]
    assert (modes.singular_values.diff() <= 0).all()
    assert modes.rank == np.linalg.matrix_rank(d.double().numpy())
    parts = modes.vectors[:, : modes.rank]
    assert (parts @ (parts.T @ d.double()) - d.double()).abs().max() <= 1e-12 * max(float(s[0]), 1e-300)


@given(updates(), updates(), SHARES)
def test_projection(d, task, share):
    task = gaussian(d.shape[0], task.shape[1], 0)
    modes = decompose(d)
    k = rank_for_fraction(tuple(d.shape), share)
    parallel = project(modes.vectors, task, k, "parallel")
    assert torch.allclose(project(modes.vectors, parallel, k, "parallel"), parallel, atol=1e-12)  # P² = P
    assert torch.allclose(parallel + project(modes.vectors, task, k, "orthogonal"), task, atol=1e-12)
    energy = energy_kept(modes.vectors, task)
    assert float(parallel.square().sum() / task.square().sum()) == pytest.approx(float(energy[k - 1]), abs=1e-12)


@given(updates(), st.integers(1, 8))
def test_energy_is_a_share_that_rises_to_one(d, columns):
    vectors = decompose(d).vectors
    energy = energy_kept(vectors, gaussian(d.shape[0], columns, 1))
    assert (energy >= 0).all() and (energy <= 1).all() and (energy.diff() >= -1e-15).all()
    if d.shape[0] <= d.shape[1]:
        assert float(energy[-1]) == pytest.approx(1)
    own = energy_kept(vectors, d)
    assert float(own[-1]) == pytest.approx(1 if d.any() else 0)


@given(updates(), updates(), SHARES, SEEDS)
def test_overlap_is_the_mean_squared_cosine_of_principal_angles(a, b, eta, seed):
    b = gaussian(a.shape[0], b.shape[1], seed)
    first, second = decompose(a), decompose(b)
    overlap = mode_subspace_overlap(first, second, eta)
    back = mode_subspace_overlap(second, first, eta)
    assert 0 <= overlap.mso <= 1
    assert (back.mso, back.k_a, back.k_b) == (pytest.approx(overlap.mso), overlap.k_b, overlap.k_a)
    assert overlap.random == max(overlap.k_a, overlap.k_b) / a.shape[0]
    if overlap.k_a:
        assert mode_subspace_overlap(first, first, eta).mso == pytest.approx(1)
        q_a, q_b = first.vectors[:, : overlap.k_a].numpy(), second.vectors[:, : overlap.k_b].numpy()
        assert overlap.mso == pytest.approx(np.mean(np.cos(scipy.linalg.subspace_angles(q_a, q_b)) ** 2))


@given(st.integers(2, 16), SEEDS, SHARES)
def test_overlap_does_not_change_under_rotation(m, seed, eta):
    a, b = gaussian(m, m + 3, seed), gaussian(m, m + 5, seed + 1)
    rotation, _ = torch.linalg.qr(gaussian(m, m, seed + 2))
    plain = mode_subspace_overlap(decompose(a), decompose(b), eta)
    rotated = mode_subspace_overlap(decompose(rotation @ a), decompose(rotation @ b), eta)
    assert rotated.mso == pytest.approx(plain.mso)


def test_overlap_of_random_subspaces_is_the_random_baseline():
    values = []
    for seed in range(200):
        overlap = mode_subspace_overlap(
            decompose(gaussian(30, 5, 2 * seed)), decompose(gaussian(30, 9, 2 * seed + 1)), 1.0
        )
        values.append(overlap.mso)
    assert overlap.random == 9 / 30
    assert np.mean(values) == pytest.approx(9 / 30, abs=4 * np.std(values) / 200**0.5)


@given(updates(), SEEDS, st.sampled_from(["top-k", "random-k", "random"]))
def test_controls_are_orthonormal_and_reproducible(d, seed, kind):
    modes = decompose(d)
    vectors = control_vectors(kind, modes, torch.Generator().manual_seed(seed))
    assert vectors.shape == modes.vectors.shape
    assert (vectors.T @ vectors - torch.eye(vectors.shape[1])).abs().max() < 1e-12
    assert torch.equal(vectors, control_vectors(kind, modes, torch.Generator().manual_seed(seed)))
    if kind != "random":  # the same span as the update, mode by mode
        matches = (vectors[:, : modes.rank].T @ modes.vectors[:, : modes.rank]).abs()
        assert torch.allclose(matches.amax(1), torch.ones(modes.rank).double()) if modes.rank else not d.any()


def test_random_controls_are_uniform():
    """The energy that k of m random dimensions keep of a fixed vector is Beta(k/2, (m − k)/2)."""
    modes, vector = decompose(gaussian(12, 12, 0)), gaussian(12, 1, 1)
    generator = torch.Generator().manual_seed(0)
    kept = [float(energy_kept(control_vectors("random", modes, generator), vector)[2]) for _ in range(400)]
    assert scipy.stats.kstest(kept, scipy.stats.beta(1.5, 4.5).cdf).pvalue > 1e-3


def test_near_full_a_random_subspace_of_a_tall_matrix_keeps_its_share_of_the_rows():
    """k is at most the smaller side: at f = 0.99 a control of 192 rows has 95 directions, and is far from the whole."""
    k = rank_for_fraction((192, 96), 0.99)
    basis = control_vectors("random", decompose(gaussian(192, 96, 0)), torch.Generator().manual_seed(1))
    assert k == 95 and energy_kept(basis, gaussian(192, 96, 2))[k - 1] == pytest.approx(95 / 192, abs=0.03)


def test_a_low_rank_that_was_stored_in_float32_is_none():
    """Rounding fills all 96 directions of a change of rank 8, so a cap at the numerical rank caps nothing."""
    start, change = gaussian(96, 96, 0) * 0.06, gaussian(96, 96, 1, rank=8) * 0.001
    stored = (start + change).float().double() - start.float().double()
    assert decompose(change).rank == 8 and decompose(stored).rank == 96


def test_vector_is_a_matrix_of_one_column():
    v = gaussian(7, 1, 0)[:, 0]
    modes = decompose(v)
    assert modes.rank == 1 and modes.vectors.shape == (7, 1)
    assert float(modes.singular_values[0]) == pytest.approx(float(v.norm()))
    assert rank_for_fraction((7,), 0.99) == 1
    assert torch.allclose(project(modes.vectors, v, 1, "parallel"), v)


def test_zero_update_has_no_subspace():
    for shape in ((4, 6), (6, 4), (5,)):
        modes = decompose(torch.zeros(shape))
        assert modes.rank == 0 and rank_for_energy(modes.singular_values, 0.5) == 0
        other = decompose(gaussian(shape[0], 3, 0))
        overlap = mode_subspace_overlap(modes, other, 1.0)
        assert (overlap.mso, overlap.k_a, overlap.k_b) == (0.0, 0, 3)
        assert energy_kept(other.vectors, torch.zeros(shape)).eq(0).all()


@pytest.mark.parametrize(("fraction", "k"), [(0.01, 1), (0.25, 2), (0.5, 5), (0.99, 10), (1.0, 10)])
def test_rank_for_fraction(fraction, k):
    assert rank_for_fraction((10, 30), fraction) == rank_for_fraction((30, 10), fraction) == k


def test_rank_for_energy_is_the_smallest_that_holds_the_fraction():
    equal = torch.ones(10)
    assert [rank_for_energy(equal, eta) for eta in (0.01, 0.1, 0.3, 0.9, 0.99, 1.0)] == [1, 1, 3, 9, 10, 10]
    assert rank_for_energy(torch.tensor([3.0, 4.0]).flip(0), 0.64) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_is_refused(bad):
    d = gaussian(4, 5, 0)
    d[1, 2] = bad
    for use in (decompose, lambda x: energy_kept(gaussian(4, 2, 1), x)):
        with pytest.raises(TensorMismatch, match="NaN or infinity"):
            use(d)


def test_mistakes_are_named():
    modes = decompose(gaussian(4, 5, 0))
    with pytest.raises(TensorMismatch, match=r"\(4, 4\).*\(5, 5\)"):
        energy_kept(modes.vectors, gaussian(5, 5, 0))
    with pytest.raises(TensorMismatch, match="4 and 5 rows"):
        mode_subspace_overlap(modes, decompose(gaussian(5, 5, 0)), 0.5)
    with pytest.raises(StudyError, match="parallel or orthogonal"):
        project(modes.vectors, gaussian(4, 5, 0), 1, "opposite")
    with pytest.raises(StudyError, match="between 0 and"):
        project(modes.vectors, gaussian(4, 5, 0), 5, "parallel")
    with pytest.raises(StudyError, match="top-k, random-k, random"):
        control_vectors("bottom-k", modes, torch.Generator())
    with pytest.raises(StudyError, match="above 0 and at most 1"):
        rank_for_fraction((3, 4), 0.0)
    with pytest.raises(TensorMismatch, match="vector or a matrix"):
        decompose(torch.zeros(2, 3, 4))
