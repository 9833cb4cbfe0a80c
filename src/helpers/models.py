"""The models of a study: loaded, taken from where they exist already, or trained."""

from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.organism import Language, build_model, build_tokenizer
from helpers.origins import resolve
from helpers.settings import Study
from helpers.training import train

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def best_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, device: str | None = None, dtype: str = "float32") -> Loaded:
    """A model and its tokenizer, from safetensors only and without remote code, ready for evaluation.

    ``device`` defaults to a GPU where there is one; ``dtype`` may be ``auto``, as the weights are stored. A tokenizer
    without a padding token pads with its end-of-sequence token, which is masked. Raises StudyError if the files cannot
    be read.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the formats' readers raise many kinds
        reason = " ".join(str(error).split())[:160]
        raise StudyError(
            f"the model in {folder} cannot be read ({reason}): delete it and make or fetch it again"
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device or best_device()).eval(), tokenizer


def first_model(study: Study, seed: int) -> Loaded:
    """What a study begins with: an untrained organism with weights drawn by the seed, or the pretrained base model."""
    if study.embedded:
        tokenizer = build_tokenizer(Language(study.language), study.training.optimiser.max_length)
        torch.manual_seed(seed)
        return build_model(study.model, tokenizer), tokenizer
    return load_model(resolve(study.model.base))


def obtain(
    study: Study, name: str, seed: int, start: Loaded, rows: pd.DataFrame, folder: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, pd.DataFrame]:
    """One of the study's models with its tokenizer and its training log, empty for one that exists already.

    ``start`` is trained in place on ``rows``; ``folder`` holds the checkpoints of a long run.
    """
    objective = getattr(study.training, name)
    if objective is not None:
        return *start, train(*start, rows, objective, study.training.optimiser, seed, folder)
    origin = getattr(study.model, name)
    model, tokenizer = start if name == "base" else load_model(resolve(origin))
    return model, tokenizer, pd.DataFrame(columns=["step", "loss", "learning_rate", "grad_norm"])
