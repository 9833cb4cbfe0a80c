"""What a method changes of a fine-tuning: where it starts, what its loss adds, what each step loses, when it ends."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

OfTensor = Callable[[str, Tensor], Tensor]  # of a parameter's name and of its values or its step, (m, n) or (m,)


@dataclass(frozen=True)
class Course:
    """What is changed of a fine-tuning; as it stands, nothing."""

    added: Callable[[str], Tensor] | None = None  # to each parameter before the first step, of its shape
    penalty: OfTensor | None = None  # of the values of a parameter: a number, which the loss adds
    taken: tuple[OfTensor, ...] = ()  # off each step (float64), one after the other, of its shape
    until: float = 1.0  # share of the steps after which it ends

    def begin(self, model: nn.Module) -> dict[str, Any]:
        """Move ``model`` to where the course starts; what ``train`` is to be given: callbacks and penalty."""
        if self.added:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.add_(self.added(name).to(parameter))
        callbacks = [Taken(model, self.taken)] if self.taken else []
        callbacks += [Until(self.until)] if self.until < 1 else []
        return {"callbacks": callbacks, "penalty": _penalty(model, self.penalty) if self.penalty else None}


class Taken(TrainerCallback):
    """Takes off every optimiser step what some functions say, each of what the one before it has left.

    The weights are changed, not the gradients: AdamW would leave any span.
    """

    def __init__(self, model: nn.Module, functions: tuple[OfTensor, ...]):
        self.functions = functions
        self.before = {name: p.detach().double() for name, p in model.named_parameters()}

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Take it off the last step; in float64, and rounded once."""
        for name, parameter in model.named_parameters():
            start = self.before[name].to(parameter.device)
            step = parameter.double() - start  # (m, n)
            moved = start + step
            for function in self.functions:
                taken = function(name, step)
                step, moved = step - taken, moved - taken
            self.before[name] = moved
            parameter.copy_(moved)


class Until(TrainerCallback):
    """Ends a training after a share of its steps, at least one; the schedule is that of the whole."""

    def __init__(self, share: float):
        self.share = share

    def on_step_end(self, args, state, control, **kwargs):
        """Stop when the share is reached."""
        control.should_training_stop |= state.global_step >= math.ceil(self.share * state.max_steps)


def _penalty(model: nn.Module, of: OfTensor) -> Callable[..., Tensor]:
    return lambda _hidden, _inputs: sum(of(name, parameter) for name, parameter in model.named_parameters())
