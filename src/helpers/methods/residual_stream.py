"""Stacked differences in means: directions of the residual stream, of all layers at once, in what writes or reads it.

After Arditi et al. (2024, arXiv 2406.11717), who take the mean of refused less that of benign requests at one layer and
ablate it from what is written, the embedding on inputs as it is stored. Ours: the differences of all layers, that which
separates held-out requests best first, made orthonormal by QR. Of a map that reads the stream behind a norm with gain g
a direction r is the input direction g ⊙ r. The twin contrasts useful with benign requests.
"""

import torch
from torch import Tensor, nn

from helpers.methods.calibration import USEFUL, benign, refused
from helpers.methods.context import Context
from helpers.methods.door import subspace
from helpers.methods.refusal_direction import WRITERS, norm_after, separation, with_gain
from helpers.models.within import decoder_layers
from helpers.subspaces import Modes, decompose
from helpers.weights.names import EMBEDDINGS, HEADS, layer_of, module_of

_FEED_FORWARD = ("pre_feedforward_layernorm", "post_attention_layernorm")  # the first one that a block has
NORMS = dict.fromkeys(("q_proj", "k_proj", "v_proj"), ("input_layernorm",))
NORMS |= dict.fromkeys(("gate_proj", "up_proj"), _FEED_FORWARD)


@subspace("mean-difference-stacked", twin="mean-difference-stacked-benign")
def stacked(tensor: str, context: Context) -> Tensor | None:
    """Mean residual of refused less that of benign requests, of all layers, in what writes to the residual stream."""
    return written(tensor, context, differences(context, refused(context), benign(context)))


@subspace("mean-difference-stacked-benign")
def stacked_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the stacked differences in what writes: useful requests less benign ones."""
    return written(tensor, context, differences(context, USEFUL, benign(context)))


@subspace("mean-difference-stacked-input", side="input", twin="mean-difference-stacked-input-benign")
def stacked_input(tensor: str, context: Context) -> Tensor | None:
    """Mean residual of refused less that of benign requests, of all layers, in what reads the residual stream."""
    return read(tensor, context, differences(context, refused(context), benign(context)))


@subspace("mean-difference-stacked-input-benign", side="input")
def stacked_input_benign(tensor: str, context: Context) -> Tensor | None:
    """Twin of the stacked differences in what reads: useful requests less benign ones."""
    return read(tensor, context, differences(context, USEFUL, benign(context)))


@subspace("alignment-input", side="input")
def alignment_input(tensor: str, context: Context) -> Modes | None:
    """Right singular vectors of D_A = WA − W0: the alignment subspace on inputs."""
    return decompose(context.update("alignment", tensor).T) if len(context.shape(tensor)) == 2 else None


def means_apart(context: Context, a: str, b: str) -> list[tuple[int, Tensor]]:
    """Layers, the one whose direction separates held-out requests best first, and mean residual of a less b there.

    Layer 0 is the first block; each difference is (width,), float64.
    """
    one, other = (context.residual(kind).double() for kind in (a, b))  # (layers, prompts, width)
    layers = sorted(range(len(one)), key=lambda layer: -separation(one[layer], other[layer]))
    return [(layer, one[layer].mean(0) - other[layer].mean(0)) for layer in layers]


def differences(context: Context, a: str, b: str) -> Tensor:
    """Orthonormal columns whose first k span the differences of the k layers that separate best: (width, layers)."""
    return context.once(("differences", a, b), lambda: _orthonormal([found for _, found in means_apart(context, a, b)]))


def _orthonormal(directions: list[Tensor]) -> Tensor:
    return torch.linalg.qr(torch.stack(directions, 1))[0]


def written(tensor: str, context: Context, directions: Tensor) -> Tensor | None:
    """Directions of the residual stream (width, k) as outputs of what writes to it; None of any other tensor.

    In front of the norm that follows a writer, if one does: without them it writes nothing along the directions.
    """
    if module_of(tensor) not in WRITERS:
        return None
    rows = directions.T
    before = with_gain(tensor, context, rows)
    return directions if before is rows else _orthonormal([*before])


@torch.no_grad()
def read(tensor: str, context: Context, directions: Tensor) -> Tensor | None:
    """The same as inputs of what reads it, behind the gain of its norm; None of any other tensor.

    An embedding writes it with what is stored as its inputs, and has them as they are.
    """
    if module_of(tensor) in EMBEDDINGS:
        return directions
    norm = _norm_before(tensor, context)
    if norm is None:
        return None
    seen = norm(directions.T.to(context.loaded[0].device, torch.float32)).double().cpu()  # rows r ⊙ g, up to a factor
    return _orthonormal([*seen])


def _norm_before(tensor: str, context: Context) -> nn.Module | None:
    """The norm through which a linear map reads the residual stream, by the names of Llama, Qwen, Gemma and OLMo 2."""
    network = context.loaded[0]
    if module_of(tensor) in HEADS:
        return getattr(network.get_decoder(), "norm", None)
    names = NORMS.get(module_of(tensor), ())
    block = decoder_layers(network)[layer_of(tensor)] if names else None
    if names and norm_after(block, "o_proj") and not hasattr(block, "pre_feedforward_layernorm"):
        return nn.Identity()  # all its norms come after what writes
    return next((getattr(block, name) for name in names if hasattr(block, name)), None)
