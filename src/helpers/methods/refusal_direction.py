"""The refusal direction (Arditi et al. 2024, arXiv 2406.11717): mean of refused minus mean of benign requests.

Read in code: r is a difference of means of the residual stream in float64; (I − r rᵀ) acts on the outputs of o_proj and
down_proj and, as it is stored, on the inputs of the embedding; of layers and template tokens the one is taken that
refuses least when ablated, not in the last fifth of the layers. Its official defence adds a constant bias, which is a
new tensor. Ours: the last token of a raw prompt, the layer whose direction separates held-out requests best, and in the
place of the bias the rank-1 update c r vᵀ of the layer's down_proj, v the mean refused input over its square norm.
Where a norm with gain g follows a writer, as in Gemma 2 and 3 and OLMo 2, what it writes has nothing along r if the
matrix gives nothing along g ⊙ r, and r is written by r / g.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from helpers.methods.calibration import benign, refused
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit
from helpers.models.within import decoder_layers
from helpers.weights.names import counts_tokens, layer_of, module_of

NORMS_AFTER = {"o_proj": "post_attention_layernorm", "down_proj": "post_feedforward_layernorm"}
WRITERS = tuple(NORMS_AFTER)
LAYERS = 0.8  # share of the layers from which the direction is taken


@edit("refusal-ablated", dials=(0.5, 1.0), kind="attack", null="refusal-ablated-random", card=False)
def refusal_ablated(weights: Weights, context: Context, dial: float) -> Tensor:
    """The aligned model whose writers give nothing along r: W_A − dial · r rᵀ W_A."""
    return weights.aligned - dial * along(weights.aligned, weights.name, context, direction(context))


@edit("refusal-ablated-random", dials=(0.5, 1.0), card=False)
def refusal_ablated_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the ablation: a random direction."""
    return weights.aligned - dial * along(weights.aligned, weights.name, context, random_direction(context))


@edit("refusal-protected", dials=(0.5, 1.0), kind="defence", null="refusal-protected-random", card=False)
def refusal_protected(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT − dial · r rᵀ D_T in the writers: fine-tuning changes nothing along r."""
    return weights.tuned - dial * along(weights.update, weights.name, context, direction(context))


@edit("refusal-protected-random", dials=(0.5, 1.0), card=False)
def refusal_protected_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the protected direction: a random one."""
    return weights.tuned - dial * along(weights.update, weights.name, context, random_direction(context))


@edit("refusal-amplified", dials=(0.25, 0.5, 1.0), kind="defence", null="refusal-amplified-random", card=False)
def refusal_amplified(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT + γ r rᵀ W_FT in the writers."""
    return weights.tuned + dial * along(weights.tuned, weights.name, context, direction(context))


@edit("refusal-amplified-random", dials=(0.25, 0.5, 1.0), card=False)
def refusal_amplified_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the amplified direction: a random one."""
    return weights.tuned + dial * along(weights.tuned, weights.name, context, random_direction(context))


@edit("refusal-added", dials=(0.5, 1.0, 2.0, 4.0), kind="defence", null="refusal-added-random", card=False)
def refusal_added(weights: Weights, context: Context, dial: float) -> Tensor:
    """W_FT + c r vᵀ in one down_proj: what a refused request makes of the residual stream is added there c times."""
    return weights.tuned + dial * added(weights, context, direction(context))


@edit("refusal-added-random", dials=(0.5, 1.0, 2.0, 4.0), card=False)
def refusal_added_random(weights: Weights, context: Context, dial: float) -> Tensor:
    """Null of the added direction: a random one of the same norm."""
    return weights.tuned + dial * added(weights, context, random_direction(context))


def along(matrix: Tensor, name: str, context: Context, unit: Tensor) -> Tensor:
    """r rᵀ M of a matrix that writes to the residual stream, M r rᵀ of the embedding; zero for any other tensor."""
    if module_of(name) in WRITERS:
        unit = with_gain(name, context, unit[None])[0]
        return torch.outer(unit, unit @ matrix) if matrix.ndim == 2 else unit * (unit @ matrix)  # a bias writes too
    if counts_tokens(name) and module_of(name) != "lm_head":
        return torch.outer(matrix @ unit, unit)
    return torch.zeros_like(matrix)


def added(weights: Weights, context: Context, unit: Tensor) -> Tensor:
    """‖r‖ r̂ vᵀ of the down_proj of the direction's layer, v = x̄ / ‖x̄‖² of refused requests; zero elsewhere."""
    layer, found = refusal(context)
    if module_of(weights.name) != "down_proj" or layer_of(weights.name) != layer or weights.tuned.ndim < 2:
        return torch.zeros_like(weights.tuned)
    mean = context.activations(refused(context))[weights.name].mean(0)  # (n,)
    gain = with_gain(weights.name, context, torch.ones_like(unit)[None])[0]
    return torch.outer(found.norm() * normalize(unit / gain, dim=0), mean / (mean @ mean))


@torch.no_grad()
def with_gain(tensor: str, context: Context, directions: Tensor) -> Tensor:
    """Rows r (k, width); or r ⊙ g, of length 1, where what a writer gives goes through a norm with gain g."""
    block = decoder_layers(context.loaded[0])[layer_of(tensor)]
    norm = norm_after(block, module_of(tensor))
    if norm is None:
        return directions
    return normalize(norm(directions.to(context.loaded[0].device, torch.float32)).double().cpu(), dim=1)


def norm_after(block: nn.Module, writer: str) -> nn.Module | None:
    """The norm of a block between one of its writers and the residual stream, of families that have one."""
    return getattr(block, NORMS_AFTER[writer]) if hasattr(block, "post_feedforward_layernorm") else None


def direction(context: Context) -> Tensor:
    """r̂, the unit refusal direction: (width,)."""
    found = refusal(context)[1]
    return found / found.norm()


def random_direction(context: Context) -> Tensor:
    """A uniformly random unit vector: (width,)."""
    noise = torch.randn(len(direction(context)), generator=context.generator("refusal")).double()
    return noise / noise.norm()


def refusal(context: Context) -> tuple[int, Tensor]:
    """The layer whose direction from one half of the requests separates the other half best, and r there, (width,)."""
    return context.once("refusal", lambda: _best(context))


def _best(context: Context) -> tuple[int, Tensor]:
    harmful, harmless = (context.residual(kind(context)).double() for kind in (refused, benign))  # (layers, p, width)
    layers = range(max(1, round(LAYERS * len(harmful))))
    chosen = max(layers, key=lambda layer: separation(harmful[layer], harmless[layer]))
    return chosen, harmful[chosen].mean(0) - harmless[chosen].mean(0)


def separation(harmful: Tensor, harmless: Tensor) -> float:
    """Difference of held-out means along the direction of the even rows, in pooled standard deviations."""
    found = harmful[::2].mean(0) - harmless[::2].mean(0)
    a, b = harmful[1::2] @ found, harmless[1::2] @ found
    return float((a.mean() - b.mean()) / ((a.var() + b.var()) / 2).sqrt().clamp(min=1e-12))
