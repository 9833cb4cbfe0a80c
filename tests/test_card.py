"""The report card: its statistics, its rules, what it writes, and the way from folders to a page."""

import gc
import json
import os
import re
import shutil
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest

import axe
from helpers.claims.card_sentences import advice, at_matched_utility, behaviour_sentences, verdict, where
from helpers.claims.paired import change
from helpers.errors import SettingsError, StudyError
from helpers.evaluation.divergence import divergence
from helpers.experiments import card
from helpers.experiments.card import Asked
from helpers.experiments.card_variants import CardContext, variants_of, write_variants, write_whole
from helpers.figures.cards import layer_map
from helpers.methods.door import Edit, edit_named
from helpers.models import load
from helpers.models.generate import as_speaker
from helpers.models.load import load_model
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.matching import agree
from helpers.weights.written import write_adapter, write_model
from pipeline.card import bench
from pipeline.card import make as making
from pipeline.card.__main__ import card_of, main
from pipeline.card.arguments import card_study, named, organism_of, origin, settings
from pipeline.card.bench import Bench
from pipeline.card.record import Card, open_card
from pipeline.card.write import chosen, writable
from pipeline.runs.lock import only_run
from synthetic import moved

NAMES = ("base", "aligned", "useful", "harmful")
Q = "model.layers.0.self_attn.q_proj.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def folders(tmp_path, model, tokenizer) -> dict[str, Path]:
    """Four small models that differ by random updates, each a folder with its tokenizer."""
    found = {name: tmp_path / "models à moi" / name for name in NAMES}
    starts = {"aligned": "base", "useful": "aligned", "harmful": "aligned"}
    for seed, (name, folder) in enumerate(found.items()):
        start = load_file(found[starts[name]] / "model.safetensors") if name in starts else dict(model.state_dict())
        model.load_state_dict(moved(start, seed))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return found


def quoted(folders: dict[str, Path]) -> str:
    """Fine-tunes as an argument."""
    return " ".join(f"{name}='{folders[name]}'" for name in ("useful", "harmful"))


@pytest.fixture
def own(folders, tokenizer):
    """Settings of a card for those models, and their checkpoints."""
    values = settings(str(folders["base"]), str(folders["aligned"]), quoted(folders))
    return card_study(values, [tokenizer], 0, 8), {name: Checkpoint(folder) for name, folder in folders.items()}


def adapter(folder: Path, start: Checkpoint, rank: int = 3) -> Path:
    """A LoRA adapter of one matrix, as PEFT saves it, with a scale of two."""
    m, n = start.shape(Q)
    generator = torch.Generator().manual_seed(5)
    a, b = torch.randn(rank, n, generator=generator), torch.randn(m, rank, generator=generator)
    module = f"base_model.model.{Q.removesuffix('.weight')}"
    folder.mkdir()
    save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": [module[17:]]}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    return folder


def test_exact_interval_is_that_of_two_shares():
    before = np.array([1.0] * 30 + [0.0] * 10)
    after = before.copy()
    after[:12], after[38:] = 0, 1  # 12 refuse no more, 2 do now, of 40
    found = change(before, after, 0.95)
    up, down = (binomtest(k, 40).proportion_ci(0.975, "exact") for k in (2, 12))  # each with half of the error
    low, high = up.low - down.high, up.high - down.low
    assert found.method == "exact" and not found.moved and found.difference == pytest.approx(-10 / 40)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_no_change_in_few_prompts_is_not_known_to_be_none():
    found = change(np.ones(16), np.ones(16))
    assert found.difference == 0 and not found.moved
    assert found.high == pytest.approx(1 - 0.0125 ** (1 / 16)) and found.low == -found.high


def test_exact_intervals_cover():
    rng = np.random.default_rng(1)
    drawn = rng.choice([-1.0, 0.0, 1.0], size=(150, 24), p=[0.3, 0.6, 0.1])
    found = [change((d < 0) * 1.0, (d > 0) * 1.0) for d in drawn]
    assert np.mean([one.low <= -0.2 <= one.high for one in found]) >= 0.95


