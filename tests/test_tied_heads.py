"""An output head that is the embedding: under adapters that train one of the two, when written, in files twice."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.errors import StudyError
from helpers.experiments.card_variants import CardContext, write_null, write_variants, write_whole
from helpers.methods.door import edit_named
from helpers.models.load import load_model
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint
from pipeline.card.arguments import card_study, settings

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SCALED = {("scaling", dial): edit_named("scaling") for dial in (0.5, 1.0)}
WORDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def save(tmp_path, tokenizer):
    """Writes a small model with its tokenizer: ``save(name, seeds)`` is moved once by each seed."""

    def saved(name: str, seeds: tuple[int, ...], tied: bool = True, dtype=torch.float32) -> Path:
        size = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, **size)).to(dtype)
        if not tied:
            model.lm_head.weight.data.copy_(model.model.embed_tokens.weight)  # before it moves away
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.data.add_((0.01 * torch.randn(parameter.shape, generator=generator)).to(dtype))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return saved


def context_of(tokenizer, base: Path, aligned: Path, mine: Path) -> CardContext:
    """A card's context for one fine-tune, *mine*."""
    study = card_study(settings(str(base), str(aligned), f"mine='{mine}'"), [tokenizer], 0, 8)
    return CardContext(study, {"base": Checkpoint(base), "aligned": Checkpoint(aligned), "mine": Checkpoint(mine)})


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(folder, "cpu")[0](WORDS).logits


@pytest.mark.parametrize(
    ("low_rank", "saved", "changed"),
    [
        (["q_proj"], ["lm_head"], HEAD),
        (["q_proj", "lm_head"], None, HEAD),
        (["q_proj", "embed_tokens"], None, EMBEDDING),
        (["q_proj"], ["embed_tokens"], EMBEDDING),
    ],
)
def test_an_adapter_changes_the_one_that_it_trains(save, tokenizer, tmp_path, low_rank, saved, changed):
    """What PEFT computes without merging is what is loaded, written whole, and edited by nothing (scaling by 1)."""
    base, aligned, folder = save("base", ()), save("aligned", (1,)), tmp_path / "adapter"
    start = load_model(aligned, "cpu")[0]
    model = get_peft_model(start, LoraConfig(r=2, lora_alpha=4, target_modules=low_rank, modules_to_save=saved))
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    with torch.no_grad():
        right = model.eval()(WORDS).logits
    context = context_of(tokenizer, base, aligned, folder)
    assert {name for name in context.moved["mine"] if "layers" not in name} == {changed}
    with torch.no_grad():
        loaded = load_model(folder, "cpu", starts=[aligned])[0](WORDS).logits
    whole = write_whole(context.checkpoints["mine"], tmp_path / "whole")
    written = write_variants(context, "mine", SCALED, tmp_path / "edits")["folders"]["scaling", 1.0]
    for found in (loaded, logits(whole), logits(written)):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_files_repeat_is_edited_with_its_embedding(save, tokenizer, tmp_path, tied):
    folders = {name: save(name, seeds) for name, seeds in (("base", ()), ("aligned", (1,)), ("mine", (1, 2)))}
    for folder in folders.values():
        tensors = load_file(folder / "model.safetensors")
        save_file(tensors | {HEAD: tensors[EMBEDDING].clone()}, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": tied}))
    before, after = (load_file(folders[name] / "model.safetensors")[HEAD] for name in ("aligned", "mine"))
    context = context_of(tokenizer, **folders)
    half = write_variants(context, "mine", SCALED, tmp_path / "edits")["folders"]["scaling", 0.5]
    write_null(context, "mine", tmp_path / "null")
    for folder in (half, tmp_path / "null"):
        (file,) = folder.glob("*.safetensors")
        tensors = load_file(file)
        assert torch.equal(tensors[HEAD], tensors[EMBEDDING]) and not torch.equal(tensors[HEAD], before)
        assert torch.equal(load_model(folder, "cpu")[0].lm_head.weight, tensors[HEAD])
    torch.testing.assert_close(load_model(half, "cpu")[0].lm_head.weight.data, (before + after) / 2)


def energy(folder: Path, aligned: Path) -> float:
    """‖W − WA‖² of a written model, its head counted where it is one of its own."""
    found, start = load_model(folder, "cpu")[0].state_dict(), load_model(aligned, "cpu")[0].state_dict()
    names = [n for n in start if n != HEAD or not torch.equal(found[HEAD], found[EMBEDDING])]
    return sum(float((found[n].double() - start[n].double()).square().sum()) for n in names)


def test_the_null_of_a_fine_tune_with_a_head_of_its_own_is_as_large(save, tokenizer, tmp_path):
    base, aligned, mine = save("base", ()), save("aligned", (1,)), save("mine", (1, 2), tied=False)
    context = context_of(tokenizer, base, aligned, mine)
    write_null(context, "mine", tmp_path / "null")
    own = energy(mine, aligned)
    assert energy(tmp_path / "null", aligned) == pytest.approx(own, rel=1e-6)
    half = write_variants(context, "mine", SCALED, tmp_path / "edits")["folders"]["scaling", 0.5]
    assert energy(half, aligned) == pytest.approx(own / 4, rel=1e-5)


def test_the_null_of_few_units_in_the_last_place_is_as_large(save, tokenizer, tmp_path):
    """Of an update in bfloat16 that moved one number in a hundred, rounding would leave its null 0.43 of the energy."""
    half = {"dtype": torch.bfloat16}
    base, aligned, mine = save("base", (), **half), save("aligned", (1,), **half), save("mine", (1,), **half)
    tensors, generator = load_file(mine / "model.safetensors"), torch.Generator().manual_seed(2)
    for tensor in tensors.values():
        units = tensor.view(torch.int16)
        units += (torch.rand(units.shape, generator=generator) < 0.01).to(torch.int16)  # the next larger number
    save_file(tensors, mine / "model.safetensors", {"format": "pt"})
    context = context_of(tokenizer, base, aligned, mine)
    write_null(context, "mine", tmp_path / "null")
    assert energy(tmp_path / "null", aligned) == pytest.approx(energy(mine, aligned), rel=1e-4)


def test_the_null_has_all_rows_where_the_base_has_fewer(save, tokenizer, tmp_path):
    base, aligned, mine = save("base", ()), save("aligned", (1,)), save("mine", (1, 2))
    fewer = load_model(base, "cpu")[0]
    fewer.resize_token_embeddings(len(tokenizer) - 1)
    fewer.save_pretrained(base)
    context = context_of(tokenizer, base, aligned, mine)
    write_null(context, "mine", tmp_path / "null")
    assert energy(tmp_path / "null", aligned) == pytest.approx(energy(mine, aligned), rel=1e-6)


def test_an_edit_of_an_adapter_upon_sixteen_bits_is_measured_as_it_would_be_written(save, tokenizer, tmp_path):
    base, aligned = (save(name, seeds, dtype=torch.bfloat16) for name, seeds in (("base", ()), ("aligned", (1,))))
    model = get_peft_model(load_model(aligned, "cpu")[0], LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.01)
    model.save_pretrained(tmp_path / "adapter")
    context = context_of(tokenizer, base, aligned, tmp_path / "adapter")
    half = Checkpoint(write_variants(context, "mine", SCALED, tmp_path / "edits")["folders"]["scaling", 0.5])
    tuned, start = context.checkpoints["mine"], context.checkpoints["aligned"]
    assert isinstance(tuned, Adapted) and len(tuned.low_rank) == 2
    for name in tuned.low_rank:
        change = half.tensor(name).double() - start.tensor(name).double()
        torch.testing.assert_close(change, tuned.difference(start, name) / 2, atol=1e-8, rtol=1e-3)


def lora_with_ties(start: Path, folder: Path, **settings) -> torch.Tensor:
    """Save an adapter of PEFT that keeps tied what is tied; returns what it computes before any merging."""
    config = LoraConfig(r=2, lora_alpha=4, ensure_weight_tying=True, **settings)
    model = get_peft_model(load_model(start, "cpu")[0], config).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))
        model.save_pretrained(folder)
        return model(WORDS).logits


