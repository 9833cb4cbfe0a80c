"""Organisms trained afresh in tests of training, and what their updates are compared with."""

import pytest
import torch

from helpers.data.rows import training_rows
from helpers.models.organism import build_model
from helpers.training.examples import collate
from helpers.training.train import train

needs_two_devices = pytest.mark.skipif(
    torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none: then they are on the CPU"
)


def uneven_rows(study):
    """Rows whose answers differ much in length, so that a mean of means is not the mean over tokens."""
    requests = training_rows(study, study.training.harmful, 0).head(40)
    return requests.assign(answer=[" ".join(a.split()[: 1 + i % 6]) for i, a in enumerate(requests["answer"])])


def trained(study, tokenizer, rows, objective=None, start=build_model, **optimiser):
    """An organism built and trained afresh, and its log; ``objective`` and ``optimiser`` change the harmful one's."""
    torch.manual_seed(0)
    model = start(study.model, tokenizer)
    chosen = study.training.harmful.model_copy(update=objective or {})
    log = train(model, tokenizer, rows, chosen, study.training.optimiser.model_copy(update=optimiser), 0)
    return model.cpu(), log


def batch_of(rows, model):
    """Some tokenised rows as one batch, on the device of the model."""
    return {name: values.to(model.device) for name, values in collate(rows).items()}


def _update(study, tokenizer, model):
    torch.manual_seed(0)
    start = build_model(study.model, tokenizer).state_dict()
    return torch.cat([(model.state_dict()[name].cpu() - start[name]).flatten() for name in start])


def assert_same_update(study, tokenizer, model, other, tolerance=1e-3):
    """Two trained organisms have moved from their start in the same way, to float tolerance."""
    one, two = _update(study, tokenizer, model), _update(study, tokenizer, other)
    assert (one - two).norm() <= tolerance * one.norm() and one.norm() > 0
