"""A projected variant as a checkpoint on disk, for who wants one: the study itself never saves any."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.errors import StudyError
from helpers.files import beside, replace_folder, sha256
from helpers.subspaces import check_mode, project, rank_for_fraction
from helpers.weights.checkpoints import INDEX, SINGLE, Checkpoint, matched, update
from helpers.weights.edits import Mode

KEPT_SUFFIXES = (".json", ".txt", ".model", ".jinja")  # configuration and tokenizer


def save_variant(
    folder: Path,
    aligned: Checkpoint,
    task: Checkpoint,
    bases: dict[str, Tensor],
    fraction: float,
    mode: Mode,
    made_by: dict[str, object] | None = None,
) -> Checkpoint:
    """Save W = WA + P_k D (parallel) or WA + (I − P_k) D (orthogonal) as safetensors, in the types of ``aligned``.

    ``bases`` as from ``helpers.weights.edits.control_bases``; a tensor without a basis has P = 0. Written file by file in
    the layout of ``aligned``, with its configuration and tokenizer, and a model card that lists ``made_by`` (control,
    seed, draw, label …). Raises StudyError when the folder is not empty or cannot be written, TensorMismatch when
    checkpoints differ.
    """
    check_mode(mode)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder} is not empty: choose another folder for the variant, or empty it")
    names = matched({"aligned": aligned, "task": task}).names
    with beside(folder) as partial:
        partial.mkdir()
        kept, total = _save_tensors(partial, names, aligned, task, bases, fraction, mode)
        _copy_rest(aligned.folder, partial)
        share = kept / total if total else 0.0
        card = _card(folder.name, aligned, task, fraction, mode, share, made_by or {})
        (partial / "README.md").write_text(card, encoding="utf-8")
        replace_folder(partial, folder)
    return Checkpoint(folder)


def _save_tensors(
    folder: Path,
    names: list[str],
    aligned: Checkpoint,
    task: Checkpoint,
    bases: dict[str, Tensor],
    fraction: float,
    mode: Mode,
) -> tuple[float, float]:
    """Write the tensors; returns the energy kept and in all, ‖·‖² summed over tensors."""
    kept = total = 0.0
    weight_map = {name: aligned.file(name).name for name in names}
    for file in sorted(set(weight_map.values())):
        tensors = {}
        for name in (name for name in names if weight_map[name] == file):
            difference = update(task, aligned, name)
            basis = bases.get(name, difference.new_zeros(len(difference), 0))
            k = min(rank_for_fraction(tuple(difference.shape), fraction), basis.shape[1])
            part = project(basis, difference, k, mode)
            tensors[name] = (aligned.tensor(name).double() + part).to(aligned.dtype(name))
            kept, total = kept + float(part.square().sum()), total + float(difference.square().sum())
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if set(weight_map.values()) != {SINGLE}:
        size = sum((folder / file).stat().st_size for file in set(weight_map.values()))
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return kept, total


def _copy_rest(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in KEPT_SUFFIXES and path.name != INDEX:
            shutil.copy(path, folder / path.name)


def _card(
    name: str, aligned: Checkpoint, task: Checkpoint, fraction: float, mode: Mode, share: float, made_by: dict
) -> str:
    formula = "W = WA + P_k D" if mode == "parallel" else "W = WA + (I − P_k) D"
    facts = {
        "aligned model WA": aligned.folder.name,
        "fine-tuned model W_FT": task.folder.name,
        "formula": f"{formula}, with D = W_FT − WA",
        "k": f"max(1, round({fraction} · min(m, n))) per matrix, at most the rank of the reference update",
        "energy of D kept": f"{share:.6f}",
        **made_by,
        "configuration sha256": sha256(aligned.folder / "config.json") if aligned.config else "none",
        "torch": torch.__version__,
    }
    lines = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return (
        f"---\nlibrary_name: transformers\ntags:\n- safety-subspaces\n---\n\n# {name}\n\n"
        "A projected variant of a fine-tuned model, made from weights alone for a study of safety subspaces. It may\n"
        f"be less safe than the aligned model: use it for that research only.\n\n| | |\n| --- | --- |\n{lines}\n"
    )
