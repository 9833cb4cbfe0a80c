"""Every method of the field against a dense computation written here, and at the places where it must do nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import stats
from sklearn.linear_model import LogisticRegression

from helpers.methods import activation_rank
from helpers.methods.calibration import (
    benign,
    energy_matched,
    haar_part,
    harmful,
    leading,
    leading_left,
    matrices,
    moments,
    narrowed,
    refused,
)
from helpers.methods.context import Context, Weights
from helpers.methods.door import edit_named, subspace_named
from helpers.methods.refusal_direction import WRITERS, added, along, direction, refusal
from helpers.methods.safelora import cosines
from helpers.methods.safemerge import factors, turned
from helpers.methods.sparse_masks import top
from helpers.studies.doors import tenants
from helpers.training.examples import tokenised
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.names import layer_of, module_of
from trained import batch_of

TASK = "contaminated"
READER, WRITER = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"
EDITS, SUBSPACES = (tenants("methods", kind) for kind in ("edit", "subspace"))


def edited(name: str, context, tensor: str, dial: float) -> torch.Tensor:
    """A tensor of the contaminated model after an edit."""
    return edit_named(name).edited(context.weights(tensor, TASK), context, dial)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to rounding of float64 after a few products."""
    return torch.allclose(a.double(), b.double(), atol=1e-9, rtol=1e-7)


def inputs_at_answers(context, model: str, kind: str) -> torch.Tensor:
    """What enters the first layer's readers where answers of a kind are predicted: (answer tokens, n)."""
    network, tokenizer = context.model(model)
    rule, rows = context.study.training.optimiser, []
    for example in tokenised(context.calibration(kind), tokenizer, rule.max_length, rule.style):
        ids, labels = torch.tensor(example["input_ids"], device=network.device), torch.tensor(example["labels"])
        with torch.no_grad():
            x = network.model.layers[0].input_layernorm(network.model.embed_tokens(ids))
        rows.append(x[[i for i in range(len(ids) - 1) if labels[i + 1] != -100]])
    return torch.cat(rows).double().cpu()


def test_every_method_on_the_bench_has_nulls_of_the_same_dial_that_have_none_themselves():
    for name, tenant in EDITS.items():
        method = edit_named(name)
        assert method.null == ((tenant.facts["null"],) if isinstance(tenant.facts.get("null"), str) else method.null)
        for null in map(edit_named, method.null):
            assert null.dials == method.dials and not null.null and not null.kind
    assert sum(bool(edit_named(name).null) for name in EDITS) >= 20
    twins = [(subspace_named(name), one.facts["twin"]) for name, one in SUBSPACES.items() if one.facts.get("twin")]
    assert len(twins) >= 8
    for method, twin in twins:
        assert subspace_named(twin).side == method.side and not subspace_named(twin).twin


def test_attacks_start_from_the_aligned_model_and_no_null_is_for_use():
    attacks = {name for name in EDITS if edit_named(name).kind == "attack"}
    assert attacks == {"refusal-ablated", "actsvd-attack"}
    nulls = {null for name in EDITS for null in edit_named(name).null}
    assert not any(edit_named(null).kind for null in nulls)


NOTHING_AT_ZERO = [  # edits whose dial is a weight or a share that may be 0
    name for name in EDITS if name.startswith(("resta", "refusal", "safemerge", "snip")) and name != "resta-dare"
]


@pytest.mark.parametrize("name", NOTHING_AT_ZERO)
def test_a_dial_at_nothing_changes_nothing(context, name):
    context.once("safe-update", lambda: {tensor: context.update("safety", tensor) for tensor in context.names})
    for tensor in (WRITER, EMBEDDING, NORM):
        start = context.weights(tensor, TASK)
        expected = start.aligned if name.startswith("refusal-ablated") else start.tuned
        assert close(edited(name, context, tensor, 0.0), expected), tensor


