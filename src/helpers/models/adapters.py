"""Adapters of PEFT: one merged in memory into the model that it stands on, and a new one to be trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from helpers.errors import StudyError
from helpers.studies.sections import Adapter
from helpers.weights.adapters import refuse_doubled, unties
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.folders import ADAPTER, ADAPTER_CONFIG, read_json
from helpers.weights.names import HEADS

if TYPE_CHECKING:
    from peft import PeftModel

TABLES = (".embed_tokens.weight", ".wte.weight")  # endings of an adapter's own rows of tokens
TABLES += (".embed_tokens.base_layer.weight", ".wte.base_layer.weight")  # and of those that LoRA changes further


def start_of(adapter: Path) -> Path:
    """The folder of the model that an adapter names as its base, here or in the hub's cache. Raises StudyError."""
    name = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path") or ""
    for folder in (Path(name), adapter / name):
        if name and folder.is_dir():
            return folder
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # no such model in the cache, or a name that no model has
        raise StudyError(
            f"{adapter} is an adapter upon {name or 'a model that it does not name'}, which is not here: give the "
            "folder of that model as load_model(…, starts=[…])"
        ) from None


def merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """A model with an adapter merged into its weights by PEFT. Raises StudyError where it does not fit."""
    from peft import PeftConfig, PeftModel  # here, because few need it and it takes a second

    refuse_doubled(Checkpoint(adapter))
    config = PeftConfig.from_pretrained(adapter, trust_remote_code=False)
    config.inference_mode = True
    _add_rows(model, adapter)
    wrapped = PeftModel(model, config)
    found = wrapped.load_adapter(adapter, "default")
    again = tuple(f"{name}.modules_to_save.weight" for name in config.modules_to_save or ())  # held under two names
    if wrong := [*found.missing_keys, *(name for name in found.unexpected_keys if not name.endswith(again))]:
        raise StudyError(
            f"the adapter in {adapter} does not fit the model that it is put upon ({wrong[0]}): give the one that it "
            f"was trained on, {config.base_model_name_or_path}"
        )
    return wrapped.merge_and_unload(safe_merge=True)


def _add_rows(model: PreTrainedModel, adapter: Path) -> None:
    """Make room for the tokens that an adapter's tokenizer has added, and a head of its own where it parts from the
    embedding. Raises StudyError where the adapter does not hold what the head has for new tokens.
    """
    head, parted = model.get_output_embeddings(), unties(Checkpoint(adapter))
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    with safe_open(adapter / ADAPTER, framework="pt") as file:
        held = [*file.keys()]
        for name in (name for name in held if name.endswith(TABLES)):
            rows, start = file.get_tensor(name), ".base_layer." in name  # from which it was trained, for both alike
            known = (tied and (start or not parted)) or any(HEADS & {*key.split(".")} for key in held)
            if len(rows) > len(model.get_input_embeddings().weight) and not known:
                raise StudyError(
                    f"the adapter in {adapter} has rows of the embedding for new tokens and none of the head, which "
                    "would be random: save it with modules_to_save=['embed_tokens', 'lm_head'], or give the model that "
                    "merge_and_unload() makes of it"
                )
            model.resize_token_embeddings(len(rows), mean_resizing=False)
            if tied and start:
                model.get_input_embeddings().weight.data.copy_(rows)
    if tied and parted:
        model.get_output_embeddings().weight = nn.Parameter(model.get_input_embeddings().weight.detach().clone())
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def adapter_on(model: PreTrainedModel, settings: Adapter, draw: int) -> "PeftModel":
    """A new LoRA adapter on every linear map of a model but the head; its factors alone are trained.

    A is drawn with the seed ``draw`` and B is 0, so that nothing is changed yet. ``merge_and_unload`` of what is given
    puts the trained one into the weights of ``model`` itself.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        return get_peft_model(model, config)
