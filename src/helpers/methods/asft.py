"""AsFT (Yang et al. 2025, arXiv 2506.08473): the loss asks an update to stay in the direction of alignment; and nulls.

Read in code: L + λ Σ ‖(I − Ĉ) ΔW‖²_F with SafeLoRA's Ĉ on outputs, λ = 1, for adapters of rank 8 on query and value, in
whose ΔW the factor α / r = 4 is missing. Ours: ΔW = W − W_A of every tensor in full fine-tuning, with the rows, steps
and learning rate of the study, and λ as the dial: of a full update λ = 1 weighs tens of nats. Ĉ is no projector: where
D_A is small, it is near zero, and AsFT decays ΔW whatever its direction. P_k is one. Plain decay is the comparison that
an open issue of AsFT's repository asks for; with early stopping it is a null of every method that acts during training.
"""

from collections.abc import Callable

from torch import Tensor

from helpers.methods.context import Context
from helpers.methods.door import training
from helpers.methods.safelora import RANK
from helpers.subspaces import as_matrix, rank_for_fraction
from helpers.training.course import Course


@training("asft", dials=(0.003, 0.03), null=("decay", "early-stopping"))
def asft(context: Context, dial: float) -> Course:
    """Loss + λ Σ ‖(I − Ĉ) ΔW‖², Ĉ = D_A D_Aᵀ / ‖D_A‖_F."""
    return penalised(context, dial, lambda tensor: released_factor(context, tensor))


@training("asft-projector", dials=(0.003, 0.03), null=("decay", "early-stopping"))
def asft_projector(context: Context, dial: float) -> Course:
    """As AsFT, with the projector on the first half of the modes of D_A in the place of Ĉ."""
    return penalised(context, dial, lambda tensor: modes_of_alignment(context, tensor, RANK))


@training("decay", dials=(0.003, 0.03))
def decay(context: Context, dial: float) -> Course:
    """Null of all methods during training: loss + λ Σ ‖ΔW‖²."""
    return penalised(context, dial, lambda tensor: None)


@training("early-stopping", dials=(0.5, 0.75))
def early_stopping(context: Context, dial: float) -> Course:
    """Null of all methods during training: a share of the steps."""
    return Course(until=dial)


def penalised(context: Context, weight: float, factor: Callable[[str], Tensor | None]) -> Course:
    """λ Σ ‖(I − L Lᵀ) ΔW‖² as a penalty, with a factor L (m, r) of every tensor, or none; nothing where λ is 0."""
    if not weight:
        return Course()
    aligned = {tensor: context.checkpoints["aligned"].tensor(tensor) for tensor in context.names}
    factors = {tensor: factor(tensor) for tensor in context.names}

    def penalty(tensor: str, parameter: Tensor) -> Tensor:
        update, left = parameter - aligned[tensor].to(parameter), factors[tensor]
        matrix = update.reshape(len(update), -1)  # (m, n)
        inside = 0 if left is None else left.to(matrix) @ (left.T.to(matrix) @ matrix)
        return weight * (matrix - inside).square().sum()

    return Course(penalty=penalty)


def released_factor(context: Context, tensor: str) -> Tensor:
    """L of L Lᵀ = Ĉ, D_A / √‖D_A‖_F: (m, n); zero where alignment changed nothing."""
    d_a = as_matrix(context.update("alignment", tensor))
    return d_a / (float(d_a.norm().sqrt()) or 1.0)


def modes_of_alignment(context: Context, tensor: str, share: float) -> Tensor:
    """The first k modes of D_A, k = share · min(m, n) and at most its rank: (m, k)."""
    modes = context.modes("alignment", tensor)
    return modes.vectors[:, : min(rank_for_fraction(context.shape(tensor), share), modes.rank)]