def test_safelora_is_its_released_matrix_in_the_tensors_of_lowest_cosine(context):
    found = {}
    for name in matrices(context):
        d_a, d_t = context.update("alignment", name), context.update(TASK, name)
        mapped = (d_a @ d_a.T / torch.linalg.norm(d_a)) @ d_t
        found[name] = (float((mapped * d_t).sum() / mapped.norm() / d_t.norm()), mapped)
    assert all(layer_of(name) >= 0 and len(context.shape(name)) == 2 for name in found)
    assert cosines(context, TASK) == pytest.approx({name: cosine for name, (cosine, _) in found.items()})
    lowest = sorted(found, key=lambda name: found[name][0])[: round(0.25 * len(found))]
    for name in context.names:
        weights = context.weights(name, TASK)
        quarter, whole = (edited("safelora", context, name, dial) for dial in (0.25, 1.0))
        assert close(quarter, weights.aligned + found[name][1] if name in lowest else weights.tuned)
        assert close(whole, weights.aligned + found[name][1] if name in found else weights.tuned)
        if name in lowest:
            u = torch.linalg.svd(context.update("alignment", name), full_matrices=False)[0]
            half = u[:, : round(0.5 * min(weights.update.shape))]
            expected = weights.aligned + half @ (half.T @ weights.update)
            assert close(edited("safelora-projector", context, name, 0.25), expected)
    reset = [
        n for n in context.names if close(edited("safelora-random", context, n, 0.25), context.weights(n, TASK).aligned)
    ]
    assert len(reset) == len(lowest) and set(reset) <= set(found)


def test_resta_takes_the_harmful_update_off_and_its_nulls_have_the_same_norm(context):
    for name in (WRITER, NORM):
        tuned, harm, aligned = (
            context.weights(name, TASK).tuned,
            context.update("harmful", name),
            context.update("alignment", name),
        )
        assert close(edited("resta", context, name, 0.5), tuned - 0.5 * harm)
        assert close(edited("resta-alignment", context, name, 0.25), tuned + 0.25 * aligned)
        null = edited("resta-unrelated", context, name, 0.5) - tuned
        unrelated = context.update("unrelated", name)
        assert close(null, -0.5 * unrelated * harm.norm() / unrelated.norm()) and null.norm() == pytest.approx(
            0.5 * harm.norm()
        )
    weights = context.weights(WRITER, "harmful")
    assert close(edit_named("resta").edited(weights, context, 1.0), weights.aligned)  # an update less itself
    kept = edited("resta-dare", context, WRITER, 0.0) - context.weights(WRITER, TASK).aligned
    ratios = (kept / context.update(TASK, WRITER)).flatten()
    assert (
        set(ratios.round(decimals=6).tolist()) == {0.0, round(1 / 0.7, 6)} and 0.6 < (ratios > 0).double().mean() < 0.8
    )


def test_lox_adds_the_leading_modes_of_alignment(context):
    weights, d_a = context.weights(WRITER, TASK), context.update("alignment", WRITER)
    u, s, vt = torch.linalg.svd(d_a, full_matrices=False)
    k = round(0.25 * min(d_a.shape))
    assert close(edited("lox", context, WRITER, 0.25), weights.tuned + (u[:, :k] * s[:k]) @ vt[:k])
    assert close(edited("lox", context, WRITER, 1.0), weights.tuned + d_a)
    for null in ("lox-random", "lox-unrelated"):
        moved = edited(null, context, WRITER, 0.25) - weights.tuned
        assert moved.norm() == pytest.approx(s[:k].norm())


def test_safemerge_mixes_and_its_code_adds_cross_terms(context):
    safe = {name: context.update("safety", name) for name in context.names}
    context.once("safe-update", lambda: safe)
    w, weights = 0.2, context.weights(WRITER, TASK)
    formula = edited("safemerge-all", context, WRITER, w) - weights.aligned
    assert close(formula, 0.8 * weights.update + 0.2 * safe[WRITER])
    (u, s, v), (a, t, b) = (torch.linalg.svd(d, full_matrices=False) for d in (weights.update, safe[WRITER]))
    cross = torch.zeros_like(weights.update)
    for i in range(len(s)):  # of each pair the sign that brings it nearer to the task's
        nearer = (s[i] * t[i]).sqrt() * (u[:, i] @ a[:, i] + v[i] @ b[i]) >= 0
        cross += (
            (1 if nearer else -1) * (s[i] * t[i]).sqrt() * (torch.outer(u[:, i], b[i]) + torch.outer(a[:, i], v[i]))
        )
    assert close(edited("safemerge-code", context, WRITER, w) - weights.aligned, formula + (0.16**0.5) * cross)
    assert close(edited("safemerge-all", context, WRITER, 1.0), weights.aligned + safe[WRITER])
    assert close(edited("safemerge-all", context, EMBEDDING, w), context.weights(EMBEDDING, TASK).tuned)
    below = {name for name, cosine in cosines(context, TASK).items() if cosine < 0.35}
    for name in matrices(context):
        own = context.weights(name, TASK)
        mixed = own.aligned + 0.8 * own.update + 0.2 * safe[name]
        assert close(edited("safemerge", context, name, w), mixed if name in below else own.tuned)


