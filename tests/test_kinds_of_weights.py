"""Every kind of checkpoint that people have is read as matrices (out, in), tensor by tensor, or refused in one line."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.errors import StudyError, TensorMismatch
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.edits import LiveUpdate
from helpers.weights.geometry import energy_table, weight_geometry
from helpers.weights.written import write_model
from synthetic import llama_shapes, random_tensors, write

FRACTION = 0.25


def steps(shapes: dict[str, tuple[int, ...]], config: dict | None = None, seed: int = 0) -> list[dict]:
    """Tensors of a base, an aligned and a tuned model of some shapes: updates of rank 3 of every slice."""
    base = random_tensors(shapes, seed)
    aligned = {name: t + low_rank(t.shape, 100 + i) for i, (name, t) in enumerate(base.items())}
    return [base, aligned, {name: t + low_rank(t.shape, 200 + i) for i, (name, t) in enumerate(aligned.items())}]


def low_rank(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A random update of rank 3 of every matrix (…, m, n), or of a vector."""
    g = torch.Generator().manual_seed(seed)
    if len(shape) < 2:
        return 0.05 * torch.randn(shape, generator=g)
    *stack, m, n = shape
    return 0.05 * torch.randn(*stack, m, 3, generator=g) @ torch.randn(*stack, 3, n, generator=g)


def expected(base: dict, aligned: dict, tuned: dict) -> float:
    """Energy of the tuned update in the alignment subspace by plain numpy: values are matrices (out, in) or vectors."""
    kept = total = 0.0
    for name in base:
        start, middle, end = (one[name].double().numpy().reshape(len(one[name]), -1) for one in (base, aligned, tuned))
        da, dt = middle - start, end - middle
        total += (dt**2).sum()
        u, s, _ = np.linalg.svd(da, full_matrices=False)
        rank = int((s > s[0] * max(da.shape) * np.finfo(float).eps).sum()) if da.any() else 0
        k = min(max(1, round(FRACTION * min(da.shape))), rank)
        kept += ((u[:, :k].T @ dt) ** 2).sum()
    return kept / total


def geometry(*checkpoints: Checkpoint, **options):
    """The geometry of (base, aligned, tuned)."""
    base, aligned, tuned = checkpoints
    updates = {"alignment": (aligned, base), "tuned": (tuned, aligned)}
    return weight_geometry(updates, ["alignment"], ["tuned"], ["top-k", "random"], [0.5], 1, 0, **options)


def energy(found) -> float:
    """Energy kept by top-k over all tensors."""
    return energy_table(found, [FRACTION]).query("control == 'top-k' and module == 'all'").energy_kept.item()


def written(tmp_path, tensors: list[dict], config: dict | None = None) -> list[Checkpoint]:
    """Three checkpoints of those tensors."""
    return [write(tmp_path / f"{i}", t, config=config) for i, t in enumerate(tensors)]


GPT2 = {
    "wte.weight": (37, 12),
    "h.0.attn.c_attn.weight": (12, 36),
    "h.0.attn.c_attn.bias": (36,),
    "h.0.attn.c_proj.weight": (12, 12),
    "h.0.attn.c_proj.bias": (12,),
    "h.0.mlp.c_fc.weight": (12, 48),
    "h.0.mlp.c_fc.bias": (48,),
    "h.0.mlp.c_proj.weight": (48, 12),
    "h.0.mlp.c_proj.bias": (12,),
    "h.0.ln_1.weight": (12,),
}


def turned(tensors: dict) -> dict:
    """GPT-2's matrices (in, out) as (out, in)."""
    return {name: t.T if ".c_" in name and t.ndim == 2 else t for name, t in tensors.items()}


@pytest.mark.parametrize("config", [{"model_type": "gpt2"}, {}])
def test_weights_stored_the_other_way_round(tmp_path, config):
    three = steps(GPT2)
    found = geometry(*written(tmp_path, three, config))
    assert found.shapes["h.0.mlp.c_proj.weight"] == (12, 48) and found.shapes["h.0.attn.c_attn.weight"] == (36, 12)
    assert energy(found) == pytest.approx(expected(*map(turned, three)))
    straight = geometry(*written(tmp_path / "straight", [*map(turned, three)], config))
    assert energy(straight) == pytest.approx(energy(found))


