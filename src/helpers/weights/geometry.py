"""Weight geometry of a study: energy kept for every k and overlap at every energy fraction, tensor by tensor.

Peak memory does not depend on the number of layers, nor on the long side of a matrix. With u updates of c checkpoints
and s = min(m, n) of the largest tensor it is at most u(u + 1)/2 + 5 matrices (s, s) of float64 (m > n; 2u + 5 where
m ≤ n) and c + 2u blocks of 24 MiB, beside the results themselves.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.draws import check_kind
from helpers.errors import StudyError
from helpers.files import is_whole, seal, write_tensors
from helpers.memory import enough_to, free_memory, is_out_of_memory, say
from helpers.subspaces import rank_for_fraction
from helpers.weights.blocks import TensorUpdates
from helpers.weights.checkpoints import Updates
from helpers.weights.kept_modes import keep_modes
from helpers.weights.matching import Agreed, agree
from helpers.weights.names import layer_of, module_of
from helpers.weights.rounding import mostly_rounding, rounding_table, roundings
from helpers.weights.tensor import Request, Spectrum, tensor_geometry

ENGINE = 3  # raise when results for the same request change
OVERLAP_COLUMNS = ["tensor", "module", "layer", "a", "b", "eta", "mso", "k_a", "k_b", "random"]


@dataclass(repr=False)
class Geometry:
    """Results over all tensors; keys join their parts with ``|``."""

    overlap: pd.DataFrame  # one row per 2-D tensor, pair of updates and energy fraction; zero updates have no rows
    energy: dict[str, Tensor]  # "subspace|control|task|tensor" -> (r,): ‖P_k D‖²
    total: dict[str, float]  # "update|tensor" -> ‖D‖²
    values: dict[str, Tensor]  # "update|tensor" -> (rank,) singular values
    shapes: dict[str, tuple[int, ...]]  # tensor -> shape
    asked: list[tuple[str, str, str]]  # subspace, control, task
    rounding: pd.DataFrame  # one row per update: its size, how much of it rounding alone would give, ranks
    left_out: list[str]  # sentences about tensors and rows that are not in the numbers
    remarks: list[str]  # sentences about how the checkpoints were read, and about updates that are 0

    @property
    def rank(self) -> dict[str, int]:
        """Numerical rank of every decomposed update of every tensor, by "update|tensor"."""
        return {key: len(values) for key, values in self.values.items()}

    def __repr__(self) -> str:
        said = "".join(f"\n- {sentence}" for sentence in (*self.remarks, *self.left_out))
        return f"Geometry of {len(self.shapes)} tensors; updates: {', '.join(self.rounding['update'])}{said}"


def weight_geometry(
    updates: Updates,
    subspaces: list[str],
    tasks: list[str],
    controls: list[str],
    energy_fractions: list[float],
    random_k_draws: int,
    seed: int,
    device: str = "cpu",
    cache: Path | None = None,
    vocabulary: Literal["exact", "intersection"] = "exact",
    pairs: list[tuple[str, str]] | None = None,
    shard: tuple[int, int] | None = None,
    modes: Path | None = None,
) -> Geometry:
    """Energy of the ``tasks`` in the ``subspaces`` under each control, and MSO of ``pairs`` of updates (all, if None).

    ``updates`` maps a label to (tuned, start) checkpoints. With ``cache``, finished tensors are kept there, one file
    each, and a second run with the same request and files continues after them. ``shard`` (i, n) takes every n-th
    tensor, the largest first, from the i-th on (from 0). In ``modes``, a folder,
    the modes of the subspaces are kept (``helpers.weights.kept_modes``) of what is decomposed now. Raises StudyError,
    and TensorMismatch for checkpoints that do not match or are not finite.
    """
    pairs = list(combinations(updates, 2)) if pairs is None else pairs
    for label in (*subspaces, *tasks, *(label for pair in pairs for label in pair)):
        if label not in updates:
            raise StudyError(f"update {label!r} is not given: choose among {', '.join(updates)}")
    for control in controls:
        check_kind(control)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise StudyError(f"device is {device!r} but this machine has no CUDA device that torch can use: choose cpu")
    request = Request([*updates], subspaces, tasks, controls, pairs, energy_fractions, random_k_draws, seed)
    agreed = agree(updates, vocabulary)
    folder = None if cache is None else Path(cache) / _digest(request, agreed.updates, vocabulary)
    shapes = agreed.shapes if shard is None else _shard(agreed.shapes, *shard)
    tensors = [TensorUpdates(agreed.updates, name, shape, device) for name, shape in shapes.items()]
    found = {tensor.name: _result(request, tensor, folder, modes) for tensor in tensors}
    geometry = _collect(request, agreed, shapes, found)
    if shard is None:
        geometry.remarks += [*_unmoved(geometry, agreed.updates), *mostly_rounding(geometry.rounding)]
        for sentence in (*geometry.remarks, *geometry.left_out):
            say(sentence)
    return geometry


def energy_table(geometry: Geometry, fractions: list[float]) -> pd.DataFrame:
    """Energy kept E_k = ‖P_k D‖² / ‖D‖² (columns subspace, control, task, module, fraction, energy_kept).

    Sums over the tensors of each module type, and over all tensors for module ``all``; k per tensor is
    rank_for_fraction, at most the rank of the subspace's update, and 1 for 1-D tensors. 0 where the subspace's update
    is zero; NaN where the task's update is.
    """
    tensors = list(geometry.shapes)
    members = {"all": tensors} | {m: [t for t in tensors if module_of(t) == m] for m in map(module_of, tensors)}
    rows = []
    for key in dict.fromkeys([*geometry.asked, *(tuple(key.split("|", 3)[:3]) for key in geometry.energy)]):
        for module, names in members.items():
            total = sum(geometry.total[f"{key[2]}|{name}"] for name in names)
            for fraction in fractions:
                kept = sum(_kept(geometry, key, name, fraction) for name in names)
                rows.append((*key, module, fraction, kept / total if total else float("nan")))
    return pd.DataFrame(rows, columns=["subspace", "control", "task", "module", "fraction", "energy_kept"])


def _kept(geometry: Geometry, key: tuple[str, str, str], name: str, fraction: float) -> float:
    energy = geometry.energy.get("|".join((*key, name)))
    if energy is None:
        return 0.0
    return float(energy[min(rank_for_fraction(geometry.shapes[name], fraction), len(energy)) - 1])


def _shard(shapes: dict[str, tuple[int, ...]], i: int, n: int) -> dict[str, tuple[int, ...]]:
    chosen = sorted(shapes, key=lambda name: -_cost(shapes[name]))[i::n]
    return {name: shape for name, shape in shapes.items() if name in chosen}


def _result(request: Request, tensor: TensorUpdates, folder: Path | None, modes: Path | None) -> dict[str, Tensor]:
    """What is asked of one tensor, from the cache where it is there and whole."""
    if folder is None:
        return _computed(request, tensor, modes)
    kept = folder / f"{tensor.name}.safetensors"
    if is_whole(kept):
        return load_file(kept)
    result = _computed(request, tensor, modes)
    write_tensors(kept, result)
    seal(kept)
    return result


def _computed(request: Request, tensor: TensorUpdates, modes: Path | None) -> dict[str, Tensor]:
    """What is asked of one tensor, and of each update the energy that is rounding: ``rounding|update`` ()."""
    result = _decomposed(request, tensor, modes)
    sizes = {label: float(result[f"total|{label}"]) for label in tensor.updates}
    rounding = {f"rounding|{label}": torch.tensor(part) for label, part in roundings(tensor, sizes).items()}
    return result | rounding


def _decomposed(request: Request, tensor: TensorUpdates, modes: Path | None) -> dict[str, Tensor]:
    """The geometry of one tensor, computed on the CPU if a GPU has no room for it."""

    def keep(label: str, found: Spectrum) -> None:
        if modes is not None:
            keep_modes(modes, label, tensor.name, found.basis, found.values)

    if tensor.device != "cpu":
        try:
            return tensor_geometry(request, tensor, keep)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free_memory()  # here, where what was begun is no longer held by its exception
        say(f"out of memory on {tensor.device} with tensor {tensor.name}, which is done on the CPU")
    with enough_to(f"decompose the updates of tensor {tensor.name}"):
        return tensor_geometry(request, replace(tensor, device="cpu"), keep)


def _cost(shape: tuple[int, ...]) -> float:
    """Work of one tensor up to a factor: products along the long side, eigendecompositions on the short side."""
    if len(shape) == 1:
        return float(shape[0])
    short, long = min(shape), max(shape)
    return short**2 * ((3.0 if shape[0] > shape[1] else 0.6) * long + 10.0 * short)


def _digest(request: Request, updates: Updates, vocabulary: str) -> str:
    """Hash of the request and of the identity (place, size, time of change) of every file it reads."""
    files = {f"{label}/{i}": c.identity() for label, pair in updates.items() for i, c in enumerate(pair)}
    text = json.dumps([ENGINE, vars(request), files, vocabulary], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _collect(request: Request, agreed: Agreed, shapes: dict, found: dict[str, dict[str, Tensor]]) -> Geometry:
    def gathered(kind: str, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], Tensor]:
        wanted = [((*key, name), "|".join((kind, *key))) for name, key in product(shapes, keys)]
        return {key: found[key[-1]][entry] for key, entry in wanted if entry in found[key[-1]]}

    rows = []
    for (a, b, name), values in gathered("overlap", request.pairs).items():
        for eta, (mso, k_a, k_b) in zip(request.energy_fractions, values.T.tolist(), strict=True):
            random = max(k_a, k_b) / shapes[name][0]
            rows.append((name, module_of(name), layer_of(name), a, b, eta, mso, int(k_a), int(k_b), random))
    asked = [*product(request.subspaces, request.controls, request.tasks)]
    kinds = {"energy": asked, "total": [*zip(request.labels)], "values": [*zip(request.decomposed)]}
    energy, total, values = ({"|".join(k): v for k, v in gathered(kind, keys).items()} for kind, keys in kinds.items())
    return Geometry(
        pd.DataFrame(rows, columns=OVERLAP_COLUMNS),
        energy,
        {key: float(value) for key, value in total.items()},
        values,
        dict(shapes),
        asked,
        rounding_table(agreed.updates, shapes, found),
        agreed.left_out,
        agreed.remarks,
    )


def _unmoved(geometry: Geometry, updates: Updates) -> list[str]:
    """A sentence for every update that is 0 in all tensors."""
    size = geometry.rounding.set_index("update")["energy"]
    return [
        f"the weights of {tuned.folder} are those of {start.folder}, so the update {label} is 0: was an adapter "
        "merged, and is it the right folder?"
        for label, (tuned, start) in updates.items()
        if size[label] == 0
    ]
