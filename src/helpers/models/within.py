"""The language model within whatever is given: an adapter's or a compiler's wrapper, a model that also sees."""

from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from helpers.errors import StudyError

HOLDERS = ("_orig_mod", "module", "pretrained_model")  # of torch.compile, of data parallelism, of a value head


def language_model(model: Any) -> PreTrainedModel:
    """The transformers model that a wrapper holds and that maps tokens to logits; most are that themselves.

    Raises StudyError for anything else, and for adapters that act outside the model that they are attached to.
    """
    if isinstance(model, PreTrainedModel):
        inner = getattr(model, "language_model", None) if model.base_model is model else None
        return language_model(inner) if isinstance(inner, PreTrainedModel) else model
    if hasattr(model, "get_base_model"):  # PEFT's; LoRA's matrices are within the model
        if model.active_peft_config.is_prompt_learning:
            raise StudyError("the adapter adds virtual tokens to every prompt: only adapters of weights are supported")
        return language_model(model.get_base_model())
    for name in HOLDERS:
        if isinstance(model, nn.Module) and name in model._modules:
            return language_model(model._modules[name])
    raise StudyError(f"{type(model).__name__} is no model of transformers: load it with load_model()")


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The configuration of a model's language part."""
    return model.config.get_text_config(decoder=True)


def decoder_layers(model: Any) -> nn.ModuleList:
    """The list of transformer blocks of a model's language part, whatever its family calls it.

    Raises StudyError if there is none.
    """
    model = language_model(model)
    depth = getattr(text_config(model), "num_hidden_layers", None)
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise StudyError(f"{type(model).__name__} has no list of {depth} blocks to hook: only decoder models are supported")