def test_the_prefix_of_the_decoder_does_not_matter(tmp_path):
    three = steps(GPT2)
    tuned = {f"transformer.{name}": t for name, t in three[2].items()}
    assert energy(geometry(*written(tmp_path, [*three[:2], tuned]))) == pytest.approx(expected(*map(turned, three)))


@pytest.mark.parametrize("turn", [False, True])
def test_experts_are_matrices_of_their_own(tmp_path, turn):
    block = "model.layers.0.mlp.experts"
    shapes = {
        "model.embed_tokens.weight": (37, 12),
        f"{block}.gate_up_proj": (4, 24, 12),
        f"{block}.down_proj": (4, 12, 12),
    }
    three = steps(shapes)
    stored = [{n: t.mT if turn and t.ndim == 3 else t for n, t in one.items()} for one in three]
    found = geometry(*written(tmp_path, stored, {"model_type": "gpt_oss" if turn else "qwen3_moe"}))
    split = [
        {n: t for n, t in one.items() if t.ndim == 2}
        | {f"{n}.{e}": t[e] for n, t in one.items() if t.ndim == 3 for e in range(4)}
        for one in three
    ]
    assert found.shapes[f"{block}.3.gate_up_proj"] == (24, 12) and f"{block}.gate_up_proj" not in found.shapes
    assert set(found.overlap.module) == {"embed_tokens", "gate_up_proj", "down_proj"} and set(found.overlap.layer) == {
        -1,
        0,
    }
    assert energy(found) == pytest.approx(expected(*split))


@pytest.mark.parametrize("turn", [False, True])
def test_the_biases_of_experts_are_vectors_of_their_own(tmp_path, turn):
    block = "model.layers.0.mlp.experts"
    shapes = {"model.embed_tokens.weight": (37, 12), f"{block}.gate_up_proj": (4, 24, 12)}
    shapes |= {f"{block}.gate_up_proj_bias": (4, 24), f"{block}.down_proj_bias": (4, 12)}
    three = steps(shapes)
    stored = [{n: t.mT if turn and t.ndim == 3 else t for n, t in one.items()} for one in three]
    found = geometry(*written(tmp_path, stored, {"model_type": "gpt_oss"}))
    split = [
        {f"{n}.{e}": t[e] for n, t in one.items() if ".experts." in n for e in range(4)}
        | {n: t for n, t in one.items() if ".experts." not in n}
        for one in three
    ]
    assert found.shapes[f"{block}.3.down_proj_bias"] == (12,) and found.shapes[f"{block}.0.gate_up_proj"] == (24, 12)
    assert energy(found) == pytest.approx(expected(*split))


def test_a_vector_with_sides_of_one_is_a_vector(tmp_path):
    """RWKV's mixes are (1, 1, width): as a matrix of one row one would lie in any subspace."""
    mix = "rwkv.blocks.0.attention.time_mix_key"
    three = steps({"rwkv.embeddings.weight": (37, 12), mix: (1, 1, 12), "rwkv.blocks.0.conv.weight": (20, 1, 4)})
    opened = written(tmp_path, three)
    found = geometry(*opened)
    flat = [{n: t.flatten() if n == mix else t.reshape(len(t), -1) for n, t in one.items()} for one in three]
    assert found.shapes[mix] == (12,) and energy(found) == pytest.approx(expected(*flat))
    write_model(opened[2], lambda name: opened[2].tensor(name) / 2 if name == mix else None, tmp_path / "half")
    (file,) = (tmp_path / "half").glob("*.safetensors")
    assert torch.equal(load_file(file)[mix], three[2][mix] / 2)


@pytest.mark.parametrize("other", ["mtp.lm_head.weight", "second.lm_head.weight"])
def test_a_second_head_does_not_hide_the_first(tmp_path, other):
    three = steps(llama_shapes() | {other: (37, 12)})
    found = geometry(*written(tmp_path, three))
    assert {other, "lm_head.weight"} < set(found.shapes) and energy(found) == pytest.approx(expected(*three))


def test_a_head_for_further_tokens_in_one_model_alone_is_left_out(tmp_path):
    three, more = steps(llama_shapes()), {"mtp.lm_head.weight": torch.ones(37, 12)}
    seen = {name.replace("lm_head", "language_model.lm_head"): tensor for name, tensor in three[2].items()}
    found = geometry(*written(tmp_path, [*three[:2], seen | more]))
    assert energy(found) == pytest.approx(expected(*three)) and len(found.left_out) == 1


