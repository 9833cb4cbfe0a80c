"""The refusal cone (Wollschläger et al. 2025, arXiv 2502.17420): directions every mixture of which mediates refusal.

Read in code: over mixtures with non-negative weights, minimise the loss of harmful answers with the mixture ablated,
0.2 times that of refusals with it added to benign requests, and the divergence of 30 tokens on benign requests with it
ablated; AdamW with rate 0.01, batches of 16, eight mixtures a step; what is added has the length of the difference in
means; the basis is orthonormal. Ours: three directions, the first of which begins as the difference in means; 32 rows
of each kind and 60 steps; a mixture of its own for every row of a batch; the divergence is a mean over all tokens of an
answer, where the code sums; the answers are the study's, not the model's own; a projection loses the signs. The twin
has useful requests and their answers in the place of harmful requests and of refusals.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, normalize
from transformers import PreTrainedModel

from helpers.methods.calibration import USEFUL, benign, harmful, refused
from helpers.methods.context import Context
from helpers.methods.door import subspace
from helpers.methods.refusal_direction import LAYERS, WRITERS, norm_after
from helpers.methods.residual_stream import means_apart, written
from helpers.models.within import decoder_layers
from helpers.spectra import householder
from helpers.training.examples import IGNORED, Example, collate, tokenised

DIRECTIONS, STEPS, BATCH, RATE = 3, 60, 16, 0.01
ADDED = 0.2  # weight of the loss with a mixture added; the two others have 1
Batch = dict[str, Tensor]


@subspace("refusal-cone", twin="refusal-cone-benign")
def refusal_cone(tensor: str, context: Context) -> Tensor | None:
    """Three directions every mixture of which mediates refusal, found by gradient descent, in what writes."""
    return written(tensor, context, cone(context, harmful(context), refused(context)))


@subspace("refusal-cone-benign")
def refusal_cone_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the cone: useful requests, and their answers, in the place of harmful ones and of refusals."""
    return written(tensor, context, cone(context, USEFUL, USEFUL))


def cone(context: Context, asked: str, declined: str) -> Tensor:
    """Orthonormal columns, whose non-negative mixtures are the cone of two kinds of rows: (width, 3), float64.

    Ablated, a mixture gives ``asked`` requests their answers; added, it gives benign requests those of ``declined``.
    """
    return context.once(("cone", asked, declined), lambda: _descend(context, asked, declined))


def _descend(context: Context, asked: str, declined: str) -> Tensor:
    model, _ = context.loaded
    layer, difference = _beginning(context, declined)
    generator = context.generator("refusal-cone", f"{asked} {declined}")
    noise = torch.randn(len(difference), DIRECTIONS - 1, generator=generator).double()
    first = householder(torch.cat([difference[:, None], noise], 1))
    basis = nn.Parameter(first.to(model.device, torch.float32))
    optimiser = torch.optim.AdamW([basis], lr=RATE, weight_decay=0.0)
    rows = examples(context, asked, declined)
    with torch.enable_grad():
        for _ in range(STEPS):
            batches = [_drawn(one, generator, model.device) for one in rows]
            weights = torch.randn(BATCH, DIRECTIONS, generator=generator).abs().to(basis)
            mixtures = normalize(weights @ basis.T, dim=-1)  # (batch, width)
            (basis.grad,) = torch.autograd.grad(loss(model, mixtures, batches, layer, float(difference.norm())), basis)
            optimiser.step()
            basis.data.copy_(householder(basis.detach().double().cpu()))
    return householder(basis.detach().double().cpu())


def _beginning(context: Context, declined: str) -> tuple[int, Tensor]:
    """The layer, not among the last fifth, that tells a kind from benign requests best, and the difference there."""
    found = means_apart(context, declined, benign(context))
    return next(pair for pair in found if pair[0] < max(1, round(LAYERS * len(found))))


def examples(context: Context, asked: str, declined: str) -> list[list[Example]]:
    """Rows of asked requests, benign requests with answers of declined ones, and benign requests, as token ids."""
    kept, answers = context.calibration(benign(context)), context.calibration(declined)["answer"]
    added = kept.assign(answer=[*islice(cycle(answers), len(kept))])
    rule, (_, tokenizer) = context.study.training.optimiser, context.loaded

    def read(rows: pd.DataFrame) -> list[Example]:
        return tokenised(rows, tokenizer, rule.max_length, rule.style)

    return [read(context.calibration(asked)), read(added), read(kept)]


def _drawn(rows: list[Example], generator: torch.Generator, device: torch.device) -> Batch:
    """Some of the rows; fewer than a batch are taken several times."""
    places = islice(cycle(torch.randperm(len(rows), generator=generator).tolist()), BATCH)
    return {key: values.to(device) for key, values in collate([rows[i] for i in places]).items()}


def loss(model: PreTrainedModel, mixtures: Tensor, batches: list[Batch], layer: int, length: float) -> Tensor:
    """What the cone minimises, for unit directions (batch, width), one for each row of the three batches.

    ``layer``: after which block ``length`` times the direction is added.
    """
    asked, added, kept = batches
    with torch.no_grad():
        original = _answering(model, kept)
    with ablated(model, mixtures):
        harm, changed = model(**asked).loss, _answering(model, kept)
    with _hooked([decoder_layers(model)[layer]], lambda h: h + length * mixtures[:, None]):
        refusal = model(**added).loss
    return harm + ADDED * refusal + kl_div(changed, original, log_target=True, reduction="batchmean")


def ablated(model: PreTrainedModel, directions: Tensor):
    """A context in which nothing is written along unit directions (batch, width) of the residual stream."""
    r = directions[:, None]  # (batch, 1, width)
    writers = [
        norm_after(block, kind) or module
        for block in decoder_layers(model)
        for name, module in block.named_modules()
        if (kind := name.rsplit(".", 1)[-1]) in WRITERS
    ]
    return _hooked([model.get_input_embeddings(), *writers], lambda h: h - (h * r).sum(-1, keepdim=True) * r)


@contextmanager
def _hooked(modules: list[nn.Module], changed) -> Iterator[None]:
    """The modules' outputs (batch, length, width) are changed, until the context is left."""

    def hook(_module, _inputs, output):
        return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _answering(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Log-probabilities of the words from which answers are predicted: (answer tokens, vocabulary)."""
    logits = model(**batch).logits[:, :-1]
    return logits[batch["labels"][:, 1:] != IGNORED].log_softmax(-1)