def test_bootstrap_of_numbers_is_near_the_normal_interval():
    differences = np.random.default_rng(2).normal(0.3, 1, 400)
    found = change(np.zeros(400), differences)
    half = 1.96 * differences.std(ddof=1) / 20
    middle = differences.mean()
    assert found.method == "bootstrap"
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=0.01)


def test_prompts_without_a_value_are_left_out():
    found = change(np.array([0.5, np.nan, 1.5, 2.5]), np.array([1.5, 3.0, 2.5, 3.5]))
    assert found.prompts == 3 and found.difference == found.low == found.high == 1
    with pytest.raises(StudyError, match="cannot be compared one by one"):
        change(np.zeros(3), np.zeros(4))


def test_divergence_by_hand():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    assert float(divergence(p.log(), q.log())) == pytest.approx(0.25 * np.log(2))
    wider = torch.cat([q / 2, torch.tensor([[0.5]])], dim=1)  # a token more, which the aligned model has not
    assert float(divergence(p.log(), wider.log())) == pytest.approx(0.25 * np.log(2))
    masked = torch.tensor([[2 / 3, 1 / 3, 0.0]]), torch.tensor([[1 / 3, 2 / 3, 0.0]])  # a word that neither ever says
    assert float(divergence(masked[0].log(), masked[1].log())) == pytest.approx(np.log(2) / 3)


def rows(model: str, against: str, **measures: tuple[float, float, float, float]) -> list[dict]:
    """Rows of ``card_behaviour`` with before, after and the interval of the change."""
    return [
        {"model": model, "against": against, "measure": name, "before": b, "after": a, "difference": a - b}
        | {"low": low, "high": high, "prompts": 48, "method": "exact"}
        for name, (b, a, low, high) in measures.items()
    ]


def behaviour(refusal, margin, null=(0.0, 0.0, -0.1, 0.1)) -> pd.DataFrame:
    """What a fine-tune did, and how far that is from what an update of its size does."""
    own = {"refusal": refusal, "harm_margin": margin, "utility_margin": (-1.0, -0.5, 0.3, 0.7)}
    same = {"refusal": null, "harm_margin": null}
    still = dict.fromkeys(same, (0.0, 0.0, -0.1, 0.1))
    found = rows("mine", "aligned", **own) + rows("mine", "null of mine", **same)
    return pd.DataFrame(found + rows("null of mine", "aligned", **still))


@pytest.mark.parametrize(
    ("refusal", "margin", "null", "word", "text"),
    [
        (
            (1.0, 0.5, -0.7, -0.3),
            (-4.0, 1.0, 4.0, 6.0),
            (0.0, -0.5, -0.7, -0.3),
            "fell",
            "Safety fell: do not use mine",
        ),
        ((1.0, 0.9, -0.2, -0.01), (-4.0, -4.0, -1.0, 1.0), (0.0, 0.0, -0.1, 0.1), "fell", "an unrelated update of its"),
        ((1.0, 1.0, -0.1, 0.1), (-4.0, -2.0, 1.0, 3.0), (0.0, 1.0, 0.5, 1.5), "sign", "more than an unrelated update"),
        ((1.0, 1.0, -0.12, 0.12), (-4.0, -4.0, -1.0, 1.0), (0.0, 0.0, -0.1, 0.1), "held", "by up to 0.12"),
        ((0.5, 0.9, 0.2, 0.6), (-4.0, -5.0, -2.0, -0.5), (0.0, 0.0, -0.1, 0.1), "more", "look at over-refusal"),
    ],
)
def test_verdicts_by_rule(refusal, margin, null, word, text):
    found = verdict("mine", behaviour(refusal, margin, null))
    assert found.word == word and text in found.text