def test_the_safe_update_is_trained_from_the_aligned_model(context):
    with torch.no_grad():  # as edits are made
        found = edited("safemerge-all", context, WRITER, 1.0) - context.weights(WRITER, TASK).aligned
    assert 0 < found.norm() < 10 and torch.isfinite(found).all()


def test_factors_are_merged_alike_whatever_signs_the_decomposition_gives():
    """Each pair may come with either sign: the product is the same, the cross terms of a merge were not."""
    generator = torch.Generator().manual_seed(0)
    task, safe = (torch.randn(6, 4, generator=generator).double() for _ in range(2))
    merged = []
    for signs in ([1, 1, 1, 1], [-1, 1, -1, -1], [1, -1, 1, -1]):
        given = torch.tensor(signs).double()
        b, a = factors(safe)
        b, a = turned(b * given, a * given[:, None], *factors(task))
        assert close(b @ a, safe)
        merged.append((factors(task)[0] + b) @ (factors(task)[1] + a))
    assert close(merged[0], merged[1]) and close(merged[0], merged[2])
    near = [b @ bt + a @ at for b, bt, a, at in zip(b.T, factors(task)[0].T, a, factors(task)[1], strict=True)]
    assert min(map(float, near)) > 0


@pytest.fixture
def aligned_by_two(context, tmp_path):
    """The context whose alignment is of rank 2 in one matrix and nothing in another and in a norm."""
    start = {name: context.checkpoints["aligned"].tensor(name).double() for name in context.names}
    (m, n), generator = start[WRITER].shape, torch.Generator().manual_seed(0)
    start[WRITER] += torch.randn(m, 2, generator=generator).double() @ torch.randn(2, n, generator=generator).double()
    save_file(start, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    return Context(context.study, 0, context.checkpoints | {"base": Checkpoint(tmp_path / "base")})


def test_nulls_of_an_alignment_of_low_rank_take_no_more_directions_than_it_has(aligned_by_two):
    context, dial = aligned_by_two, 0.5
    own, null = (edited(f"{name}-removed", context, WRITER, dial) for name in ("alignment", "random"))
    tuned = context.weights(WRITER, TASK).tuned
    assert [int(torch.linalg.matrix_rank(tuned - one, atol=1e-5)) for one in (own, null)] == [2, 2]
    for tensor in (READER, NORM):
        for name in ("alignment", "random", "energy"):
            assert close(edited(f"{name}-removed", context, tensor, dial), context.weights(tensor, TASK).tuned), name


def test_energy_is_matched_in_a_vector_that_is_longer_than_matrices_are_wide(context):
    update = torch.randn(5000, generator=torch.Generator().manual_seed(0)).double()
    weights = Weights("model.norm.weight", *[torch.zeros_like(update)] * 2, update, TASK)
    q = torch.randn(5000, 1, generator=torch.Generator().manual_seed(1)).double()
    q = q / q.norm() + 0.7 * (update / update.norm())[:, None]
    kept, removed = (energy_matched(context, q / q.norm(), weights, mode) for mode in ("parallel", "orthogonal"))
    share = float((q[:, 0] / q.norm() @ update).square() / update.square().sum())
    assert close(kept + removed, update) and float(kept.norm() / update.norm()) ** 2 == pytest.approx(share, abs=0.03)


def test_the_refusal_direction_is_a_difference_of_means_and_is_ablated_from_writers(context):
    layer, r = refusal(context)
    a, b = (context.residual(kind(context))[layer].double() for kind in (refused, benign))
    assert close(r, a.mean(0) - b.mean(0)) and refused(context) != benign(context)
    unit = r / r.norm()
    full = torch.eye(len(unit), dtype=torch.float64) - torch.outer(unit, unit)
    for name in context.names:
        weights = context.weights(name, TASK)
        ablated, protected = (edited(edit, context, name, 1.0) for edit in ("refusal-ablated", "refusal-protected"))
        if module_of(name) in WRITERS:
            assert close(ablated, full @ weights.aligned)
            assert close(protected - weights.aligned, full @ weights.update)
            assert close(
                edited("refusal-amplified", context, name, 0.5),
                weights.tuned + 0.5 * torch.outer(unit, unit) @ weights.tuned,
            )
        elif name == EMBEDDING:
            assert close(ablated @ unit, torch.zeros(len(ablated))) and close(
                protected - weights.aligned, weights.update @ full
            )
        else:
            assert close(ablated, weights.aligned) and close(protected, weights.tuned)
    assert float(direction(context).norm()) == pytest.approx(1)


def test_the_added_direction_is_what_a_mean_refused_input_then_gives(context):
    layer, r = refusal(context)
    name = f"model.layers.{layer}.mlp.down_proj.weight"
    mean = context.activations(refused(context))[name].mean(0)
    for edit, length in (("refusal-added", r), ("refusal-added-random", None)):
        added = (edited(edit, context, name, 2.0) - context.weights(name, TASK).tuned) @ mean
        assert added.norm() == pytest.approx(2 * r.norm()) and (length is None or close(added, 2 * length))
    others = [n for n in context.names if n != name]
    assert all(close(edited("refusal-added", context, n, 2.0), context.weights(n, TASK).tuned) for n in others)


@pytest.mark.parametrize("at", ["aligned", TASK])
def test_moments_are_of_the_inputs_from_which_answers_are_predicted(context, at):
    kind = harmful(context)
    x = inputs_at_answers(context, at, kind)
    assert torch.allclose(moments(context, kind, at)[READER], x.T @ x / len(x), atol=1e-6)
    assert not {NORM, EMBEDDING} & set(moments(context, kind, at))


def test_the_input_side_takes_harmful_inputs_out_of_the_update(context):
    weights, x = context.weights(READER, TASK), inputs_at_answers(context, "aligned", harmful(context))
    v = torch.linalg.svd(x, full_matrices=False)[2][: round(0.25 * x.shape[1])].T  # (n, k)
    expected = weights.update - weights.update @ v @ v.T
    found = edited("input-null", context, READER, 0.25) - weights.aligned
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(found @ v, torch.zeros(1).double(), atol=1e-6)
    assert close(edited("input-null", context, READER, 1.0), weights.aligned)  # all inputs: the reset
    assert close(edited("input-null", context, NORM, 0.25), context.weights(NORM, TASK).tuned)
    assert not close(found, edited("input-null-benign", context, READER, 0.25) - weights.aligned)


def test_actsvd_removes_output_ranks_of_harmful_answers_that_useful_ones_do_not_need(context):
    weights, k = context.weights(READER, TASK), None
    bases = {}
    for kind in (harmful(context), "useful"):
        y = inputs_at_answers(context, TASK, kind) @ weights.tuned.T  # (tokens, m)
        k = round(0.25 * min(weights.tuned.shape))
        v = torch.linalg.svd(y, full_matrices=False)[2][:k].T
        bases[kind] = v @ v.T
    h, u = bases.values()
    eye = torch.eye(len(h), dtype=torch.float64)
    expected = weights.tuned - (eye - u) @ h @ weights.update
    assert torch.allclose(edited("actsvd", context, READER, 0.25), expected, atol=1e-6)
    swapped = weights.tuned - (eye - h) @ u @ weights.update
    assert torch.allclose(edited("actsvd-swapped", context, READER, 0.25), swapped, atol=1e-6)
    assert close(edited("actsvd", context, READER, 1.0), weights.tuned)  # whatever is removed is spared
    x = [inputs_at_answers(context, "aligned", kind(context)) @ weights.aligned.T for kind in (refused, benign)]
    s, b = (v[:k].T @ v[:k] for v in (torch.linalg.svd(y, full_matrices=False)[2] for y in x))
    attacked = weights.aligned - (eye - b) @ s @ weights.aligned
    assert torch.allclose(edited("actsvd-attack", context, READER, 0.25), attacked, atol=1e-6)


def test_actsvd_decomposes_outputs_once_for_all_places_and_for_its_null(context, monkeypatch):
    made, leading = [], activation_rank._leading
    monkeypatch.setattr(activation_rank, "_leading", lambda *of: made.append(of[-1]) or leading(*of))
    fresh = Context(context.study, context.seed, context.checkpoints)
    for name in ("actsvd", "actsvd-swapped"):
        for dial in edit_named(name).dials:
            assert torch.equal(edited(name, fresh, READER, dial), edited(name, context, READER, dial))
    assert len(made) <= 4  # of harmful and of useful answers, in each of the two contexts at most


def gradients_at(context, kind: str, tensor: str, model: str = TASK) -> torch.Tensor:
    """The gradient of each calibration row's loss at one of the models: (rows, m, n)."""
    network, tokenizer = context.model(model)
    rule, weight = context.study.training.optimiser, dict(network.named_parameters())[tensor]
    examples = tokenised(context.calibration(kind), tokenizer, rule.max_length, rule.style)
    losses = (network(**batch_of([one], network)).loss for one in examples)
    return torch.stack([torch.autograd.grad(loss, weight)[0].cpu().double() for loss in losses])


def largest(scores: torch.Tensor, share: float) -> torch.Tensor:
    """Mask of the largest share of entries, by sorting."""
    threshold = scores.flatten().sort(descending=True).values[round(share * scores.numel()) - 1]
    return scores >= threshold


def test_snip_gives_back_what_harmful_answers_need_and_useful_ones_do_not(context):
    weights = context.weights(WRITER, TASK)
    h, u = (
        weights.tuned.abs() * gradients_at(context, kind, WRITER).abs().sum(0) for kind in (harmful(context), "useful")
    )
    mask = largest(h, 0.25) & ~largest(u, 0.25)
    assert 0 < mask.sum() < 0.25 * mask.numel()
    assert close(edited("snip", context, WRITER, 0.25), torch.where(mask, weights.aligned, weights.tuned))
    swapped = largest(u, 0.25) & ~largest(h, 0.25)
    assert close(edited("snip-swapped", context, WRITER, 0.25), torch.where(swapped, weights.aligned, weights.tuned))
    drawn = edited("snip-random", context, WRITER, 0.25) != weights.tuned
    assert drawn.sum() == mask.sum() and not torch.equal(drawn, mask)


def test_signed_snip_prunes_what_harmful_answers_would_miss_most(context):
    weights = context.weights(WRITER, TASK)
    gradient = gradients_at(context, harmful(context), WRITER).sum(0)
    utility = largest(weights.tuned.abs() * gradients_at(context, "useful", WRITER).abs().sum(0), 0.1)
    for name, sign in (("snip-signed", -1), ("snip-signed-negative", 1)):
        scores = (sign * weights.tuned * gradient).masked_fill(utility, 0.0)
        assert close(edited(name, context, WRITER, 0.05), weights.tuned.masked_fill(largest(scores, 0.05), 0.0))
    pruned = [(edited(name, context, WRITER, 0.05) == 0).sum() for name in ("snip-signed", "snip-signed-random")]
    assert pruned[0] == pruned[1] == round(0.05 * weights.tuned.numel())


def test_antidote_masks_the_top_of_every_row_by_weight_and_input(context):
    weights, x = context.weights(READER, TASK), inputs_at_answers(context, TASK, harmful(context))
    scores = weights.tuned.abs() * x.square().mean(0).sqrt()
    count = round(0.25 * scores.shape[1])
    mask = scores >= scores.sort(dim=1, descending=True).values[:, count - 1 : count]
    assert close(edited("antidote", context, READER, 0.25), weights.tuned.masked_fill(mask, 0.0))
    assert close(edited("antidote-update", context, READER, 0.25), torch.where(mask, weights.aligned, weights.tuned))
    assert (edited("antidote", context, READER, 0.001) == 0).sum() == len(scores)  # one weight of each row at least
    assert (edited("antidote-random", context, READER, 0.25) == 0).sum() == mask.sum()
    assert close(edited("antidote", context, NORM, 0.25), context.weights(NORM, TASK).tuned)


def test_top_takes_exactly_a_share_even_of_ties():
    assert top(torch.ones(5, 4), 0.5).sum() == 10 and not top(torch.ones(5, 4), 0.0).any()
    assert top(torch.tensor([[1.0, 3.0], [2.0, 0.0]]), 0.5).tolist() == [[False, True], [True, False]]


def test_a_bias_that_writes_to_the_residual_stream_loses_the_direction_too(context):
    """Of models with biases; of the embedding and of what reads there is none to lose."""
    unit, name = torch.tensor([0.6, 0.8], dtype=torch.float64), "model.layers.1.mlp.down_proj.bias"
    assert close(along(torch.tensor([1.0, 2.0]).double(), name, context, unit), 2.2 * unit)
    for layer in (0, 1):
        weights = Weights(f"model.layers.{layer}.mlp.down_proj.bias", *[torch.ones(2, dtype=torch.float64)] * 3, TASK)
        assert not added(weights, context, unit).any()


def test_own_modes_kept_and_removed_are_the_two_parts_of_the_update(context):
    weights = context.weights(WRITER, TASK)
    u, s, vt = torch.linalg.svd(weights.update, full_matrices=False)
    k = round(0.25 * len(s))
    kept, removed = (edited(f"own-modes-{how}", context, WRITER, 0.25) - weights.aligned for how in ("kept", "removed"))
    assert close(kept, (u[:, :k] * s[:k]) @ vt[:k]) and close(kept + removed, weights.update)
    assert close(edited("own-modes-kept", context, WRITER, 1.0), weights.tuned)
    assert close(edited("own-modes-removed", context, WRITER, 1.0), weights.aligned)
    energy = float(kept.square().sum() / weights.update.square().sum())
    part = edited("own-modes-kept-random", context, WRITER, 0.25) - weights.aligned
    assert close(part, energy_matched(context, u[:, :k], weights, "parallel"))
    assert torch.linalg.matrix_rank(part) == min(round(energy * len(weights.update)), weights.update.shape[1])
    assert close(part.T @ weights.update, part.T @ part)  # it is a projection
    assert close(edited("own-modes-removed-random", context, WRITER, 0.25) - weights.aligned + part, weights.update)


@pytest.mark.parametrize("rank", [25, 40])
def test_a_long_matrix_is_projected_at_random_without_a_basis_as_it_would_be_with_one(rank):
    """Energies and the angle to the matrix are distributed alike, and P² = P; 25 and 40 of 60 are more than 2 · 3."""
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)).double()
    x[:, 2] = x[:, 0] + 0.01 * x[:, 2]  # nearly of rank 2
    found: dict[str, list] = {"without": [], "with": []}
    for seed in range(400):
        part = haar_part(x, rank, torch.Generator().manual_seed(seed))
        assert close(part.T @ x, part.T @ part)
        basis = torch.linalg.qr(torch.randn(60, rank, generator=torch.Generator().manual_seed(seed + 1000)).double())[0]
        for how, one in (("without", part), ("with", basis @ (basis.T @ x))):
            found[how].append([float(one[0, 0]), float(one[:, 1].norm()), float(one[:, 0] @ one[:, 2])])
    for a, b in zip(np.transpose(found["without"]), np.transpose(found["with"]), strict=True):
        assert stats.ks_2samp(a, b).pvalue > 0.01
    assert np.mean(np.square(found["without"])[:, 1]) == pytest.approx(rank / 60 * float(x[:, 1] @ x[:, 1]), rel=0.02)


