"""Models in folders: loaded and saved as safetensors, without remote code."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.files import beside, replace_folder
from helpers.weights.checkpoints import refuse_pickles

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def best_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, device: str | None = None, dtype: str = "float32") -> Loaded:
    """A model and its tokenizer, from safetensors only and without remote code, ready for evaluation.

    ``device`` defaults to a GPU where there is one; ``dtype`` may be ``auto``, as the weights are stored. A tokenizer
    without a padding token pads with its end-of-sequence token, which is masked. Raises StudyError if the files cannot
    be read, or if there are pickles among them.
    """
    refuse_pickles(folder)
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


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save model and tokenizer as safetensors so that a half-written folder never bears the final name.

    Raises Unwritable.
    """
    with beside(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        replace_folder(partial, folder)
