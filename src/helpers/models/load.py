"""Models in folders: loaded and saved as safetensors, without remote code, every weight from the file."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_max_memory
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as version
from transformers.utils import is_protobuf_available, is_sentencepiece_available

from helpers.errors import MissingInput, StudyError
from helpers.files import beside, replace_folder
from helpers.memory import free, say
from helpers.models.adapters import merged, start_of
from helpers.weights.folders import CONFIG, is_adapter, numbers, read_json, refuse_pickles

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # in names, by what wraps
SHARE, FLOAT32 = 0.5, 4  # of free memory, which a model's weights may take; bytes
TOKENIZER_CONFIG = "tokenizer_config.json"
OWN_CODE = "code of its own repository (auto_map), which is never run"
AGAIN = "save the model again with save_pretrained(), or fetch it again"


class _Report(logging.Filter):
    """Keeps the loader's table of tensors from being printed, since its gist is said in a sentence."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if hidden := "LOAD REPORT" in record.getMessage():
            self.text = record.getMessage()
        return not hidden


REPORT = _Report()
LOADER = logging.getLogger("transformers.modeling_utils")
LOADER.addFilter(REPORT)


def exceeds_memory(folder: Path) -> bool:
    """Whether the weights in a folder, in float32, are more than a share of the memory that is free."""
    return FLOAT32 * numbers(folder) > SHARE * free()


def beyond_memory(folder: Path, room: Path, device: str | None = None) -> dict[str, Any]:
    """How transformers is to read a model: options that leave what does not fit in memory in its files, or none.

    Blocks are then read one by one in every pass. What is not in the files as it is needed is written to ``room``.
    """
    if not exceeds_memory(folder):
        return {}
    say(f"{folder} takes more than half of the memory that is free: what has no room is read again in every pass")
    limits = {} if device == "cpu" else get_max_memory()  # of GPUs too, unless the processor was asked for
    return {"device_map": "auto", "max_memory": limits | {"cpu": int(SHARE * free())}, "offload_folder": room}


def best_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(
    folder: Path | str,
    device: str | None = None,
    dtype: str = "float32",
    starts: Sequence[Path] = (),
    room: Path | None = None,
) -> Loaded:
    """A model and its tokenizer, from safetensors only and without remote code, ready for evaluation.

    ``device`` defaults to a GPU where there is one; ``dtype`` may be ``auto``, as the weights are stored. An adapter of
    PEFT is merged in memory into the first of ``starts``, which may be one upon the next, or else into the one that it
    names. With ``room``, a folder, a model that does not fit in memory is read from its files while it runs
    (``beyond_memory``). A tokenizer without a padding token pads with its end-of-sequence token, which is masked.
    Raises StudyError if there is no model, or its files cannot be read, do not hold every weight, are pickles only, or
    are of two models.
    """
    folder, apart = Path(folder), {}
    _check_there(folder)
    try:
        if is_adapter(folder):
            start, *further = starts = starts or [start_of(folder)]
            model = merged(load_model(start, "cpu", dtype, further)[0], folder)
        else:
            apart = beyond_memory(folder, room, device) if room else {}
            model = read_weights(folder, dtype=dtype, use_safetensors=True, local_files_only=True, **apart)
        tokenizer = load_tokenizer(folder, *starts)
    except StudyError:
        raise
    except Exception as error:  # the formats' readers raise many kinds
        reason = " ".join(str(error).split())[:160]
        raise StudyError(
            f"the model in {folder} cannot be read ({reason}): delete it and make or fetch it again"
        ) from None
    return (model if apart else model.to(device or best_device())).eval(), tokenizer


def _check_there(folder: Path) -> None:
    """Raise MissingInput or StudyError for a folder that is not there or holds neither a model nor an adapter."""
    if not folder.is_dir():
        raise MissingInput(f"there is no folder {folder}: correct the path, or make or download the model first")
    refuse_pickles(folder)
    if not is_adapter(folder) and not (folder / CONFIG).is_file():
        raise MissingInput(
            f"{folder} holds no {CONFIG}, so it is no model's: give the folder of a model, or save the model there "
            "with save_pretrained()"
        )