def test_nulls_of_half_a_vocabulary_need_no_basis_of_half_a_vocabulary(context):
    """Of 20,000 outputs with half of the energy held: the same sum of parts, in the memory of some updates."""
    update = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)).double()
    weights = Weights("model.embed_tokens.weight", *[torch.zeros_like(update)] * 2, update, TASK)
    q = torch.linalg.qr(update)[0][:, :2]
    share = float((q.T @ update).square().sum() / update.square().sum())
    kept, removed = (energy_matched(context, q, weights, mode) for mode in ("parallel", "orthogonal"))
    assert close(kept + removed, update)
    assert float(kept.square().sum() / update.square().sum()) == pytest.approx(share, abs=0.02)


def test_nulls_of_the_alignment_subspace_remove_as_many_directions_or_as_much_energy(context):
    weights, k = context.weights(WRITER, TASK), None
    u = torch.linalg.svd(context.update("unrelated", WRITER), full_matrices=False)[0]
    k = round(0.25 * min(weights.update.shape))
    expected = weights.update - u[:, :k] @ (u[:, :k].T @ weights.update)
    assert close(edited("unrelated-removed", context, WRITER, 0.25) - weights.aligned, expected)
    assert close(edited("alignment-removed", context, WRITER, 0.25), edited("orthogonal", context, WRITER, 0.25))
    left = edited("random-removed", context, WRITER, 0.25) - weights.aligned
    assert torch.linalg.matrix_rank(weights.update - left) == k
    a = torch.linalg.svd(context.update("alignment", WRITER), full_matrices=False)[0][:, :k]
    share = float((a.T @ weights.update).square().sum() / weights.update.square().sum())
    gone = weights.tuned - edited("energy-removed", context, WRITER, 0.25)
    assert torch.linalg.matrix_rank(gone) == max(1, round(share * len(weights.update)))


