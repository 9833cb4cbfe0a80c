"""A model's own logits, with whatever it does after its head, at the positions of a batch that are needed.

Several families scale, cap or bias what the head gives. So the body of the model is run once, and the model itself
again on what the body gave at those positions, some rows at a time. Under bfloat16 autocast that is done in float32:
bfloat16 keeps eight bits, a tenth of a nat at the size of a logit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from helpers.errors import StudyError
from helpers.models.precision import resolved
from helpers.models.prompts import Side, padded
from helpers.studies.values import Precision

ROWS = 256  # rows of logits that are held at a time: of a large vocabulary each has a megabyte


@contextmanager
def computing(model: PreTrainedModel, autocast: Precision) -> Iterator[None]:
    """Inference without gradients, under bfloat16 autocast where that is asked for."""
    device = model.device.type
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=resolved(autocast) == "bfloat16"):
        yield


def logits_at(model: PreTrainedModel, ids: list[list[int]], places: list[slice], side: Side) -> Iterator[Tensor]:
    """Logits (at most ``ROWS``, vocabulary) at some places of every row of a padded batch, one row after the other.

    They are computed in float32 (in bfloat16 if the model's weights are that) and given as float64.
    """
    body = model.base_model(**padded(ids, side, model.device), use_cache=False)
    whole = body.logits if body.get("last_hidden_state") is None else body.last_hidden_state  # (batch, length, …)
    rows = torch.cat([whole[i, place] for i, place in enumerate(places)])
    for some in rows.split(ROWS):
        if whole is not body.get("logits"):
            with torch.autocast(some.device.type, enabled=False):
                some = after_body(model, body, some)
        yield some.float().double()


def after_body(model: PreTrainedModel, body: ModelOutput, states: Tensor) -> Tensor:
    """What a model makes of last hidden states (rows, width) of its body: its logits (rows, vocabulary)."""
    head = model.get_output_embeddings()
    body.last_hidden_state = states[None].to(model.dtype if head is None else head.weight.dtype)
    tokens = torch.zeros(1, len(states), dtype=torch.long, device=states.device)  # that nothing reads
    with _standing_in(model, body) as asked:
        logits = model(input_ids=tokens, use_cache=False).logits[0]
    if not asked:
        raise StudyError(f"{type(model).__name__} takes its logits from something else than its body: not supported")
    return logits


@contextmanager
def _standing_in(model: PreTrainedModel, output: ModelOutput) -> Iterator[list]:
    """Have a model's body give an output without computing anything; yields a list of the times it was asked for it."""
    asked: list[bool] = []

    def give(*_, **__) -> ModelOutput:
        asked.append(True)
        return output

    bodies = {model.base_model, model.get_decoder()}  # some heads ask the decoder within the body
    own = {body: vars(body).pop("forward", None) for body in bodies}
    for body in bodies:
        body.forward = give
    try:
        yield asked
    finally:
        for body, forward in own.items():
            del body.forward
            if forward is not None:
                body.forward = forward
