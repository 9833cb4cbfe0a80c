"""How an update grows step by step: its part in some subspaces, the loss of refusals, and the refusal direction.

*Alignment Collapse* (Springer et al. 2026, arXiv 2602.15799), from its abstract: under gradient flow an update that
begins orthogonal to the few directions in which safety is curved enters them with the square of time, t², so that the
loss of safety grows with t⁴. A subspace that knows nothing of safety is entered with t. *ProCon* (Du et al. 2025, arXiv
2509.06795): the refusal direction turns early in fine-tuning. Ours: a constant learning rate, neither warm-up nor
clipping; the aligned model is looked at before the first step and after 1, 2, 4 … steps.
"""

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from helpers.activations import capture
from helpers.data.rows import training_rows
from helpers.draws import haar
from helpers.experiments.six_models import check_followed
from helpers.methods.asft import modes_of_alignment
from helpers.methods.calibration import benign, matrices, refused
from helpers.methods.context import Context
from helpers.methods.safety_gradients import of_gradient
from helpers.models.load import load_model
from helpers.subspaces import rank_for_fraction
from helpers.training.train import train

RANK = 0.1  # k / min(m, n) of the subspaces
UNCLIPPED = 1e6  # norm of gradients
Look = Callable[[int, PreTrainedModel], list[dict]]


class Followed(TrainerCallback):
    """Looks at the model after 1, 2, 4 … steps, and ends the training after the last of so many."""

    def __init__(self, look: Look, steps: int):
        self.look, self.steps, self.rows = look, steps, []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Look where the number of steps is a power of two."""
        step = state.global_step
        if step & (step - 1) == 0:
            self.rows += self.look(step, model)
        control.should_training_stop |= step >= self.steps


def time_course(context: Context) -> pd.DataFrame:
    """Table ``time_course``: the study's fine-tunings from its aligned model, with AdamW and with SGD."""
    settings, look, found = context.study.bench.time_course, measurement(context), []
    for task in settings.tasks:
        for optimiser, rate in (("adamw", settings.adamw), ("sgd", settings.sgd)):
            rows = pd.DataFrame(_followed(context, task, optimiser, rate, look))
            found.append(rows.assign(task=task, optimiser=optimiser))
    return pd.concat(found, ignore_index=True)


def _followed(context: Context, task: str, optimiser: str, rate: float, look: Look) -> list[dict]:
    study, steps = context.study, context.study.bench.time_course.steps
    model, tokenizer = load_model(context.checkpoints["aligned"].folder)
    check_followed(context, model, task)
    objective = getattr(study.training, task)
    rows = training_rows(study, objective, context.seed, context.checkpoints["base"].folder)
    epochs = -(-steps * objective.batch_size * objective.gradient_accumulation // len(rows))
    objective = objective.model_copy(update={"epochs": epochs, "learning_rate": rate})
    plain = {"method": optimiser, "schedule": "constant", "warmup_ratio": 0.0, "max_grad_norm": UNCLIPPED}
    followed, start = Followed(look, steps), look(0, model)
    rule = study.training.optimiser.model_copy(update=plain)
    train(model, tokenizer, rows, objective, rule, context.seed, callbacks=[followed])
    return start + followed.rows


def measurement(context: Context) -> Look:
    """What is looked at: displacements, all and in each subspace, the loss of refusals, and the refusal direction."""
    start = {name: context.checkpoints["aligned"].tensor(name).double() for name in matrices(context)}
    bases = subspaces(context)
    first = halves(context, context.loaded[0])

    def look(step: int, model: PreTrainedModel) -> list[dict]:
        """Rows of the table ``time_course`` of a model after some steps, without what names its run."""
        now = dict(model.named_parameters())
        moved = {name: now[name].detach().double().cpu() - tensor for name, tensor in start.items()}
        values = {"all": _size(moved.values())}
        values |= {of: _size(basis[name].T @ moved[name] for name in moved) for of, basis in bases.items()}
        rows = [("moved", of, -1, value) for of, value in values.items()]
        rows.append(("refusal_loss", "all", -1, _loss(context, model)))
        for layer, (cosine, size) in enumerate(_turned(first, halves(context, model)), start=1):
            rows += [("refusal_cosine", "all", layer, cosine), ("refusal_norm", "all", layer, size)]
        return [dict(zip(("quantity", "of", "layer", "value"), row, strict=True)) | {"step": step} for row in rows]

    return look


def subspaces(context: Context) -> dict[str, dict[str, Tensor]]:
    """Bases (m, k) of outputs by matrix: modes of the alignment update, of the gradient of refusals, and random."""

    def drawn(name: str) -> Tensor:
        shape = context.shape(name)
        return haar(shape[0], rank_for_fraction(shape, RANK), context.generator("time-course", name))

    makes = {
        "alignment": lambda name: modes_of_alignment(context, name, RANK),
        "refusals": lambda name: of_gradient(context, name, refused(context), RANK),
        "random": drawn,
    }
    return {of: {name: make(name) for name in matrices(context)} for of, make in makes.items()}


def halves(context: Context, model: PreTrainedModel) -> Tensor:
    """Mean refused less mean benign residual after each block, of even and of odd requests: (2, layers, width)."""
    style, tokenizer = context.study.activation_overlap.style, context.loaded[1]
    kinds = (context.calibration(kind(context))["prompt"].tolist() for kind in (refused, benign))
    harmful, harmless = (capture(model, tokenizer, prompts, style=style).double() for prompts in kinds)
    return torch.stack([harmful[:, half::2].mean(1) - harmless[:, half::2].mean(1) for half in (0, 1)])


def _turned(first: Tensor, now: Tensor) -> Iterator[tuple[float, float]]:
    """Of each layer cos(r_t, r_0), each from one half of the requests and the mean of both ways, and ‖r_t‖ / ‖r_0‖.

    At the start the cosine is that of the two halves, which no later one can be expected to exceed.
    """
    cosines = torch.nn.functional.cosine_similarity(now, first.flip(0), dim=-1).mean(0)  # (layers,)
    sizes = now.mean(0).norm(dim=-1) / first.mean(0).norm(dim=-1)
    yield from zip(cosines.tolist(), sizes.tolist(), strict=True)


@torch.no_grad()
def _loss(context: Context, model: PreTrainedModel) -> float:
    """Mean loss of the refusals among the calibration rows."""
    losses = [float(model(**batch).loss) for batch in context.answers(refused(context))]
    return sum(losses) / len(losses)


def _size(parts: Iterator[Tensor]) -> float:
    return sum(float(part.square().sum()) for part in parts) ** 0.5