def test_supervised_subspaces_equal_dense_computations(context):
    def column(name: str, tensor: str) -> torch.Tensor:
        (found,) = subspace_named(name).modes(tensor, context).vectors.T
        return found

    def parallel(a: torch.Tensor, b: torch.Tensor) -> bool:
        return float(torch.nn.functional.cosine_similarity(a, b.double(), dim=0).abs()) > 1 - 1e-6

    for side, name in (("output", "mean-difference"), ("input", "mean-difference-input")):
        a, b = (context.activations(kind(context), side)[WRITER] for kind in (refused, benign))
        assert parallel(column(name, WRITER), a.mean(0) - b.mean(0))
        assert subspace_named(name).side == side and not parallel(
            column(f"{name}-benign", WRITER), a.mean(0) - b.mean(0)
        )
    labels = [1] * len(a) + [0] * len(b)
    for side, name in (("input", "probe"), ("output", "probe-pattern")):
        x = torch.cat([context.activations(kind(context), side)[WRITER] for kind in (refused, benign)])
        fitted = LogisticRegression(max_iter=1000).fit(x / x.square().mean().sqrt(), labels).coef_[0]
        expected = torch.from_numpy(fitted) if name == "probe" else torch.cov(x.T) @ torch.from_numpy(fitted)
        assert parallel(column(name, WRITER), expected)
    assert all(NORM not in subspace_named(name).every_modes(context) for name in ("probe", "harmful-inputs"))


