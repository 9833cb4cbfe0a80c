"""The engine against plain full singular value decompositions, on streams that stop, break and resume."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers import draws as controls
from helpers import spectra
from helpers.errors import StudyError, TensorMismatch
from helpers.subspaces import rank_for_energy, rank_for_fraction
from helpers.weights import geometry as geometry_module
from helpers.weights.checkpoints import Checkpoint, matched, update
from helpers.weights.edits import control_bases
from helpers.weights.geometry import energy_table, weight_geometry
from helpers.weights.tensor import tensor_geometry
from synthetic import llama_shapes, modes_of, moved, random_tensors, study_checkpoints, write

ETAS = [0.01, 0.3, 0.5, 0.9, 0.99]
TASKS = ["useful", "harmful", "contaminated"]
CONTROLS = ["top-k", "random-k", "random"]
REQUEST = dict(
    subspaces=["alignment", "safety"],
    tasks=TASKS,
    controls=CONTROLS,
    energy_fractions=ETAS,
    random_k_draws=3,
    seed=5,
)


@pytest.fixture(scope="module")
def updates(tmp_path_factory):
    """Five updates between six checkpoints of a small Llama."""
    return study_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def plain_svd(updates, label, name):
    """U and singular values of one update by the full decomposition, up to the numerical rank."""
    d = update(*updates[label], name)
    u, s, _ = torch.linalg.svd(d if d.ndim == 2 else d[:, None], full_matrices=False)
    rank = int((s > s[0] * max(d.shape) * torch.finfo(torch.float64).eps).sum())
    return u[:, :rank], s[:rank]


def assert_equals_plain(geometry, updates, tolerance=1e-9):
    """Compare every rank, energy and overlap with full decompositions."""
    draws = [("top-k", 0), ("random", 0), *(("random-k", draw) for draw in range(3))]
    modes = {a: modes_of(*updates[a]) for a in REQUEST["subspaces"]}
    bases = {(a, kind, i): control_bases(modes[a], kind, 5, i, a) for a in modes for kind, i in draws}
    for key, rank in geometry.rank.items():
        assert rank == len(plain_svd(updates, *key.split("|"))[1]), key
    for key, energy in geometry.energy.items():
        label, kind, task, name = key.split("|")
        d = update(*updates[task], name).reshape(geometry.shapes[name][0], -1)
        u, _ = plain_svd(updates, label, name)
        vectors = [u] if kind == "top-k" else [bases[label, kind, i][name] for k, i in draws if k == kind]
        expected = torch.stack([(v.T @ d).square().sum(1).cumsum(0) for v in vectors]).mean(0)
        total = geometry.total[f"{task}|{name}"]
        assert total == pytest.approx(float(d.square().sum()))
        assert (energy - expected).abs().max() <= tolerance * total, key
    for row in geometry.overlap.itertuples():
        (u, s), (v, t) = plain_svd(updates, row.a, row.tensor), plain_svd(updates, row.b, row.tensor)
        k_a, k_b = rank_for_energy(s, row.eta), rank_for_energy(t, row.eta)
        assert (row.k_a, row.k_b) == (k_a, k_b)
        mso = float((u[:, :k_a].T @ v[:, :k_b]).square().sum() / min(k_a, k_b))
        assert row.mso == pytest.approx(mso, abs=tolerance)
        assert row.random == max(k_a, k_b) / len(u)


def assert_same(a, b):
    """Two geometries are equal to the last bit."""
    assert a.overlap.equals(b.overlap)
    assert a.total == b.total and a.rank == b.rank and a.energy.keys() == b.energy.keys()
    assert all(torch.equal(a.energy[key], b.energy[key]) for key in a.energy)


def test_geometry_equals_full_decompositions(updates):
    geometry = weight_geometry(updates, **REQUEST)
    names = [*matched((updates["alignment"][0], updates["useful"][0]))]
    matrices = [name for name in names if len(geometry.shapes[name]) == 2]
    assert list(geometry.shapes) == names
    assert len(geometry.energy) == 2 * 3 * 3 * len(names)
    assert len(geometry.overlap) == len(matrices) * 10 * len(ETAS)
    assert ",".join(geometry.overlap.columns) == "tensor,module,layer,a,b,eta,mso,k_a,k_b,random"
    assert_equals_plain(geometry, updates)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints(tmp_path, dtype):
    updates = study_checkpoints(tmp_path, dtype, layers=1)
    assert_equals_plain(weight_geometry(updates, **REQUEST), updates)


def test_blocks_do_not_change_the_result(updates, monkeypatch):
    whole = weight_geometry(updates, **REQUEST)
    monkeypatch.setattr(controls, "BLOCK", 60)
    monkeypatch.setattr(spectra, "PANEL", 5)
    assert_equals_plain(weight_geometry(updates, **REQUEST), updates)
    assert whole.overlap.mso.tolist() == pytest.approx(weight_geometry(updates, **REQUEST).overlap.mso.tolist())


def deficient(kind: str, t: torch.Tensor, seed: int) -> torch.Tensor:
    """An update of a matrix that is frozen, of low rank, confined to some rows or columns, or of a wide spectrum."""
    generator = torch.Generator().manual_seed(seed)
    m, n = t.shape
    d = torch.randn(m, n, generator=generator, dtype=torch.float64)
    if kind == "frozen":
        return torch.zeros_like(d)
    if kind == "low rank":
        return d[:, :3] @ torch.randn(3, n, generator=generator, dtype=torch.float64)
    if kind == "few rows":
        return d * (torch.arange(m) < 4)[:, None]
    if kind == "few columns":
        return d * (torch.arange(n) % 3 == 0)
    return d * torch.logspace(0, -7, n, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["frozen", "low rank", "few rows", "few columns", "wide spectrum"])
@pytest.mark.parametrize("which", [("useful",), ("alignment", "harmful"), ("safety", "contaminated", "useful")])
def test_deficient_updates(tmp_path, kind, which):
    shapes = {
        "model.layers.0.mlp.up_proj.weight": (30, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 30),
        "model.layers.0.self_attn.q_proj.weight": (12, 12),
        "model.layers.0.mlp.gate_proj.weight": (9, 8),
        "model.norm.weight": (12,),
    }
    start = {name: t.double() for name, t in random_tensors(shapes, 0).items()}
    first, updates = write(tmp_path / "start", start), {}
    for seed, label in enumerate(("alignment", "safety", *TASKS)):
        change = {
            n: deficient(kind if label in which and t.ndim == 2 else "", t.reshape(len(t), -1), seed).reshape(t.shape)
            for n, t in start.items()
        }
        updates[label] = (write(tmp_path / label, {n: t + change[n] for n, t in start.items()}), first)
    geometry = weight_geometry(updates, **REQUEST)
    if kind == "frozen":
        assert not set(which) & {*geometry.overlap.a, *geometry.overlap.b}
        assert not any(set(which) & set(key.split("|")[:3]) for key in geometry.energy if "norm" not in key)
    tolerance = 1e-7 if kind == "wide spectrum" else 1e-9
    assert_equals_plain(geometry, updates, tolerance)
    assert_equals_plain(weight_geometry(updates, **REQUEST, pairs=[("useful", "harmful")]), updates, tolerance)


def test_tied_head_counts_once(tmp_path):
    tied = random_tensors(llama_shapes(layers=1), 0)
    tied["lm_head.weight"] = tied["model.embed_tokens.weight"]
    tuned = moved(tied, 1)
    tuned["lm_head.weight"] = tuned["model.embed_tokens.weight"].clone()
    start = write(tmp_path / "a", {n: t.clone() for n, t in tied.items()}, config={"tie_word_embeddings": True})
    end = write(tmp_path / "b", tuned, config={"tie_word_embeddings": True})
    geometry = weight_geometry({"x": (end, start)}, ["x"], ["x"], ["top-k"], ETAS, 1, 0)
    assert "lm_head.weight" not in geometry.shapes
    assert energy_table(geometry, [1.0]).query("module == 'all'").energy_kept.item() == pytest.approx(1)


def test_chosen_pairs_give_the_same_energies(updates):
    whole = weight_geometry(updates, **REQUEST)
    some = weight_geometry(updates, **REQUEST, pairs=[("useful", "harmful")])
    assert set(zip(some.overlap.a, some.overlap.b, strict=True)) == {("useful", "harmful")}
    both = whole.overlap.query("a == 'useful' and b == 'harmful'").mso.tolist()
    assert some.overlap.mso.tolist() == pytest.approx(both)
    for key, energy in whole.energy.items():
        assert torch.allclose(some.energy[key], energy, rtol=1e-9, atol=0), key


def test_resized_vocabulary(tmp_path):
    start = random_tensors(llama_shapes(layers=1), 0)
    tuned = moved(start, 1)
    longer = tuned | {
        n: torch.cat([tuned[n], torch.ones(5, 12)]) for n in ("lm_head.weight", "model.embed_tokens.weight")
    }
    a, b, c = write(tmp_path / "a", start), write(tmp_path / "b", tuned), write(tmp_path / "c", longer)
    request = (["x"], ["x"], CONTROLS, ETAS, 2, 0)
    with pytest.raises(TensorMismatch, match="intersection"):
        weight_geometry({"x": (c, a)}, *request)
    cut = weight_geometry({"x": (c, a)}, *request, vocabulary="intersection")
    assert cut.shapes["lm_head.weight"] == (37, 12)
    assert_same(cut, weight_geometry({"x": (b, a)}, *request))


def test_energy_table_sums_over_tensors(updates):
    geometry = weight_geometry(updates, **REQUEST)
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
    modules = {"embed_tokens", "lm_head", "q_proj", "k_proj", "up_proj", "down_proj", "norm", "input_layernorm"}
    assert set(table.module) == {"all"} | modules


@pytest.fixture
def computed(monkeypatch):
    """Names of the tensors that are computed, rather than read from the cache, in this order."""
    names = []

    def counting(request, tensor, keep=None):
        result = tensor_geometry(request, tensor, keep)
        names.append(tensor.name)
        return result

    monkeypatch.setattr(geometry_module, "tensor_geometry", counting)
    return names


def test_unknown_update_or_control(updates):
    with pytest.raises(StudyError, match="'spicy' is not given: choose among alignment"):
        weight_geometry(updates, **REQUEST | {"tasks": ["spicy"]})
    with pytest.raises(StudyError, match="top-k, random-k, random"):
        weight_geometry(updates, **REQUEST | {"controls": ["bottom-k"]})


KILLED = """
import os, signal, sys
from pathlib import Path
from synthetic import *
from helpers.weights import geometry
folder, request = Path(sys.argv[1]), eval(sys.argv[2])
c = {p.name: Checkpoint(p) for p in folder.iterdir() if p.name != "cache"}
updates = {"alignment": (c["aligned"], c["base"]), "safety": (c["safety"], c["base"])}
updates |= {t: (c[t], c["aligned"]) for t in ("useful", "harmful", "contaminated")}
begun, compute = [], geometry.tensor_geometry
def killed_in_the_fifth(request, tensor, keep=None):
    begun.append(tensor.name)
    if len(begun) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(request, tensor, keep)