def test_the_layers_are_the_list_with_most_tensors(tmp_path):
    """Gemma 3n's projections share as long a prefix with its embedding; its routers are of language, despite a name."""
    router = "model.layers.0.altup.modality_router.weight"
    shapes = llama_shapes() | {f"model.altup_projections.{i}.weight": (12, 12) for i in range(3)} | {router: (4, 12)}
    three = steps(shapes)
    found = geometry(*written(tmp_path, three))
    assert router in found.shapes and not found.left_out and energy(found) == pytest.approx(expected(*three))


def test_kernels_are_out_by_rest_and_buffers_are_left_out(tmp_path):
    shapes = llama_shapes(layers=1) | {
        "model.layers.0.conv.conv1d.weight": (20, 1, 4),
        "model.layers.0.patch.proj.weight": (12, 3, 2, 2),
        "model.layers.0.altup.scale": (),
    }
    three = steps(shapes)
    flat = [
        {n: t.reshape(len(t), -1) if t.ndim > 2 else t.reshape(-1) if t.ndim == 0 else t for n, t in one.items()}
        for one in three
    ]
    masks = {
        "model.layers.0.self_attn.bias": torch.ones(1, 1, 8, 8),
        "model.layers.0.self_attn.masked_bias": torch.tensor(-1e4),
        "model.layers.0.self_attn.mask": torch.ones(8, 8, dtype=torch.bool),
        "model.rotary_emb.inv_freq": torch.ones(3),
        "model.position_ids": torch.arange(8),
    }
    found = geometry(*written(tmp_path, [three[0] | masks, three[1] | masks, three[2]]))
    assert energy(found) == pytest.approx(expected(*flat))
    assert found.shapes["model.layers.0.conv.conv1d.weight"] == (20, 4)
    assert any("5 tensors" in text and "buffers" in text for text in found.left_out)


def adapter(tmp_path, tensors: dict, **config):
    """A folder as PEFT saves one."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "base_model_name_or_path": "some/model"} | config
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {f"base_model.model.{n}": t.contiguous() for n, t in tensors.items()}, tmp_path / "adapter_model.safetensors"
    )
    return Checkpoint(tmp_path)


def factors(module: str, m: int, n: int, rank: int = 3, seed: int = 5) -> dict:
    """Tensors A and B of one module."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, n, generator=g), torch.randn(m, rank, generator=g)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, (2, 6 / 5)),
        ({"use_rslora": True}, (6 / math.sqrt(3), 6 / math.sqrt(5))),
        ({"rank_pattern": {"up_proj": 5}, "alpha_pattern": {"layers.1.mlp.up_proj": 20}}, (2, 4)),
    ],
)
def test_a_lora_adapter_is_its_low_rank_update(tmp_path, config, scales):
    base, aligned, _ = steps(llama_shapes())
    held = factors(Q, 12, 12) | factors(UP, 20, 12, 5, 6)
    checkpoints = [*written(tmp_path, [base, aligned]), adapter(tmp_path / "adapter", held, **config)]
    found = geometry(*checkpoints)
    tuned = {name: t.double() for name, t in aligned.items()}
    for module, scale in zip((Q, UP), scales, strict=True):
        tuned[f"{module}.weight"] += (
            scale * held[f"{module}.lora_B.weight"].double() @ held[f"{module}.lora_A.weight"].double()
        )
    assert energy(found) == pytest.approx(expected(base, aligned, tuned), rel=1e-9)
    assert found.total[f"tuned|{Q}.weight"] == pytest.approx(
        float((tuned[f"{Q}.weight"] - aligned[f"{Q}.weight"]).square().sum())
    )
    assert found.total["tuned|model.norm.weight"] == 0
    assert any("LoRA adapter, trained upon some/model" in text for text in found.remarks)
    whole = weight_geometry({"x": (checkpoints[2], checkpoints[1])}, ["x"], ["x"], ["top-k"], [0.5], 1, 0)
    assert whole.rank[f"x|{Q}.weight"] == 3 and whole.rank[f"x|{UP}.weight"] == 5  # exactly, without rounding