@pytest.mark.parametrize("low_rank", ["embed_tokens", "lm_head"])
def test_a_change_that_an_adapter_holds_twice_is_refused_with_what_helps(save, tokenizer, tmp_path, low_rank):
    """LoRA of what is embedding and head at once: PEFT's own merge adds it twice, so that is no remedy."""
    base, aligned = save("base", ()), save("aligned", (1,))
    lora_with_ties(aligned, tmp_path / "twice", target_modules=["q_proj", low_rank])
    words = "holds its change of an embedding that is the output head too twice .* modules_to_save=.'embed_tokens'."
    for read in (
        lambda: load_model(tmp_path / "twice", "cpu", starts=[aligned]),
        lambda: context_of(tokenizer, base, aligned, tmp_path / "twice"),
    ):
        with pytest.raises(StudyError, match=words):
            read()
    remedy = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    right = lora_with_ties(aligned, tmp_path / "whole", **remedy)
    with torch.no_grad():
        found = load_model(tmp_path / "whole", "cpu", starts=[aligned])[0](WORDS).logits
    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)
    context = context_of(tokenizer, base, aligned, tmp_path / "whole")
    assert HEAD not in context.names and EMBEDDING in context.moved["mine"]


def test_two_changes_of_an_embedding_and_a_head_of_its_own_are_read(save, tokenizer, tmp_path):
    base, aligned = save("base", (), tied=False), save("aligned", (1,), tied=False)
    lora_with_ties(aligned, tmp_path / "two", target_modules=["embed_tokens", "lm_head"])
    assert context_of(tokenizer, base, aligned, tmp_path / "two").moved["mine"] == {EMBEDDING, HEAD}