geometry.tensor_geometry = killed_in_the_fifth
geometry.weight_geometry(updates, **request, cache=folder / "cache")
"""


def test_killed_and_resumed_equals_uninterrupted(tmp_path, computed):
    updates = study_checkpoints(tmp_path)
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), repr(REQUEST)], env=environment())
    assert run.returncode == -signal.SIGKILL
    finished = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(finished) == 4
    resumed = weight_geometry(updates, **REQUEST, cache=tmp_path / "cache")
    assert len(computed) == len(resumed.shapes) - 4
    weight_geometry(updates, **REQUEST, cache=tmp_path / "cache")
    assert len(computed) == len(resumed.shapes) - 4  # nothing was computed again
    assert_same(resumed, weight_geometry(updates, **REQUEST))


def test_what_is_damaged_in_the_cache_is_computed_again(tmp_path, computed):
    updates, cache = study_checkpoints(tmp_path, layers=1), tmp_path / "cache"
    whole = weight_geometry(updates, **REQUEST, cache=cache)
    cut, flipped, unmarked = sorted(cache.rglob("*.safetensors"))[:3]
    cut.write_bytes(cut.read_bytes()[:-5])
    content = bytearray(flipped.read_bytes())
    content[-3] ^= 1
    flipped.write_bytes(content)
    unmarked.with_name(f"{unmarked.name}.sha256").unlink()  # killed between the two files
    computed.clear()
    assert_same(weight_geometry(updates, **REQUEST, cache=cache), whole)
    assert len(computed) == 3


def test_cache_knows_request_and_files(tmp_path):
    updates = study_checkpoints(tmp_path, layers=1)
    cache = tmp_path / "cache"
    first = weight_geometry(updates, **REQUEST, cache=cache)
    other = weight_geometry(updates, **REQUEST | {"seed": 6}, cache=cache)
    key = next(k for k in first.energy if "|random|" in k)
    assert not torch.equal(first.energy[key], other.energy[key])
    useful = updates["useful"][0]
    tensors = {name: 2 * useful.tensor(name).clone() for name in useful.names}
    changed = updates | {"useful": (write(tmp_path / "useful", tensors), updates["useful"][1])}
    assert_same(weight_geometry(changed, **REQUEST, cache=cache), weight_geometry(changed, **REQUEST))


def test_cache_knows_the_settings_that_say_how_files_are_read(tmp_path):
    """Of an adapter with ten times the scale the update has a hundred times the energy, also beside a kept one."""
    updates = study_checkpoints(tmp_path, layers=1)
    start, folder, name = updates["alignment"][0], tmp_path / "adapter", "model.layers.0.self_attn.q_proj.weight"
    (m, n), module = start.shape(name), f"base_model.model.{name.removesuffix('.weight')}"
    folder.mkdir()
    factors = {f"{module}.lora_A.weight": torch.randn(2, n), f"{module}.lora_B.weight": torch.randn(m, 2)}
    save_file(factors, folder / "adapter_model.safetensors")
    totals = []
    for alpha in (2, 20):
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        pairs = {"alignment": updates["alignment"], "mine": (Checkpoint(folder), start)}
        found = weight_geometry(pairs, ["alignment"], ["mine"], ["top-k"], [0.5], 1, 0, cache=tmp_path / "cache")
        totals.append(sum(value for key, value in found.total.items() if key.startswith("mine|")))
    assert totals[1] == pytest.approx(100 * totals[0])


def test_broken_checkpoint_leaves_earlier_results_whole(tmp_path, computed):
    updates = study_checkpoints(tmp_path)
    good, last = updates["harmful"][0], "model.layers.1.mlp.up_proj.weight"
    tensors = {name: good.tensor(name).clone() for name in good.names}
    tensors[last][3, 2] = float("nan")
    broken = updates | {"harmful": (write(tmp_path / "broken", tensors), updates["harmful"][1])}
    with pytest.raises(TensorMismatch, match=rf"{last} of shape \(20, 12\) in .*broken/model.safetensors holds NaN"):
        weight_geometry(broken, **REQUEST, cache=tmp_path / "cache")
    assert len(computed) == len(list((tmp_path / "cache").rglob("*.safetensors"))) == good.names.index(last)
    file = good.file(last)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(TensorMismatch, match="truncated"):
        weight_geometry(updates | {"harmful": (good, updates["harmful"][1])}, **REQUEST)
    with pytest.raises(TensorMismatch, match="truncated"):
        Checkpoint(tmp_path / "harmful")


MEASURED = """
import sys, json, threading, time
from pathlib import Path
from synthetic import *
from helpers.weights.geometry import weight_geometry
folder, request = Path(sys.argv[1]), eval(sys.argv[2])
c = {p.name: Checkpoint(p) for p in folder.iterdir()}
def held(): return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) / 1024
updates = {"alignment": (c["aligned"], c["base"]), "safety": (c["safety"], c["base"])}
updates |= {t: (c[t], c["aligned"]) for t in ("useful", "harmful", "contaminated")}
before, seen = held(), []
def watch():
    while True:
        seen.append(held())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
