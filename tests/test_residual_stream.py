"""Subspaces from directions of the residual stream, against dense computations: stacked differences and the cone."""

import copy

import pytest
import torch
import transformers
from torch.nn import Parameter
from torch.nn.functional import normalize

from helpers.methods import refusal_cone
from helpers.methods.calibration import benign, harmful, refused
from helpers.methods.door import subspace_named
from helpers.methods.refusal_direction import along
from helpers.methods.residual_stream import means_apart, read, written
from helpers.weights.names import module_of
from trained import batch_of

WRITER, READER = "model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def basis(name: str, context, tensor: str) -> torch.Tensor:
    return subspace_named(name).modes(tensor, context).vectors


def same_span(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the columns of b, which are not orthonormal, span what those of a do."""
    q = torch.linalg.svd(b.double(), full_matrices=False)[0]
    return a.shape == b.shape and torch.allclose(a @ a.T, q @ q.T, atol=1e-6)


@pytest.mark.parametrize(("twin", "kind"), [("", refused), ("-benign", lambda context: "useful")])
def test_stacked_differences_span_those_of_all_layers_where_the_stream_is_written_or_read(context, twin, kind):
    with torch.no_grad():  # a gain that is 1 everywhere would hide whether it counts
        for norm in (context.loaded[0].model.layers[2].post_attention_layernorm, context.loaded[0].model.norm):
            norm.weight.copy_(torch.linspace(0.5, 2, len(norm.weight)))
    one, other = (context.residual(k).double() for k in (kind(context), benign(context)))
    dense = (one.mean(1) - other.mean(1)).T  # (width, layers)
    name, readers = f"mean-difference-stacked{twin}", f"mean-difference-stacked-input{twin}"
    assert same_span(basis(name, context, WRITER), dense)
    gains = {READER: context.loaded[0].model.layers[2].post_attention_layernorm, HEAD: context.loaded[0].model.norm}
    for tensor, norm in gains.items():
        assert same_span(basis(readers, context, tensor), norm.weight.detach().cpu().double()[:, None] * dense)
    assert same_span(basis(readers, context, EMBEDDING), dense)
    written, read = (subspace_named(one).every_modes(context) for one in (name, readers))
    assert {module_of(tensor) for tensor in written} == {"o_proj", "down_proj"} and not {*written} & {*read}
    assert {*written, *read} == {tensor for tensor in context.names if len(context.shape(tensor)) == 2}


def test_the_layer_that_separates_held_out_requests_best_is_the_first_direction(context):
    layer, first = means_apart(context, refused(context), benign(context))[0]
    column = basis("mean-difference-stacked", context, WRITER)[:, 0]
    assert float(torch.cosine_similarity(column, first, dim=0).abs()) == pytest.approx(1)
    distances = []
    for x, y in zip(*(context.residual(kind(context)).double() for kind in (refused, benign)), strict=True):
        r = x[::2].mean(0) - y[::2].mean(0)
        a, b = x[1::2] @ r, y[1::2] @ r
        distances.append(float((a.mean() - b.mean()) / ((a.var() + b.var()) / 2).sqrt()))
    assert layer == max(range(len(distances)), key=distances.__getitem__)


def test_the_alignment_subspace_of_inputs_is_that_of_right_singular_vectors(context):
    v = torch.linalg.svd(context.update("alignment", READER), full_matrices=False)[2].T  # (n, r)
    found = basis("alignment-input", context, READER)
    assert torch.allclose((found.T @ v).abs(), torch.eye(v.shape[1]).double(), atol=1e-6)
    assert subspace_named("alignment-input").modes(NORM, context) is None


def edited(model, r: torch.Tensor):
    """A copy whose weights write nothing along r."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if module_of(name) in ("o_proj", "down_proj"):
                p.copy_(p - torch.outer(r, r @ p))
        other.model.embed_tokens.weight.sub_(torch.outer(other.model.embed_tokens.weight @ r, r))
    return other


def test_the_loss_of_the_cone_is_that_of_edited_models(context):
    model, _ = context.loaded
    r = normalize(torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(3)), dim=0).to(
        model.device
    )
    rows = refusal_cone.examples(context, harmful(context), refused(context))
    batches = [batch_of(one[:4], model) for one in rows]
    found = refusal_cone.loss(model, r.expand(4, -1), batches, 1, 2.5)
    without, moved = edited(model, r), copy.deepcopy(model)
    moved.model.layers[1].mlp.down_proj.bias = Parameter(2.5 * r)  # what a block gives ends with its feed-forward part
    with torch.no_grad():
        before, after = (one(**batches[2]).logits.double().log_softmax(-1) for one in (model, without))
        where = batches[2]["labels"][:, 1:] != -100
        divergence = (before.exp() * (before - after)).sum(-1)[:, :-1][where].mean()
        expected = without(**batches[0]).loss + 0.2 * moved(**batches[1]).loss + divergence
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-4)
    answers = context.calibration(refused(context))["answer"]
    asked = [one["input_ids"] for one in rows[1]]
    assert len(asked) == len(rows[2]) and answers.iloc[0] in context.loaded[1].decode(asked[0])


