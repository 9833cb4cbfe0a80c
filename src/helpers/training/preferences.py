"""Direct preference optimisation (DPO): of two answers to a prompt the better one is made likelier than the other.

L = −log σ(β [Δ log π(y⁺) − Δ log π(y⁻)]), Δ against the model as it was before, log-probabilities summed over the
tokens of an answer (Rafailov et al. 2023). TRL computes the same; its copy of the reference model and its own data path
cost more here than they give: the reference's log-probabilities are taken once, before the first step.
"""

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from helpers.models.logits import after_body
from helpers.studies.sections import Optimiser
from helpers.training.examples import IGNORED, Example, collate, tokenised

Pair = dict[str, Example | float]  # chosen, rejected; reference: log π(y⁺) − log π(y⁻) before training


def pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    chosen: list[Example],
    optimiser: Optimiser,
    batch_size: int,
) -> list[Pair]:
    """The tokenised answers of some rows beside those in their column ``rejected``, with the reference's preference.

    The reference computes in the precision of the training, ``optimiser.autocast``.
    """
    rounded = optimiser.autocast == "bfloat16"
    others = tokenised(rows.assign(answer=rows["rejected"]), tokenizer, optimiser.max_length, optimiser.style)
    found = [{"chosen": a, "rejected": b, "reference": 0.0} for a, b in zip(chosen, others, strict=True)]
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=rounded):
        for start in range(0, len(found), batch_size):
            some = found[start : start + batch_size]
            for pair, value in zip(some, preference(model, collate_pairs(some)).tolist(), strict=True):
                pair["reference"] = value
    return found


def collate_pairs(some: list[Pair]) -> dict[str, Tensor]:
    """The chosen answers of a batch, and below them the rejected ones, (2 · batch, longest); ``reference`` (batch,)."""
    rows = collate([pair[which] for which in ("chosen", "rejected") for pair in some])
    return rows | {"reference": torch.tensor([pair["reference"] for pair in some])}


def preference(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """log π(y⁺) − log π(y⁻) of each pair: (batch,). Logits are made where a token of an answer is predicted alone."""
    model = getattr(model, "get_base_model", lambda: model)()  # of an adapter, the model that it stands on
    ids, labels = inputs["input_ids"].to(model.device), inputs["labels"].to(model.device)[:, 1:]
    body = model.base_model(input_ids=ids, attention_mask=inputs["attention_mask"].to(model.device), use_cache=False)
    told = labels != IGNORED  # (2 · batch, length − 1)
    logits = after_body(model, body, body.last_hidden_state[:, :-1][told]).float()  # (tokens, vocabulary)
    log_p = -functional.cross_entropy(logits, labels[told], reduction="none")
    sums = torch.zeros(len(ids), device=model.device).index_add(0, told.nonzero()[:, 0], log_p)
    better, worse = sums.chunk(2)
    return better - worse


class Preferring(Trainer):
    """A Trainer with the loss of DPO: the mean over the pairs of a batch."""

    beta: float
    loss_is_scaled_for_ga = False  # a mean over each pass, which the Trainer divides by the passes of a step

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """−log σ(β (preference − the reference's))."""
        with self.accelerator.autocast():
            gained = preference(model, inputs) - inputs["reference"].to(model.device)
        return -functional.logsigmoid(self.beta * gained).mean()