def test_dora_biases_and_modules_saved_whole(tmp_path):
    base, aligned, _ = steps(llama_shapes())
    held = factors(Q, 12, 12) | {f"{Q}.lora_magnitude_vector": torch.rand(12) + 1, f"{Q}.lora_B.bias": torch.rand(12)}
    held |= {"lm_head.weight": torch.randn(37, 12), "model.layers.0.input_layernorm.base_layer.weight": torch.rand(12)}
    held |= {
        "model.embed_tokens.lora_embedding_A": torch.randn(3, 37),
        "model.embed_tokens.lora_embedding_B": torch.randn(12, 3),
    }
    found = geometry(*written(tmp_path, [base, aligned]), adapter(tmp_path / "adapter", held, use_dora=True))
    tuned = {name: t.double() for name, t in aligned.items()}
    moved = tuned[f"{Q}.weight"] + 2 * (held[f"{Q}.lora_B.weight"].double() @ held[f"{Q}.lora_A.weight"].double())
    tuned[f"{Q}.weight"] = (
        held[f"{Q}.lora_magnitude_vector"].double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
    )
    tuned[f"{Q}.bias"] = tuned[f"{Q}.bias"] + 2 * held[f"{Q}.lora_B.bias"].double()
    tuned |= {"lm_head.weight": held["lm_head.weight"].double()}
    tuned["model.layers.0.input_layernorm.weight"] = held["model.layers.0.input_layernorm.base_layer.weight"].double()
    tuned["model.embed_tokens.weight"] += (
        2 * (held["model.embed_tokens.lora_embedding_B"] @ held["model.embed_tokens.lora_embedding_A"]).T
    )
    assert energy(found) == pytest.approx(expected(base, aligned, tuned), rel=1e-6)


def test_an_adapter_upon_weights_stored_the_other_way_round_and_upon_another_adapter(tmp_path):
    base, *_ = steps(GPT2)
    first, second = (factors("transformer.h.0.mlp.c_fc", 48, 12, seed=seed) for seed in (1, 2))
    start = write(tmp_path / "base", base, config={"model_type": "gpt2"})
    aligned, tuned = (
        adapter(tmp_path / "1", first, fan_in_fan_out=True),
        adapter(tmp_path / "2", second, fan_in_fan_out=True),
    )
    found = geometry(start, aligned, tuned)
    products = [list(one.values()) for one in (first, second)]
    da, dt = (2 * b.double() @ a.double() for a, b in products)
    u = torch.linalg.svd(da, full_matrices=False)[0][:, :3]
    assert energy(found) == pytest.approx(float((u.T @ dt).square().sum() / dt.square().sum()))


