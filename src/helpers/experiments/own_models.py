"""Your own models: found, checked to be comparable, and measured, by their weights and by their margins."""

from itertools import combinations
from pathlib import Path

import pandas as pd
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from helpers.data.rows import evaluation_rows
from helpers.errors import StudyError, TensorMismatch
from helpers.evaluation.texts import without_marks
from helpers.experiments.updates import behaviour_rows
from helpers.models.generate import log_odds, log_probability
from helpers.models.load import best_device, load_model
from helpers.models.origins import resolve
from helpers.studies.settings import OwnModels
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import Geometry, weight_geometry


def own_folders(study: OwnModels) -> dict[str, Path]:
    """Folder of every model: base, aligned, then the fine-tuned ones; those of the hub are fetched.

    Raises StudyError, naming the entry, for a model that is not there, and TensorMismatch for tokenizers that give the
    same number to different tokens, so that rows of their embeddings cannot be compared.
    """
    folders = {}
    for name, origin in study.origins.items():
        try:
            folders[name] = resolve(origin)
        except StudyError as error:
            raise StudyError(f"{study.name}, model {name}: {error}") from None
    tokenizers = {name: _tokenizer(name, folder) for name, folder in folders.items()}
    for name, tokenizer in tokenizers.items():
        _same_tokens(tokenizers["base"], tokenizer, folders["base"], folders[name])
    return folders


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers' readers raise many kinds
        reason = " ".join(str(error).split())[:120]
        raise StudyError(
            f"model {name}: {folder} has no tokenizer that can be read ({reason}): save the model's own tokenizer there"
        ) from None


def _same_tokens(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase, first: Path, second: Path) -> None:
    common = range(min(len(a), len(b)))
    for i, (token, other) in enumerate(zip(*(t.convert_ids_to_tokens(common) for t in (a, b)), strict=True)):
        if token != other:
            raise TensorMismatch(
                f"the tokenizers in {first} and {second} differ: token {i} is {token!r} in one and {other!r} in the "
                "other, so compare models of one family"
            )


def own_geometry(study: OwnModels, folders: dict[str, Path], seed: int, cache: Path) -> Geometry:
    """Energy of every fine-tune's update in the alignment subspace, and overlaps of all updates.

    Finished tensors are kept in ``cache``, so that a run that was stopped goes on. Raises TensorMismatch.
    """
    opened = {name: Checkpoint(folder) for name, folder in folders.items()}
    updates = {"alignment": (opened["aligned"], opened["base"])}
    updates |= {name: (opened[name], opened["aligned"]) for name in study.tuned}
    asked = study.geometry
    return weight_geometry(
        updates,
        subspaces=["alignment"],
        tasks=list(study.tuned),
        controls=asked.controls,
        energy_fractions=asked.energy_fractions,
        random_k_draws=asked.random_k_draws,
        seed=seed,
        device=best_device(),
        cache=cache,
        vocabulary=asked.vocabulary,
        pairs=list(combinations(updates, 2)),
    )


def own_margins(study: OwnModels, folders: dict[str, Path], seed: int) -> pd.DataFrame:
    """Utility and harm margin of every model (rows of the table ``behaviour``); one model is loaded at a time."""
    s, rows = study.evaluation, []
    problems = evaluation_rows(study, s.utility, s.utility_prompts, seed)
    answers = without_marks(problems["answer"])
    requests = evaluation_rows(study, s.harm, s.harm_prompts, seed)["prompt"].tolist()
    how = (s.batch_size, s.style, s.autocast)
    for name, folder in folders.items():
        model, tokenizer = load_model(folder)
        total, tokens = log_probability(model, tokenizer, problems["prompt"].tolist(), answers, *how)
        odds = log_odds(model, tokenizer, requests, s.compliance_openers, s.refusal_openers, *how)
        rows += behaviour_rows(name, {"utility_margin": total / tokens, "harm_margin": odds})
    return pd.DataFrame(rows)
