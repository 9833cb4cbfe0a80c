"""What is decomposed once: modes kept for the edits, and updates of low rank through their factors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.subspaces import decompose
from helpers.weights.adapters import Adapted
from helpers.weights.blocks import TensorUpdates
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import weight_geometry
from helpers.weights.kept_modes import kept_modes

SHAPES = {"wide": (12, 20), "tall": (20, 12), "square": (12, 12)}
NAMES = {kind: f"model.layers.0.mlp.{kind}_proj.weight" for kind in SHAPES}
ASK = {"subspaces": ["alignment"], "tasks": ["mine"], "controls": ["top-k", "random"], "energy_fractions": [0.5, 0.9]}


@pytest.fixture
def given(tmp_path):
    """A base, an aligned model and a LoRA of rank 3 upon it, and the float64 updates by name."""
    generator = torch.Generator().manual_seed(4)
    base = {name: torch.randn(SHAPES[kind], generator=generator) for kind, name in NAMES.items()}
    aligned = {name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in base.items()}
    factors = {
        n: (torch.randn(w.shape[0], 3, generator=generator), torch.randn(3, w.shape[1], generator=generator))
        for n, w in base.items()
    }
    lora = {}
    for name, (b, a) in factors.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        lora |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    for folder, tensors, file in (
        ("base", base, "model"),
        ("aligned", aligned, "model"),
        ("mine", lora, "adapter_model"),
    ):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / f"{file}.safetensors")
        (tmp_path / folder / "config.json").write_text("{}")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none", "target_modules": [*NAMES]}
    (tmp_path / "mine" / "adapter_config.json").write_text(json.dumps(config))
    start = Checkpoint(tmp_path / "aligned")
    mine = Adapted(Checkpoint(tmp_path / "mine"), start)
    updates = {"alignment": (start, Checkpoint(tmp_path / "base")), "mine": (mine, start)}
    right = {"alignment": {n: aligned[n].double() - base[n].double() for n in base}}
    return updates, right | {"mine": {n: 2 * b.double() @ a.double() for n, (b, a) in factors.items()}}


def test_an_adapter_is_decomposed_by_its_factors_as_by_its_matrix(given):
    updates, right = given
    found = weight_geometry(updates, random_k_draws=1, seed=0, **ASK)
    for name, change in right["mine"].items():
        assert TensorUpdates(updates, name, tuple(change.shape)).factors("mine") is not None
        u, values, _ = torch.linalg.svd(change)
        first = torch.linalg.svd(right["alignment"][name])[0]
        torch.testing.assert_close(found.values[f"mine|{name}"], values[:3])
        along = (first[:, :12].T @ change).square().sum(1).cumsum(0)
        torch.testing.assert_close(found.energy[f"alignment|top-k|mine|{name}"], along)
        row = found.overlap.query("tensor == @name and eta == 0.9").iloc[0]
        k_a, k_b = int(row["k_a"]), int(row["k_b"])
        assert row["mso"] == pytest.approx(float((first[:, :k_a].T @ u[:, :k_b]).square().sum()) / min(k_a, k_b))
        assert k_b == np.searchsorted(np.cumsum(values**2 / (values**2).sum()), 0.9) + 1


def test_updates_given_by_factors_and_by_matrices_agree_in_every_pair(given, tmp_path):
    updates, right = given
    start, mine = updates["mine"][1], updates["mine"][0]
    written = {name: (start.tensor(name).double() + change) for name, change in right["mine"].items()}
    (tmp_path / "whole").mkdir()
    save_file(written, tmp_path / "whole" / "model.safetensors")
    (tmp_path / "whole" / "config.json").write_text("{}")
    every = updates | {"whole": (Checkpoint(tmp_path / "whole"), start), "again": (mine, start)}
    pairs = [("mine", "alignment"), ("alignment", "whole"), ("mine", "again"), ("whole", "alignment")]
    ask = ASK | {"subspaces": ["mine", "alignment"], "tasks": ["alignment", "whole", "again", "mine"]}
    found = weight_geometry(every, random_k_draws=1, seed=0, pairs=pairs, **ask)
    mso = found.overlap.set_index(["tensor", "a", "b", "eta"])["mso"]
    for name in right["mine"]:
        for eta in (0.5, 0.9):
            assert mso[name, "mine", "again", eta] == pytest.approx(1)
            assert mso[name, "mine", "alignment", eta] == pytest.approx(mso[name, "alignment", "whole", eta], abs=1e-9)
        for control in ("top-k", "random"):
            one, other = (found.energy[f"alignment|{control}|{task}|{name}"] for task in ("again", "whole"))
            torch.testing.assert_close(one, other)
        whole = torch.linalg.svd(right["mine"][name])[0][:, :3]
        along = (whole.T @ right["alignment"][name]).square().sum(1).cumsum(0)
        torch.testing.assert_close(found.energy[f"mine|top-k|alignment|{name}"], along)


def test_kept_modes_are_those_of_the_update(given, tmp_path):
    updates, right = given
    weight_geometry(updates, random_k_draws=1, seed=0, modes=tmp_path / "modes", **ASK)
    for name, change in right["alignment"].items():
        found, own = kept_modes(tmp_path / "modes", "alignment", name, updates["alignment"]), decompose(change)
        assert found.rank == own.rank == 12
        torch.testing.assert_close(found.singular_values, own.singular_values)
        for k in (3, 12):  # the subspaces are the same, whatever the signs
            projector = own.vectors[:, :k] @ own.vectors[:, :k].T
            torch.testing.assert_close(found.vectors[:, :k] @ found.vectors[:, :k].T, projector)
            some = kept_modes(tmp_path / "modes", "alignment", name, updates["alignment"], most=k)
            assert some.rank == k
            torch.testing.assert_close(some.vectors @ some.vectors.T, projector)
    assert kept_modes(tmp_path / "modes", "mine", NAMES["wide"], updates["mine"]) is None


def test_types_are_those_of_the_files(given):
    table = weight_geometry(given[0], random_k_draws=1, seed=0, **ASK).rounding.set_index("update")
    assert table.loc["mine", "tuned_type"] == "float32"  # read in float64, and stored so