@pytest.mark.parametrize(
    ("held", "config", "words"),
    [
        ({}, {"peft_type": "LOHA"}, "is of the kind LOHA, of which only LORA is read"),
        ({}, {"init_lora_weights": "pissa_niter_4"}, "begun by pissa_niter_4, which also changes the weights"),
        ({}, {"layer_replication": [[0, 2]]}, "uses layer_replication, which is not read here"),
        (
            factors("model.layers.7.self_attn.q_proj", 12, 12),
            {},
            "changes model.layers.7.self_attn.q_proj.weight, which",
        ),
        (factors(Q, 12, 13), {}, "of shape .12, 13. by A .3, 13. and B .12, 3., and the one in"),
        ({"model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 12)}, {}, "which is not read here"),
    ],
)
def test_adapters_that_are_not_read_say_why(tmp_path, held, config, words):
    base, aligned, _ = steps(llama_shapes())
    with pytest.raises(StudyError, match=words) as error:
        geometry(
            *written(tmp_path, [base, aligned]), adapter(tmp_path / "adapter", held or factors(Q, 12, 12), **config)
        )
    assert "\n" not in str(error.value)


def test_an_adapter_beside_weights_and_an_unmerged_state_are_refused(tmp_path):
    base = steps(llama_shapes())[0]
    adapter(tmp_path / "both", factors(Q, 12, 12))
    with pytest.raises(StudyError, match=r"full weights \(model.safetensors\) and a LoRA adapter \(adapter_model.safe"):
        write(tmp_path / "both", base)
    state = {n.replace("q_proj.", "q_proj.base_layer."): t for n, t in base.items()} | factors(Q, 12, 12)
    with pytest.raises(StudyError, match="not merged into them"):
        write(tmp_path / "state", {f"base_model.model.{n}": t for n, t in state.items()})


def test_a_fine_tune_that_is_the_aligned_model_is_said(tmp_path):
    base, aligned, _ = steps(llama_shapes())
    found = geometry(*written(tmp_path, [base, aligned, aligned]))
    rows = energy_table(found, [FRACTION])
    assert set(rows.task) == {"tuned"} and rows.energy_kept.isna().all()
    assert found.rounding.set_index("update").energy["tuned"] == 0
    assert any("are those of" in text and "was an adapter merged" in text for text in found.remarks)


def test_heads_tied_and_untied(tmp_path):
    three = steps({n: s for n, s in llama_shapes().items() if n != "lm_head.weight"})
    embedding = "model.embed_tokens.weight"
    once = energy(geometry(*written(tmp_path / "once", three)))
    twice = [one | {"lm_head.weight": one[embedding].clone()} for one in three]
    assert energy(geometry(*written(tmp_path / "twice", twice))) == pytest.approx(once)
    assert energy(geometry(*written(tmp_path / "last", [*three[:2], twice[2]]))) == pytest.approx(once)
    tuned = three[2] | {"lm_head.weight": three[2][embedding] + low_rank((37, 12), 9)}
    for config in ({"tie_word_embeddings": True}, {"model_type": "gemma2"}):
        two = written(tmp_path / "tied", three[:2], config)
        found = geometry(*two, write(tmp_path / "untied", tuned, config={"tie_word_embeddings": False}))
        assert energy(found) == pytest.approx(expected(*twice[:2], tuned))
    two = written(tmp_path / "missing", three[:2], {"tie_word_embeddings": False})
    with pytest.raises(TensorMismatch, match="holds no output head"):
        geometry(*two, write(tmp_path / "untied", tuned, config={"tie_word_embeddings": False}))


@pytest.mark.parametrize("place", ["model.language_model.", "language_model.model."])
def test_the_language_part_of_a_model_that_sees(tmp_path, place):
    three = steps(llama_shapes())
    vision = {
        "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight": torch.ones(6, 6),
        "model.vision_tower.patch.weight": torch.ones(6, 3, 2, 2),
    }
    vision |= {"model.multi_modal_projector.linear.weight": torch.ones(12, 6)}
    wrapped = [
        {n.replace("model.", place) if "lm_head" not in n else n: t for n, t in one.items()} | vision for one in three
    ]
    found = geometry(*written(tmp_path / "all", wrapped, {"vision_config": {}, "text_config": {}}))
    assert energy(found) == pytest.approx(expected(*three)) and set(found.shapes) & set(vision) == set()
    assert any("3 tensors" in text and "vision or sound" in text for text in found.left_out)
    text_only = write(tmp_path / "text", three[2])
    mixed = geometry(*written(tmp_path / "all", wrapped[:2], {"vision_config": {}}), text_only)
    assert energy(mixed) == pytest.approx(expected(*three))


@pytest.mark.parametrize(
    "name", ["model.embed_tokens", "transformer.word_embeddings", "gpt_neox.embed_in", "model.tok_embeddings"]
)
def test_vocabularies_that_differ(tmp_path, name):
    place = name.rpartition(".")[0]
    shapes = {
        f"{name}.weight": (37, 12),
        f"{place}.h.0.up_proj.weight": (20, 12),
        "lm_head.weight": (37, 12),
        "lm_head.bias": (37,),
    }
    three = steps(shapes)
    longer = {n: torch.cat([t, torch.ones(2, *t.shape[1:])]) if len(t) == 37 else t for n, t in three[2].items()}
    opened = written(tmp_path, [*three[:2], longer])
    with pytest.raises(TensorMismatch, match="so ask for `vocabulary: intersection`"):
        geometry(*opened)
    found = geometry(*opened, vocabulary="intersection")
    assert energy(found) == pytest.approx(expected(*three))
    assert any("the last 2 rows" in text and str(tmp_path / "2") in text for text in found.left_out)


def test_what_only_some_models_have_is_left_out_and_said(tmp_path):
    three = steps(llama_shapes())
    further = {"mtp.fc.weight": torch.ones(12, 24), "mtp.layers.0.mlp.up_proj.weight": torch.ones(20, 12)}
    further |= {"model.layers.2.mlp.up_proj.weight": torch.ones(20, 12)}  # as a layer more, beyond num_hidden_layers
    value = {"v_head.summary.weight": torch.ones(1, 12), "v_head.summary.bias": torch.ones(1)}
    config = {"num_hidden_layers": 2}
    found = geometry(*written(tmp_path, [three[0] | further, three[1] | further, three[2] | value], config))
    assert energy(found) == pytest.approx(expected(*three))
    assert any("3 tensors" in t and "predicts further tokens" in t and str(tmp_path / "0") in t for t in found.left_out)
    assert any("2 tensors" in t and "value or classification head" in t for t in found.left_out)
    with pytest.raises(StudyError, match="is empty, .0,., as ZeRO-3 leaves"):
        write(tmp_path / "empty", three[0] | {"model.norm.weight": torch.zeros(0)})


def test_pickles_beside_weights_are_not_in_the_way(tmp_path):
    three = written(tmp_path, steps(llama_shapes()))
    for name in ("training_args.bin", "scheduler.pt", "pytorch_model.bin", "rng_state.pth"):
        (tmp_path / "2" / name).write_bytes(b"not a pickle: reading it would fail")
    assert energy(geometry(*three[:2], Checkpoint(tmp_path / "2"))) > 0


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_out_and_said(tmp_path, prefix):
    three = steps(llama_shapes())
    wrapped = {f"{prefix}{n}": t for n, t in three[2].items()}
    found = geometry(*written(tmp_path, [*three[:2], wrapped]))
    assert energy(found) == pytest.approx(expected(*three)) and f"{prefix.split('.')[0]}." in " ".join(found.remarks)


@pytest.mark.parametrize("blocks", [(2, 3), (1, 1), (20, 1)])
def test_eight_bit_floats_are_taken_back_with_their_scales(tmp_path, blocks):
    three = steps(llama_shapes())
    name = "model.layers.1.mlp.up_proj.weight"
    size = [-(-n // parts) for n, parts in zip((20, 12), blocks, strict=True)]
    packed, scale = three[2][name].to(torch.float8_e4m3fn), torch.rand(blocks) + 0.5
    spread = scale.repeat_interleave(size[0], 0)[:20].repeat_interleave(size[1], 1)[:, :12]
    quantised = three[2] | {name: packed, f"{name}_scale_inv": scale}
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": size}}
    found = geometry(*written(tmp_path, three[:2]), write(tmp_path / "q", quantised, config=config))
    assert energy(found) == pytest.approx(expected(*three[:2], three[2] | {name: packed.float() * spread}), rel=1e-6)
    assert any("quantised" in text for text in found.remarks)


PACKED = {
    "bitsandbytes": {f"{Q}.weight": torch.zeros(72, 1, dtype=torch.uint8), f"{Q}.weight.absmax": torch.ones(3)},
    "GPTQ": {f"{Q}.qweight": torch.zeros(2, 12, dtype=torch.int32), f"{Q}.scales": torch.ones(1, 12)},
    "MXFP4": {"model.layers.0.mlp.experts.down_proj_blocks": torch.zeros(4, 12, 1, 16, dtype=torch.uint8)},
}


@pytest.mark.parametrize("method", PACKED)
def test_packed_integers_are_called_quantised(tmp_path, method):
    tensors = steps(llama_shapes())[0]
    with pytest.raises(StudyError, match=rf"is quantised \(.*{method}.*give the model that was quantised"):
        write(tmp_path, tensors | PACKED[method])


def test_how_much_of_an_update_is_rounding(tmp_path):
    shapes = {"model.embed_tokens.weight": (64, 96), "model.layers.0.mlp.up_proj.weight": (96, 64)}
    base = {n: 0.1 * t for n, t in random_tensors(shapes, 0).items()}
    aligned = {n: t + 1e-3 * low_rank(t.shape, i) for i, (n, t) in enumerate(base.items())}
    tuned = {n: t + 0.2 * low_rank(t.shape, 50 + i) for i, (n, t) in enumerate(aligned.items())}
    half = [{n: t.bfloat16() for n, t in one.items()} for one in (aligned, tuned)]
    table = geometry(*written(tmp_path / "mixed", [base, *half])).rounding.set_index("update")
    noise = sum(float((t.bfloat16().double() - t.double()).square().sum()) for t in base.values())
    size = sum(float((half[0][n].double() - base[n].double()).square().sum()) for n in base)
    assert table.rounding["alignment"] == pytest.approx(noise / size) and 0.7 < table.rounding["alignment"] <= 1
    assert table.rounding["tuned"] < 0.01 and table.above["tuned"] == 3 and table.above["alignment"] <= 3
    assert list(table.loc["alignment", ["tuned_type", "start_type"]]) == ["bfloat16", "float32"]
    upcast = [base, *({n: t.float() for n, t in one.items()} for one in half)]
    same = geometry(*written(tmp_path / "upcast", upcast)).rounding.set_index("update")
    assert same.rounding.to_dict() == pytest.approx(
        table.rounding.to_dict()
    )  # what is stored as float32 may be coarser
    exact = geometry(
        *written(tmp_path / "exact", [half[0], {n: t + 1e-4 for n, t in upcast[1].items()}, tuned])
    ).rounding
    assert exact.rounding[0] == 0  # trained on in float32 from the rounded start


def test_edits_of_a_live_model_whose_weights_are_stored_the_other_way_round(tmp_path):
    model = torch.nn.Module()
    model.c_attn = torch.nn.Module()
    model.c_attn.weight, model.c_attn.bias = torch.nn.Parameter(torch.randn(4, 12)), torch.nn.Parameter(torch.randn(12))
    start = {name: t.detach().clone() for name, t in model.state_dict().items()}
    tuned = {name: t + low_rank(t.shape, i) for i, (name, t) in enumerate(start.items())}
    aligned, task = write(tmp_path / "a", start), write(tmp_path / "t", tuned)
    with LiveUpdate(model, aligned, task) as live:
        live.scale(1.0)
        assert torch.allclose(model.c_attn.weight, tuned["c_attn.weight"])
        bases = {"c_attn.weight": torch.linalg.qr(torch.randn(12, 3, dtype=torch.float64))[0]}
        for _ in live.sweep(bases, [0.9], "parallel"):
            moved = (model.c_attn.weight - start["c_attn.weight"]).T.double()
            asked = (tuned["c_attn.weight"] - start["c_attn.weight"]).T.double()
            assert torch.allclose(moved, bases["c_attn.weight"] @ bases["c_attn.weight"].T @ asked, atol=1e-6)
    assert torch.equal(model.c_attn.weight, start["c_attn.weight"])


def test_experts_below_one_another_and_experts_in_eight_bits(tmp_path):
    block = "transformer.blocks.0.ffn.experts.mlp"
    three = steps({"transformer.wte.weight": (37, 12), f"{block}.w1": (3, 20, 12), f"{block}.w2": (3, 20, 12)})
    stored = [{n: t.flatten(0, 1) if t.ndim == 3 else t for n, t in one.items()} for one in three]
    config = {"model_type": "dbrx", "ffn_config": {"moe_num_experts": 3}}
    found = geometry(*written(tmp_path / "dbrx", stored, config))
    parts = {f"{block}.w1": lambda t: t, f"{block}.w2": lambda t: t.T}
    split = [
        {f"{n}.{e}": parts[n](t[e]) for n, t in one.items() if n in parts for e in range(3)}
        | {n: t for n, t in one.items() if n not in parts}
        for one in three
    ]
    assert energy(found) == pytest.approx(expected(*split)) and found.shapes[f"{block}.2.w2"] == (12, 20)
    name = "model.layers.0.mlp.experts.down_proj"
    packed, scale = torch.randn(3, 12, 20).to(torch.float8_e4m3fn), torch.rand(3, 2, 3)
    config = {"hidden_size": 12, "quantization_config": {"weight_block_size": [8, 8]}}
    opened = write(tmp_path / "q", {name: packed, f"{name}_scale_inv": scale}, config=config)
    spread = scale.repeat_interleave(8, 1)[:, :12].repeat_interleave(8, 2)[:, :, :20]
    for e in range(3):
        whole = opened.tensor(f"model.layers.0.mlp.experts.{e}.down_proj")
        assert torch.equal(whole, packed[e].float() * spread[e])
        assert torch.equal(
            opened.read(f"model.layers.0.mlp.experts.{e}.down_proj", (slice(3, 9), slice(7, 20))), whole[3:9, 7:20]
        )
