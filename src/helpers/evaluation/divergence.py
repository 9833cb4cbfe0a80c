"""How far a model's next words on harmless requests are from another model's: Kullback–Leibler divergence, nats.

Over the first generated token alone, as heretic counts it, an edit looks harmless that changes what follows, so eight
tokens of the right answer are read as well.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers.evaluation.texts import without_marks
from helpers.models.logits import computing, logits_at
from helpers.models.prompts import in_batches, prompt_ids
from helpers.models.within import language_model
from helpers.studies.settings import Study

TOKENS = 8


def next_words(model, tokenizer, rows: pd.DataFrame, study: Study) -> list[Tensor]:
    """Log-probabilities of all words where the first eight tokens of each right answer are predicted.

    (tokens, vocabulary) in float32 on the CPU for each row; an answer with fewer tokens has fewer.
    """
    s, network = study.evaluation, language_model(model)
    contexts = prompt_ids(tokenizer, rows["prompt"].tolist(), s.style)
    answers = tokenizer(without_marks(rows["answer"]), add_special_tokens=False)["input_ids"]
    ids = [context + answer[: TOKENS - 1] for context, answer in zip(contexts, answers, strict=True)]
    places = [slice(len(context) - 1, len(row)) for context, row in zip(contexts, ids, strict=True)]
    found: list[Tensor] = [torch.empty(0)] * len(ids)

    def read(indices: list[int]) -> None:
        with computing(model, s.autocast):
            logits = torch.cat([*logits_at(network, [ids[i] for i in indices], [places[i] for i in indices], "right")])
        lengths = [places[i].stop - places[i].start for i in indices]
        for i, some in zip(indices, logits.log_softmax(-1).float().cpu().split(lengths), strict=True):
            found[i] = some

    in_batches([len(row) for row in ids], s.batch_size, read)
    return found


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats of log-probabilities (places, vocabulary): (places,). Tokens that only q has are left out."""
    words = min(p.shape[-1], q.shape[-1])
    p, q = (x.double() if x.shape[-1] == words else x.double()[:, :words].log_softmax(-1) for x in (p, q))
    return (p.exp() * (p - q)).nan_to_num(0.0).sum(-1).clamp(min=0)


def mean_divergence(original: list[Tensor], edited: list[Tensor], tokens: int) -> np.ndarray:
    """KL(original ‖ edited) of each row, mean over its first tokens: (rows,), nats."""
    each = [divergence(a[:tokens], b[:tokens]).mean() for a, b in zip(original, edited, strict=True)]
    return torch.stack(each).numpy()