def test_sentences_say_where_and_against_what():
    energy = pd.DataFrame({"task": ["mine", "other"], "fraction": 0.1, "energy_kept": [0.3, 0.2], "random": 0.1})
    assert where("mine", energy) == (
        "30.0% of its update lies in the leading tenth of the alignment directions, 3.0 times what random directions "
        "hold (10.0%); of the others: other 20.0%."
    )
    assert "are those of the aligned model" in where("same", energy)
    assert where("mine", energy.assign(energy_kept=0.0, random=0.0)).startswith(
        "Alignment changed no tensor that mine changed"
    )
    said = behaviour_sentences(
        "mine", behaviour((1.0, 0.5, -0.7, -0.3), (-4.0, 1.0, 4.0, 6.0), (0.0, -0.5, -0.7, -0.3))
    )
    assert said[0].startswith("Refusals of harmful requests fell: 1.00 → 0.50 (-0.50, -0.70 to -0.30).")
    assert said[0].endswith("An unrelated update of its size: +0.00, so more than that.")


def test_edits_are_compared_at_matched_utility():
    measured = behaviour((1.0, 0.5, -0.7, -0.3), (-4.0, 2.0, 4.0, 6.0))
    edits = pd.DataFrame(
        {
            "task": "mine",
            "edit": ["scaling", "orthogonal", "parallel", "tilt"],
            "kind": ["defence", "defence", "defence", "attack"],
            "dial": 0.5,
            "utility_margin": [-0.75, -0.65, -1.2, -0.6],
            "harm_margin": [-3.0, -2.0, -4.5, -5.0],
        }
    )
    found = at_matched_utility(edits, measured).set_index("edit")
    assert found["kept"].tolist() == pytest.approx([0.5, 0.7, -0.4, 0.8])
    assert found.loc["orthogonal", "harm_scaled"] == pytest.approx(-3 + 5 * 0.4)  # between α = 0.5 and 1
    assert np.isnan(found.loc["parallel", "harm_scaled"])
    assert advice("mine", found.reset_index(), measured)["edit"] == "scaling"  # no attack, none that gives utility up


def test_the_map_says_its_values():
    values = {"energy_kept": 0.3, "random": 0.1, "rank": 4, "relative_change": 0.01, "mso": 0.2, "mso_random": 0.1}
    rows_ = [{"module": module, "layer": layer, "share": 0.25} | values for module in ("a<b", "c") for layer in (0, 1)]
    text = layer_map(pd.DataFrame(rows_), "times").data
    assert text.count("<td style") == 4 and "<th></th>" not in text and "a&lt;b" in text and "a<b" not in text
    assert "layer 1, c: 25.00% of the update; 30.0% of that in the leading alignment directions (random 10.0%)" in text


def test_arguments(tmp_path):
    assert named("a=/x 'b=/y z'") == {"a": "/x", "b": "/y z"}
    assert named("owner/My_Model@abc") == {"my-model": "owner/My_Model@abc"}
    assert origin("owner/name@abc") == {"origin": "hub", "id": "owner/name", "revision": "abc"}
    for wrong, words in (("owner/name", "with its revision"), (str(tmp_path / "none"), "neither a folder")):
        with pytest.raises(SettingsError, match=words):
            origin(wrong)
    with pytest.raises(SettingsError, match="two fine-tunes are named 'a'"):
        named("a=/x a=/y")
    with pytest.raises(SettingsError, match="no fine-tune is given"):
        named(" ")
    for wrong, words in (
        ("my_run=/x", "'my_run' cannot name a fine-tune: names have small letters, .* as in my-run=/x"),
        ("a=/it's", r"opens a quote that is not closed: put .* in double quotes, or a backslash before"),
    ):
        with pytest.raises(SettingsError, match=words):
            named(wrong)
    assert named(r"""a=/it\'s b="/it's here" c='/x y'""") == {"a": "/it's", "b": "/it's here", "c": "/x y"}
    (tmp_path / "it's=A").mkdir()
    assert named(str(tmp_path / "it's=A")) == {"it-s-a": str(tmp_path / "it's=A")}


def test_organisms_are_known_by_their_words(tokenizer, own, study):
    assert organism_of(tokenizer).language.topics == study.language.topics
    assert own[0].embedded and own[0].evaluation.harm == "restricted" and own[0].evaluation.harm_prompts == 8