def test_the_cone_is_found_by_descent_and_is_the_same_again(context, monkeypatch):
    model, _ = context.loaded
    kinds = harmful(context), refused(context)
    rows = refusal_cone.examples(context, *kinds)
    batches = [batch_of((one * 16)[:16], model) for one in rows]
    layer, difference = refusal_cone._beginning(context, kinds[1])
    mixtures = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)).abs()
    losses, found = [], {}
    for steps in (0, 60):
        monkeypatch.setattr(refusal_cone, "STEPS", steps)
        found[steps] = refusal_cone._descend(context, *kinds)
        r = normalize(mixtures @ found[steps].T.float(), dim=-1).to(model.device)
        losses.append(float(refusal_cone.loss(model, r, batches, layer, float(difference.norm())).detach()))
    assert losses[1] < losses[0]
    assert torch.allclose(found[60].T @ found[60], torch.eye(3).double(), atol=1e-9)
    assert torch.equal(refusal_cone._descend(context, *kinds), found[60])
    assert torch.allclose(found[0][:, 0], difference / difference.norm())
    assert torch.equal(basis("refusal-cone", context, WRITER), found[60])
    assert not torch.allclose(basis("refusal-cone-benign", context, WRITER), found[60], atol=0.1)
    assert subspace_named("refusal-cone").modes(READER, context) is None


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
SMALL |= {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}


@pytest.fixture(params=["Gemma3Text", "Olmo2"])
def normed(request, context):
    """The context with a model in whose blocks norms with gains follow what writes, and a direction (width,)."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SMALL)
    family = "Gemma3" if request.param.startswith("Gemma3") else request.param
    model = getattr(transformers, f"{family}ForCausalLM")(config).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(torch.rand_like(p) * 2 - 0.5)
    context._kept["model", "aligned"] = (model, context.loaded[1])
    return context, normalize(torch.randn(32, generator=torch.Generator().manual_seed(1)).double(), dim=0)


def test_behind_a_norm_with_gain_nothing_is_written_along_an_ablated_direction(normed):
    """In the stream itself: what is written there comes out of the norms."""
    context, r = normed
    model, tokens = context.loaded[0], torch.arange(1, 13)[None]
    without = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in without.named_parameters():
            p.sub_(along(p.detach().clone(), name, context, r))
        before, after = (m(tokens, output_hidden_states=True).hidden_states[:-1] for m in (model, without))
        with refusal_cone.ablated(model, r[None]):
            hooked = model(tokens, output_hidden_states=True).hidden_states[:-1]
    along_r = [max(float((h @ r).abs().max() / h.norm(dim=-1).max()) for h in one) for one in (before, after, hooked)]
    assert along_r[0] > 0.01 and max(along_r[1:]) < 1e-6
    basis = written(WRITER, context, r[:, None])[:, 0]
    gain = model.model.layers[1].post_feedforward_layernorm
    assert same_span(basis[:, None], (r * gain(torch.ones(32).double())).detach()[:, None])


def test_what_reads_the_stream_behind_a_norm_has_its_gain_and_else_none(normed):
    context, r = normed
    block, name = context.loaded[0].model.layers[1], "model.layers.1.mlp.up_proj.weight"
    norm = getattr(block, "pre_feedforward_layernorm", None)  # OLMo 2 has no norm there
    seen = r if norm is None else r * norm(torch.ones(32).double()).detach()
    assert same_span(read(name, context, r[:, None]), seen[:, None])
