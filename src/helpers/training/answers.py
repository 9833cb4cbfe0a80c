"""The loss of answers with nothing computed that it does not need, the same up to rounding.

What all rows of a batch begin with, such as the system turn of a chat template, goes through the model once; rows of
similar length go together, so that little is padding; logits are made where a token of an answer is predicted, and
nowhere else. The rows of a step stay what they are.
"""

import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Cache, DynamicCache, PreTrainedModel, Trainer

from helpers.memory import is_out_of_memory
from helpers.models.beginnings import FEWEST
from helpers.models.logits import after_body
from helpers.models.within import text_config
from helpers.training.examples import IGNORED

LARGE = 8192  # words of a vocabulary from which it pays; a smaller one is trained by the Trainer's own loss
ROWS = 4  # that go together
EXACT, ROUGH = 1e-4, 0.02  # by which the first loss may differ from the model's own, as a share; in bfloat16

Batch = dict[str, Tensor]  # input_ids, attention_mask and labels, (batch, longest) each, padded on the right


def pays(model: PreTrainedModel) -> bool:
    """Whether a model's vocabulary is large enough for ``AnswerTrainer`` to be worth it."""
    return text_config(model).vocab_size >= LARGE


class AnswerTrainer(Trainer):
    """A Trainer that computes the loss of answers as this module says; ``shares``: a batch's beginning once.

    A model whose first loss is not its own (its head may read more than states, its cache may not go on with several
    tokens) is trained without the shared beginning, and if that differs too, by its own loss.
    """

    shares: bool = True
    works: bool | None = None  # until the first batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The summed loss of all answers' tokens over their number, which is that of all passes of a step."""
        count = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        if self.works is None:
            self._try(model, inputs)
        if return_outputs or not self.works:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():
            return self._summed(model, inputs) / count

    def _summed(self, model: PreTrainedModel, inputs: Batch) -> Tensor:
        before = beginning(inputs) if self.shares else 0
        return torch.stack([summed_loss(model, part, before) for part in of_similar_length(inputs)]).sum()

    @torch.no_grad()
    def _try(self, model: PreTrainedModel, inputs: Batch) -> None:
        """Compare the first batch's loss, before any dropout or step, with the model's own."""
        model.eval()
        own = float(model(**inputs).loss) * int((inputs["labels"][:, 1:] != IGNORED).sum())
        with self.accelerator.autocast():
            for shares in dict.fromkeys((self.shares, False)):
                self.shares = shares
                self.works = self._agrees(model, inputs, own)
                if self.works:
                    break
        model.train()

    def _agrees(self, model: PreTrainedModel, inputs: Batch, own: float) -> bool:
        try:
            return abs(float(self._summed(model, inputs)) - own) <= (ROUGH if self.args.bf16 else EXACT) * own
        except Exception as error:  # of architectures that keep something else, or whose body gives no states
            if is_out_of_memory(error):
                raise
            return False


def beginning(inputs: Batch) -> int:
    """How many tokens all rows of a batch begin with, no answer's among them, nor that after which one begins."""
    ids = inputs["input_ids"].tolist()
    first = int((inputs["labels"] != IGNORED).int().argmax(1).min())
    shared = min(len(os.path.commonprefix(ids)), first - 1) if len(ids) > 1 else 0
    return shared if shared >= FEWEST else 0


def of_similar_length(inputs: Batch) -> Iterator[Batch]:
    """A batch in parts of at most ``ROWS`` rows, from the shortest on, each padded to its own longest."""
    lengths = inputs["attention_mask"].sum(1)
    for rows in lengths.argsort().split(ROWS):
        longest = int(lengths[rows].max())
        yield {name: values[rows, :longest] for name, values in inputs.items()}


def summed_loss(model: PreTrainedModel, inputs: Batch, before: int) -> Tensor:
    """Sum of −log p over the tokens of all answers, with the first ``before`` tokens of all rows computed once."""
    ids, mask, labels = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
    given = {"attention_mask": mask, "use_cache": bool(before)}
    if before:
        found = model.base_model(input_ids=ids[:1, :before], use_cache=True)
        places = torch.arange(before, ids.shape[1], device=ids.device)[None].expand(len(ids), -1)
        cache = _of_all(model, found.past_key_values, len(ids))
        given |= {"past_key_values": cache, "position_ids": places}
    body = model.base_model(input_ids=ids[:, before:], **given)
    right = labels[:, before + 1 :]  # (batch, rest − 1)
    states = body.last_hidden_state[:, :-1][right != IGNORED]  # (tokens of answers, width)
    return cross_entropy(after_body(model, body, states).float(), right[right != IGNORED], reduction="sum")


def _of_all(model: PreTrainedModel, cache: Cache, rows: int) -> Cache:
    """Keys and values of one row as those of many, through which gradients flow back."""
    whole = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        whole.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), i)
    return whole