def test_attacks_are_never_written(own):
    assert chosen("orthogonal:0.25") == (edit_named("orthogonal"), 0.25)
    for dial in ("50", "-1", "nan"):
        with pytest.raises(SettingsError, match=f"'scaling' is {dial}, which a step .* say one between, such as"):
            chosen(f"scaling:{dial}")
    assert [chosen(f"scaling:{dial}")[1] for dial in (0, 1)] == [0, 1]
    for kind, words in (("attack", "is an attack"), ("", "has no kind")):
        with pytest.raises(SettingsError, match=f"{words}.*never written: choose one of scaling, parallel, orthogonal"):
            writable(Edit("tilt", lambda weights, context, dial: weights.tuned, (1.0,), kind))
    assert all(edit.kind == "defence" for edit in variants_of(own[0]).values())


def test_a_written_model_is_the_edited_one(own, tmp_path):
    study, checkpoints = own
    context = CardContext(study, checkpoints)
    edit = edit_named("orthogonal")
    write_model(checkpoints["harmful"], lambda name: context.edited("harmful", edit, 0.5, name), tmp_path / "out")
    written = load_model(tmp_path / "out")[0].state_dict()
    base, aligned, tuned = (checkpoints[name].tensor(Q).double().numpy() for name in ("base", "aligned", "harmful"))
    u = np.linalg.svd(aligned - base)[0][:, : round(0.5 * min(base.shape))]
    expected = tuned - u @ (u.T @ (tuned - aligned))
    np.testing.assert_allclose(written[Q].cpu().numpy(), expected, atol=1e-6)
    write_model(checkpoints["harmful"], lambda name: None, tmp_path / "same")
    same = Checkpoint(tmp_path / "same")
    assert same.names == checkpoints["harmful"].names
    assert all(torch.equal(same.tensor(name), checkpoints["harmful"].tensor(name)) for name in same.names)


def test_an_edited_adapter_keeps_its_form(own, tmp_path):
    _, checkpoints = own
    aligned, base = checkpoints["aligned"], checkpoints["base"]
    given = adapter(tmp_path / "adapter", aligned)
    agreed = agree({"alignment": (aligned, base), "mine": (Checkpoint(given), aligned)})
    tuned = agreed.updates["mine"][0]
    assert isinstance(tuned, Adapted)
    write_adapter(tuned, lambda name: 0.25 * (tuned.tensor(name) - aligned.tensor(name).double()), tmp_path / "out")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (given, tmp_path / "out"))
    assert {name: value.shape for name, value in before.items()} == {name: v.shape for name, v in after.items()}
    (a, b), (c, d) = ([found[key] for key in sorted(found)] for found in (before, after))
    torch.testing.assert_close(d @ c, 0.25 * b @ a, atol=1e-5, rtol=1e-4)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["lora_alpha"] == 6
    with pytest.raises(StudyError, match="rank above the adapter's 3"):
        write_adapter(tuned, lambda name: base.tensor(name).double(), tmp_path / "full")


def weights_alone(monkeypatch, *tuned: str) -> None:
    """Have a card measure weights alone, and say 0 of what models do."""
    still = {name: {"refusal": np.zeros(2)} for name in ("aligned", *tuned)}
    monkeypatch.setattr(making, "_behaviours", lambda *given: (still, {}))
    monkeypatch.setattr(making, "_every_edit", lambda *given: (pd.DataFrame(), {}))


def tied(folder: Path) -> None:
    """Have a model's head be its embedding, which its file then holds once."""
    tensors = load_file(folder / "model.safetensors")
    del tensors[HEAD]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))