def load_tokenizer(folder: Path, *starts: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, or of an adapter that has none of its own that of the next of ``starts``.

    Raises StudyError, which names the package that is missing if ``tokenizer.model`` alone needs one.
    """
    while starts and is_adapter(folder) and not any(folder.glob("tokenizer*")):
        folder, *starts = starts
    alone = not (folder / "tokenizer.json").exists() and next(iter(sorted(folder.glob("*.model"))), None)
    readers = {"sentencepiece": is_sentencepiece_available(), "protobuf": is_protobuf_available()}
    if alone and (missing := [name for name, here in readers.items() if not here]):
        raise StudyError(
            f"{folder} has {alone.name} and no tokenizer.json, to read which takes {' and '.join(missing)}: run "
            f"`pip install {' '.join(missing)}`, or save tokenizer.json there (the tokenizer's save_pretrained())"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers' readers raise many kinds
        if read_json(folder / TOKENIZER_CONFIG).get("auto_map"):
            remedy = "save tokenizer.json of it there and take auto_map out, or give another model"
            raise StudyError(f"the tokenizer in {folder} needs {OWN_CODE}: {remedy}") from None
        reason = " ".join(str(error).split())[:120]
        raise StudyError(
            f"{folder} has no tokenizer that can be read ({reason}): save the model's own tokenizer there"
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_weights(folder: Path, **options) -> PreTrainedModel:
    """The model in a folder by transformers' loader, which gives a weight that the files do not hold random numbers.

    ``options`` are the loader's. Tensors without a place in the model are said in one line. Raises StudyError, which
    names the tensors, if one is missing or has another shape than ``config.json`` asks for, and what the loader does.
    """
    kind = AutoModelForCausalLM
    if "gguf_file" not in options:
        kind = _kind_of(folder)
    REPORT.text, level = "", LOADER.level
    LOADER.setLevel(logging.WARNING)  # in which it names the tensors, whatever a notebook asks to be quiet about
    try:
        model, found = kind.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except RuntimeError:
        if broken := re.findall(r"^(\S.*?) +\| CONVERSION", REPORT.text, re.MULTILINE):
            raise StudyError(f"{folder} does not hold all parts of {_listed(broken)}: {AGAIN}") from None
        raise
    finally:
        LOADER.setLevel(level)
    unexpected = sorted(found["unexpected_keys"])
    if found["missing_keys"]:
        raise StudyError(_why_missing(folder, model, sorted(found["missing_keys"]), unexpected))
    if found["mismatched_keys"]:
        raise StudyError(_why_mismatched(folder, sorted(found["mismatched_keys"])))
    if unexpected:
        say(f"{folder} holds tensors that {type(model).__name__} has no place for, left out: {_listed(unexpected)}")
    return model


def _kind_of(folder: Path) -> type:
    """The class that loads the model in a folder. Raises StudyError for one that is no decoder, or is not known."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception:
        told = read_json(folder / CONFIG)
        if (kind := told.get("model_type")) is None or kind in CONFIG_MAPPING:
            raise
        what = f"is of the type {kind!r}, which the installed transformers {version} does not support"
        remedy = f"install one that does, or give a model of another type than {kind!r}"
        if told.get("auto_map"):
            what, remedy = f"needs {OWN_CODE}", f"give a model of a type that transformers itself has, not {kind!r}"
        raise StudyError(f"the model in {folder} cannot be read, for it {what}: {remedy}") from None
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in kind._model_mapping and not config.is_encoder_decoder:
            return kind
    what = "an encoder-decoder" if config.is_encoder_decoder else "no language model"
    raise StudyError(
        f"the model in {folder} is {what} ({config.model_type}): give one that goes on with a text, a decoder alone"
    )


def _prefix(missing: list[str], unexpected: list[str]) -> str | None:
    """What a wrapper put into the names of tensors, or all names of the model begin with."""
    for prefix in WRAPPERS:
        if set(missing) & {name.replace(prefix, "") for name in unexpected if prefix in name}:
            return prefix
    begins = {name.removesuffix(missing[0]) for name in unexpected if name.endswith(f".{missing[0]}")}
    return next((prefix for prefix in sorted(begins) if {prefix + name for name in missing} <= set(unexpected)), None)


def _why_missing(folder: Path, model: PreTrainedModel, missing: list[str], unexpected: list[str]) -> str:
    if prefix := _prefix(missing, unexpected):
        remedy = "take the prefix out of the names, or save the model inside the wrapper with save_pretrained()"
        return f"the names of the tensors in {folder} carry the prefix {prefix!r} ({unexpected[0]}): {remedy}"
    if any(".lora_" in name or ".base_layer." in name for name in unexpected):
        return (
            f"{folder} holds a LoRA adapter that is not merged ({unexpected[0]}): save merge_and_unload() of the model"
        )
    head = model.get_output_embeddings()
    if len(missing) == 1 and head is not None and head is model.get_submodule(missing[0].rpartition(".")[0]):
        remedy = "set tie_word_embeddings to true there if the head is the embedding, or save the model with its head"
        return f"{folder} does not hold the output head {missing[0]}, and its config.json does not tie it: {remedy}"
    return f"{folder} does not hold {_listed(missing)}, which would be filled with random numbers: {AGAIN}"


def _why_mismatched(folder: Path, tensors: list[tuple[str, torch.Size, torch.Size]]) -> str:
    name, stored, wanted = tensors[0]
    shapes = f"{_listed([name for name, _, _ in tensors])}: {name} is {tuple(stored)} but must be {tuple(wanted)}"
    remedy = "correct config.json, or save model and configuration together with save_pretrained()"
    if 0 in stored:
        remedy = "gather what ZeRO-3 has divided (its zero_to_fp32.py does), which leaves it empty, then save again"
    return f"{folder} holds tensors that do not fit its config.json, {shapes}: {remedy}"


def _listed(names: list[str]) -> str:
    """The first three of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save model and tokenizer as safetensors so that a half-written folder never bears the final name.

    Raises Unwritable.
    """
    with beside(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        replace_folder(partial, folder)