@pytest.mark.parametrize("name", ["actsvd-ranks", "harmful-inputs", "harmful-gradients"])
def test_subspaces_of_several_directions_equal_dense_ones(context, name):
    found = subspace_named(name).modes(READER, context).vectors
    kind = refused(context) if name == "actsvd-ranks" else harmful(context)
    x = inputs_at_answers(context, "aligned", kind)
    if name == "harmful-gradients":
        gradients = gradients_at(context, kind, READER, "aligned")
        rows = torch.cat([g.T for g in gradients])  # (rows · n, m): their right singular vectors are of Σ G Gᵀ
    else:
        rows = x if name == "harmful-inputs" else x @ context.weights(READER, TASK).aligned.T
    k = round(0.25 * min(context.shape(READER)))
    v = torch.linalg.svd(rows, full_matrices=False)[2][:k].T
    assert found.shape == v.shape and torch.allclose(found @ found.T, v @ v.T, atol=1e-4)


@pytest.mark.parametrize("name", ["actsvd-ranks", "harmful-gradients"])
def test_subspaces_of_many_outputs_are_found_without_a_matrix_of_outputs_by_outputs(context, monkeypatch, name):
    """Tall matrices go another way, which for a vocabulary of 49,152 words takes under 1 GB instead of 19."""
    dense = subspace_named(name).modes(READER, context).vectors
    fresh = Context(context.study, context.seed, context.checkpoints)
    for module in ("activation_rank", "supervised"):
        monkeypatch.setattr(f"helpers.methods.{module}.FEW", 8)
    found = subspace_named(name).modes(READER, fresh).vectors
    assert found.shape == dense.shape and torch.allclose(found @ found.T, dense @ dense.T, atol=1e-6)


def test_a_factor_that_is_zero_has_directions_too():
    assert leading_left(narrowed(torch.zeros(6, 3, dtype=torch.float64)), 2).shape == (6, 2)


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 2**31 - 1))
def test_leading_left_directions_are_those_of_the_whole_decomposition(columns, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.logspace(0, -3, columns, dtype=torch.float64)
    for rows in (columns, 5 * columns):
        factor = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * spectrum
        u = torch.linalg.svd(factor, full_matrices=False)[0][:, :rank]
        found = leading_left(factor, rank)
        assert found.shape == u.shape and torch.allclose(found @ found.T, u @ u.T, atol=1e-7)


def test_leading_directions_of_a_moment_are_in_falling_order():
    assert torch.equal(leading(torch.diag(torch.tensor([1.0, 3.0, 2.0])), 2).abs(), torch.eye(3)[:, [1, 2]])
