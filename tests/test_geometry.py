"""The engine against plain full singular value decompositions."""

import pytest
import torch

from helpers.checkpoints import matched, update
from helpers.geometry import energy_table, weight_geometry
from helpers.subspaces import rank_for_energy, rank_for_fraction
from helpers.variants import control_bases
from synthetic import study_checkpoints

ETAS = [0.01, 0.3, 0.5, 0.9, 0.99]
TASKS = ["useful", "harmful", "contaminated"]
CONTROLS = ["top-k", "random-k", "random"]


def geometry_of(updates, **options):
    """Geometry of the usual request."""
    request = dict(
        subspaces=["alignment", "safety"],
        tasks=TASKS,
        controls=CONTROLS,
        energy_fractions=ETAS,
        random_k_draws=3,
        seed=5,
    )
    return weight_geometry(updates, **(request | options))


@pytest.fixture(scope="module")
def updates(tmp_path_factory):
    """Six checkpoints of a small Llama."""
    return study_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def plain_svd(updates, label, name):
    """U and singular values of one update by the full decomposition."""
    d = update(*updates[label], name)
    u, s, _ = torch.linalg.svd(d if d.ndim == 2 else d[:, None], full_matrices=False)
    return u, s


def assert_equals_plain(geometry, updates, tolerance=1e-9):
    """Compare every energy and overlap with full decompositions."""
    bases = {
        (label, kind, draw): control_bases(updates[label], kind, 5, draw, label)
        for label in ("alignment", "safety")
        for kind, draws in (("top-k", 1), ("random-k", 3), ("random", 1))
        for draw in range(draws)
    }
    for key, energy in geometry.energy.items():
        label, kind, task, name = key.split("|")
        d = update(*updates[task], name).reshape(geometry.shapes[name][0], -1)
        expected = []
        for draw in range(3 if kind == "random-k" else 1):
            vectors = plain_svd(updates, label, name)[0] if kind == "top-k" else bases[label, kind, draw][name]
            rank = geometry.rank[f"{label}|{name}"]
            expected.append((vectors[:, :rank].T @ d).square().sum(1).cumsum(0))
        total = geometry.total[f"{task}|{name}"]
        assert total == pytest.approx(float(d.square().sum()))
        assert (energy - torch.stack(expected).mean(0)).abs().max() <= tolerance * total, key
    for row in geometry.overlap.itertuples():
        (u, s), (v, t) = plain_svd(updates, row.a, row.tensor), plain_svd(updates, row.b, row.tensor)
        k_a, k_b = rank_for_energy(s, row.eta), rank_for_energy(t, row.eta)
        assert (row.k_a, row.k_b) == (k_a, k_b)
        assert row.mso == pytest.approx(
            float((u[:, :k_a].T @ v[:, :k_b]).square().sum() / min(k_a, k_b)), abs=tolerance
        )
        assert row.random == max(k_a, k_b) / len(u)


def test_geometry_equals_full_decompositions(updates):
    geometry = geometry_of(updates)
    names = matched({"a": updates["alignment"][0], "b": updates["useful"][0]}).names
    matrices = [name for name in names if len(geometry.shapes[name]) == 2]
    assert list(geometry.shapes) == names
    assert len(geometry.energy) == 2 * 3 * 3 * len(names)
    assert len(geometry.overlap) == len(matrices) * 10 * len(ETAS)
    assert list(geometry.overlap.columns) == [
        "tensor",
        "module",
        "layer",
        "a",
        "b",
        "eta",
        "mso",
        "k_a",
        "k_b",
        "random",
    ]
    assert_equals_plain(geometry, updates)


def test_energy_table_sums_over_tensors(updates):
    geometry = geometry_of(updates)
    table = energy_table(geometry, [0.25, 0.5])
    row = table.query(
        "subspace=='safety' and control=='top-k' and task=='harmful' and module=='q_proj' and fraction==0.5"
    )
    kept = total = 0.0
    for name, shape in geometry.shapes.items():
        if ".q_proj." in name:
            d = update(*updates["harmful"], name).reshape(shape[0], -1)
            u = plain_svd(updates, "safety", name)[0][:, : rank_for_fraction(shape, 0.5)]
            kept, total = kept + float((u.T @ d).square().sum()), total + float(d.square().sum())
    assert row.energy_kept.item() == pytest.approx(kept / total)
    assert set(table.module) == {
        "all",
        "embed_tokens",
        "lm_head",
        "q_proj",
        "k_proj",
        "up_proj",
        "down_proj",
        "norm",
        "input_layernorm",
    }