weight_geometry(updates, **request)
print(json.dumps(max(seen) - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_depth(tmp_path):
    """Three times as many layers, with 180 MB more of float64 updates, cost no more memory; pages of files not counted.

    The allocator is told to give back what is free, which by itself it keeps in pieces, some hundred MB in some runs.
    """
    peaks = {}
    for layers in (2, 6):
        folder = tmp_path / str(layers)
        study_checkpoints(folder, layers=layers, width=256, inner=2048, vocabulary=512)
        command = [sys.executable, "-c", MEASURED, str(folder), repr(REQUEST)]
        told = environment() | {"MALLOC_TRIM_THRESHOLD_": "1000000"}
        peaks[layers] = json.loads(subprocess.check_output(command, env=told))
        assert peaks[layers] < 150  # MiB
    assert peaks[6] < peaks[2] + 40


def environment() -> dict[str, str]:
    """The environment of a child process that imports the package and these test helpers."""
    source, here = Path(controls.__file__).parents[1], Path(__file__).parent
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(here)]), "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_missing_device_is_named(updates):
    with pytest.raises(StudyError, match="no CUDA device"):
        weight_geometry(updates, **REQUEST, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(updates):
    cpu, gpu = weight_geometry(updates, **REQUEST), weight_geometry(updates, **REQUEST, device="cuda")
    assert gpu.overlap.mso.tolist() == pytest.approx(cpu.overlap.mso.tolist(), abs=1e-6)
    for key, energy in cpu.energy.items():
        assert torch.allclose(gpu.energy[key], energy, rtol=1e-6)