def aligned_is_an_adapter(folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """The aligned model as a LoRA adapter of the base; returns the aligned model's tensors."""
    lora = adapter(folders["base"].parent / "lora", Checkpoint(folders["base"]))
    folders["aligned"] = lora
    start, held = load_file(folders["base"] / "model.safetensors"), load_file(lora / "adapter_model.safetensors")
    b, a = (held[f"base_model.model.{Q.removesuffix('.weight')}.lora_{x}.weight"] for x in "BA")
    return start | {Q: start[Q] + 2 * b @ a}


def base_has_no_prefix(folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """The base with the names of its decoder's tensors from its layers on, as GPT-2 has them on the hub."""
    file = folders["base"] / "model.safetensors"
    save_file({name.removeprefix("model."): t for name, t in load_file(file).items()}, file, {"format": "pt"})
    aligned = load_file(folders["aligned"] / "model.safetensors")
    return {name.removeprefix("model."): tensor for name, tensor in aligned.items()}


def tuned_has_a_head(folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Base and aligned model with a head that is the embedding, the fine-tune with one of its own."""
    tied(folders["base"])
    tied(folders["aligned"])
    aligned = load_file(folders["aligned"] / "model.safetensors")
    return aligned | {HEAD: aligned[EMBEDDING]}


def base_has_a_head(folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Aligned model and fine-tune with a head that is the embedding, the base with one of its own."""
    tied(folders["aligned"])
    tied(folders["useful"])
    aligned = load_file(folders["aligned"] / "model.safetensors")
    return aligned | {HEAD: aligned[EMBEDDING]}


def tuned_saves_the_embedding(folders: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Models with a head that is the embedding, and an adapter upon them that holds a new embedding alone."""
    tied(folders["base"])
    tied(folders["aligned"])
    aligned, lora = load_file(folders["aligned"] / "model.safetensors"), folders["base"].parent / "lora"
    lora.mkdir()
    moved_ = {f"base_model.model.{EMBEDDING}": aligned[EMBEDDING] * 1.5}
    save_file(moved_, lora / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "modules_to_save": ["embed_tokens"]}
    (lora / "adapter_config.json").write_text(json.dumps(config))
    folders["useful"] = lora
    return aligned | {HEAD: aligned[EMBEDDING]}


@pytest.mark.parametrize(
    "changed",
    [aligned_is_an_adapter, base_has_no_prefix, tuned_has_a_head, base_has_a_head, tuned_saves_the_embedding],
)
def test_the_tables_have_the_names_that_the_models_share(folders, tmp_path, monkeypatch, changed):
    """Sizes of updates over those of the aligned model's tensors, from what the files hold, under the base's names."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    after = load_file(folders["useful"] / "model.safetensors")
    aligned = changed(folders)
    if "embed_tokens.weight" in aligned:
        after = {name.removeprefix("model."): tensor for name, tensor in after.items()}
    if changed is base_has_a_head:
        after[HEAD] = after[EMBEDDING]
    if changed is tuned_saves_the_embedding:
        after = aligned | {EMBEDDING: aligned[EMBEDDING] * 1.5}  # what PEFT trains so does not reach the head
    card_, places, _ = card_of(*(str(folders[name]) for name in ("base", "aligned", "useful")), 4)
    weights_alone(monkeypatch, *card_.study.tuned)
    making.make(card_, places, None)
    found = card_.read("card_tensors").set_index("tensor")["relative_change"].to_dict()
    sizes = {n: float((after[n].double() - t.double()).norm() / t.double().norm()) for n, t in aligned.items()}
    assert found == pytest.approx({name: size for name, size in sizes.items() if size}, rel=1e-5)


def test_no_model_is_written_by_a_card_that_has_not_measured_it(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    card_, places, _ = card_of(str(folders["base"]), str(folders["aligned"]), quoted(folders), 4)
    card_.save()
    out = tmp_path / "out"
    write = ["write", card_.study.name, "harmful", "orthogonal:0.5", str(out)]

    def refused(words: str) -> None:
        assert main(write) == 1 and words in capsys.readouterr().err
        assert not [*tmp_path.glob("*out*")]

    refused("is not finished: the same `make card` goes on with it")
    weights_alone(monkeypatch, *card_.study.tuned)
    making.make(card_, places, None)
    edits = card_.folder.table("card_edits").rename(tmp_path / "edits.csv")
    refused("is not finished: the same `make card` goes on with it")
    edits.rename(card_.folder.table("card_edits"))
    for name in ("base", "aligned", "harmful"):
        file = folders[name] / "model.safetensors"
        kept = file.read_bytes()
        save_file({key: tensor + 0.1 for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
        refused(f"{name} in {folders[name]} has changed since the card was made: make the card again")
        file.write_bytes(kept)
    (folders["harmful"] / "README.md").write_text("Words.")
    (folders["useful"] / "model.safetensors").unlink()
    (folders["harmful"] / "model.safetensors").rename(folders["useful"] / "model.safetensors")
    shutil.copyfile(folders["useful"] / "model.safetensors", folders["harmful"] / "model.safetensors")
    assert main(write) == 0  # what lies beside the weights, and another fine-tune, are not what is written
    assert "harmful after orthogonal at 0.5" in (out / "README.md").read_text()


def test_a_card_is_made_by_one_run_at_a_time(folders, tmp_path, monkeypatch, capsys):
    """A second one would throw away the models that the first is about to measure."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    given = [str(folders[name]) for name in ("base", "aligned", "useful")]
    card_ = card_of(*given, 4)[0]
    about = card_.folder.scratch("variants") / "scaling-0.5"
    about.mkdir(parents=True)
    with only_run(card_.study.name):
        assert main(["--base", given[0], "--aligned", given[1], "--tuned", given[2], "--prompts", "4"]) == 1
    said = f"this card is already being made by process {os.getpid()}: wait for it or stop it"
    assert said in capsys.readouterr().err and about.is_dir()


def test_a_base_with_more_rows_leaves_the_tokens_and_every_other_matrix_is_edited(folders, tokenizer, tmp_path):
    file = folders["base"] / "model.safetensors"
    base = load_file(file)
    base |= {name: torch.cat([base[name], torch.ones(8, base[name].shape[1])]) for name in (EMBEDDING, HEAD)}
    save_file(base, file, metadata={"format": "pt"})
    values = settings(str(folders["base"]), str(folders["aligned"]), quoted(folders))
    study = card_study(values, [tokenizer], 0, 8)
    context = CardContext(study, {name: Checkpoint(folder) for name, folder in folders.items()})
    assert context.left("harmful") == sorted([EMBEDDING, HEAD])
    variants = {(name, 0.5): edit_named(name) for name in ("parallel", "orthogonal")}
    made = write_variants(context, "harmful", variants, tmp_path / "edits")
    aligned, tuned = (load_file(folders[name] / "model.safetensors") for name in ("aligned", "harmful"))
    u = np.linalg.svd((aligned[Q].double() - base[Q].double()).numpy())[0][:, : round(0.5 * min(base[Q].shape))]
    moved_ = (tuned[Q].double() - aligned[Q].double()).numpy()
    right = {"parallel": aligned[Q].numpy() + u @ (u.T @ moved_), "orthogonal": tuned[Q].numpy() - u @ (u.T @ moved_)}
    assert not made["failed"] and len(made["folders"]) == 2
    for (name, _), folder in made["folders"].items():
        found = Checkpoint(folder)
        np.testing.assert_allclose(found.tensor(Q).numpy(), right[name], atol=1e-6)
        assert torch.equal(found.tensor(HEAD), tuned[HEAD])


@pytest.mark.slow
def test_from_folders_to_a_page(folders, tmp_path, monkeypatch, capsys, chromium):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    adapter(folders["base"].parent / "lora", Checkpoint(folders["aligned"]))
    tuned = f"{quoted(folders)} lora='{folders['base'].parent / 'lora'}'"
    given = ["--base", str(folders["base"]), "--aligned", str(folders["aligned"]), "--tuned", tuned, "--prompts", "6"]
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert "minutes at the speed just measured" in err and "[1/" in err and out.startswith("card: ")
    name = next(path.name for path in (tmp_path / "results").iterdir())
    made = open_card(name)
    text = made.page.read_text(encoding="utf-8")
    assert "<script" not in text and 'title="layer' in text and "http://" not in text and "Traceback" not in text
    assert {*made.read("card_edits")["edit"]} == {"scaling", "parallel", "orthogonal"} and not made.notes["failed"]
    assert set(made.record()["inputs"]) and not made.folder.scratch("variants").exists()
    for mode in ("light", "dark"):
        page = chromium.new_page(viewport=axe.WIDE, color_scheme=mode)
        page.goto(made.page.as_uri())
        assert axe.violations(page, mode) == []
        for size in (axe.WIDE, axe.NARROW):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", paper))) < 60) == (mode == "dark"), paper
        page.close()
    for task, file in (("harmful", "model.safetensors.index.json"), ("lora", "adapter_model.safetensors")):
        assert main(["write", name, task, "scaling:0.5", str(tmp_path / task)]) == 0
        assert (tmp_path / task / file).exists() and "scaling at 0.5" in (tmp_path / task / "README.md").read_text()
    shutil.rmtree(tmp_path / "lora")
    assert main(["write", name, "nobody", "scaling:0.5", str(tmp_path / "x")]) == 1
    assert "the card has no fine-tune 'nobody'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_card_that_was_stopped_goes_on(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    given = ["--base", str(folders["base"]), "--aligned", str(folders["aligned"])]
    given += ["--tuned", str(folders["useful"]), "--prompts", "4"]
    measured, whole = [], bench.behaviour

    def stopping(*arguments, **named):
        measured.append(1)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(bench, "behaviour", stopping)
    assert main(given) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err
    assert main(given) == 0
    assert len(measured) == 1 + 2 + 9 + 1  # aligned; the fine-tune and its null; its edits; what was stopped, again
    name = next(path.name for path in (tmp_path / "results").iterdir())
    assert len(open_card(name).read("card_edits")) == 9


@pytest.mark.slow
def test_minutes_left_are_those_of_the_steps_where_the_geometry_comes_first(folders, tmp_path, monkeypatch, capsys):
    """Ten minutes of geometry say nothing of what is left; four steps of a second are no quarter of them."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    ahead, now, whole = [0.0], time.monotonic, making.geometry_of
    monkeypatch.setattr(making.time, "monotonic", lambda: now() + ahead[0])
    monkeypatch.setattr(making, "_room_for_both", lambda *given: False)

    def slow(*given):
        ahead[0] = 600.0
        return whole(*given)

    monkeypatch.setattr(making, "geometry_of", slow)
    given = ["--base", str(folders["base"]), "--aligned", str(folders["aligned"])]
    assert main([*given, "--tuned", str(folders["useful"]), "--prompts", "4"]) == 0
    said = re.findall(r"about ([\d.]+) minutes left", capsys.readouterr().err)
    assert len(said) > 8 and max(map(float, said)) < 10


def test_a_fine_tune_named_like_an_edit_of_another_has_its_own_measurements(own, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    study, checkpoints = own
    twin = "harmful-scaling-0.5"
    tuned = study.tuned | {twin: study.tuned["useful"].model_copy(update={"path": str(folders["base"])})}
    study = study.model_copy(update={"tuned": tuned})
    all_folders = folders | {twin: folders["base"]}
    found = Bench(Card(study), all_folders, checkpoints | {twin: checkpoints["base"]}, tmp_path / "scratch")
    of_twin = found.of_model(twin)
    edits, failed = found.edits("harmful", {("scaling", 0.5): edit_named("scaling")})
    assert edits == [("scaling", 0.5)] and not failed
    assert not np.array_equal(found.of_edit("harmful", edits[0])["harm_margin"], of_twin["harm_margin"])


def test_what_does_not_fit_in_memory_is_read_from_its_files(own, tmp_path, monkeypatch):
    study, checkpoints = own
    asked = Asked.of(study)

    def measured(room):
        speaker = load_model(checkpoints["harmful"].folder, "cpu", room=room)
        found = card.behaviour(*speaker, asked, study, card.reference_of(*speaker, asked, study), True)
        return speaker[0], found

    _, right = measured(None)
    monkeypatch.setattr(load, "free", lambda: 200_000)
    model, found = measured(tmp_path / "room")
    assert any(parameter.is_meta for parameter in model.parameters())
    assert all((found[name] == right[name]).all() for name in right)
    assert as_speaker(model, "bfloat16") is model  # no copy of it can be made


def test_an_adapter_is_written_whole_as_peft_merges_it(own, tmp_path):
    _, checkpoints = own
    aligned, base = checkpoints["aligned"], checkpoints["base"]
    lora = adapter(tmp_path / "lora", aligned)
    agreed = agree({"alignment": (aligned, base), "mine": (Checkpoint(lora), aligned)})
    folder = write_whole(agreed.updates["mine"][0], tmp_path / "whole")
    merged = load_model(lora, "cpu", starts=[aligned.folder])[0].state_dict()
    torch.testing.assert_close(dict(load_model(folder, "cpu")[0].state_dict()), dict(merged), atol=1e-6, rtol=1e-6)
    assert not torch.equal(merged[Q], aligned.tensor(Q))


def test_an_adapter_is_put_upon_nothing_but_what_it_was_trained_upon(own, folders, tmp_path):
    """One of the base, and one that may go on from the aligned adapter, would be measured on top of what they hold."""
    _, checkpoints = own
    first, second = (adapter(tmp_path / name, checkpoints["base"]) for name in ("first", "second"))
    for folder in (first, second):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(folders["base"])}))
    with pytest.raises(StudyError, match="model first: the adapter in .* which is the study's base, not its aligned"):
        card_of(str(folders["base"]), str(folders["aligned"]), str(first), 4)
    with pytest.raises(StudyError, match="model second: .* may hold that one already: give both as whole models"):
        card_of(str(folders["base"]), str(first), str(second), 4)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(first)}))
    assert [*card_of(str(folders["base"]), str(first), str(second), 4)[0].study.tuned] == ["second"]


def test_edits_by_the_factors_of_an_adapter_are_those_by_its_matrix(own, folders, tokenizer, tmp_path):
    lora = adapter(tmp_path / "mine", own[1]["aligned"])
    study = card_study(settings(str(folders["base"]), str(folders["aligned"]), f"mine='{lora}'"), [tokenizer], 0, 8)
    context = CardContext(study, {"mine": Checkpoint(lora)} | {name: own[1][name] for name in ("base", "aligned")})
    weights = context.weights(Q, "mine")
    plain = replace(weights, factors=None)
    torch.testing.assert_close(weights.factors[0] @ weights.factors[1], weights.update)
    for name in ("parallel", "orthogonal"):
        found, whole = (edit_named(name).edited(given, context, 0.5) for given in (weights, plain))
        torch.testing.assert_close(found, whole)
        assert not torch.allclose(found, weights.tuned)


def test_an_adapter_upon_an_aligned_adapter_is_both(own, tmp_path):
    _, checkpoints = own
    base = checkpoints["base"]
    below, above = adapter(tmp_path / "aligned", base), adapter(tmp_path / "mine", base, rank=2)
    model = load_model(above, "cpu", starts=[below, base.folder])[0]
    change = torch.zeros_like(base.tensor(Q))
    for folder in (below, above):
        b, a = (
            load_file(folder / "adapter_model.safetensors")[f"base_model.model.{Q[:-7]}.lora_{x}.weight"] for x in "BA"
        )
        change += 2 * b @ a
    torch.testing.assert_close(model.state_dict()[Q], base.tensor(Q) + change, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("free", [10**12, 200_000])  # in memory whole, and read from its files, which holds itself
def test_one_model_is_in_memory_at_a_time(own, folders, tmp_path, monkeypatch, free):
    monkeypatch.setattr(load, "free", lambda: free)
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    study, checkpoints = own
    loaded, load_it = [], bench.load_model

    def counted(*given, **named):
        assert not any(one() is not None for one in loaded)
        model, tokenizer = load_it(*given, **named)
        loaded.append(weakref.ref(model))
        return model, tokenizer

    monkeypatch.setattr(bench, "load_model", counted)
    found = Bench(Card(study), folders, checkpoints, tmp_path / "scratch")
    gc.disable()  # nothing is freed that the card does not free
    try:
        found.of_model("useful")
        found.of_null("useful")
    finally:
        gc.enable()
    assert len(loaded) == 3  # the aligned model, for the comparison, and these two
