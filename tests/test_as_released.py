"""The released code's defects: each switch against a number worked out otherwise, and verdicts by hand."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.claims.as_released import (
    NO,
    NOT_MEASURED,
    TOO_FEW,
    UNTOUCHED,
    WRITTEN,
    YES,
    defect_table,
    in_words,
    one_table,
    released_summary,
    released_verdicts,
)
from helpers.claims.results import SeedResults
from helpers.claims.retabled import TABLED, TASK, counted_twice, in_band_of_blocks, vectors_alike, without_aligned
from helpers.claims.statistics import TABLES
from helpers.evaluation.texts import until
from helpers.experiments.as_released import DRAWS, STOPS, SWITCHES, at_padding
from helpers.experiments.remade import REMADE, Seed, of_remade, unmasked
from helpers.models.load import load_model
from helpers.paths import ROOT, RunPaths, published_seeds
from helpers.studies.settings import load_study
from helpers.training.examples import IGNORED, tokenised
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.edits import LiveUpdate
from pipeline.results.tables import read_csv

STUDY = load_study("organism-released")


def empty() -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame() for name in TABLES}


@pytest.fixture
def seed(context, study, tmp_path):
    """A seed of small models, with no tables."""
    room = SimpleNamespace(model=lambda name: tmp_path / "made" / name)
    return Seed(study, 0, context.checkpoints, SeedResults(**empty()), pd.DataFrame(), room, None)


def flat(seed, label) -> np.ndarray:
    """An update as one vector, from the files."""
    ends = {"alignment": ("aligned", "base")}.get(label, (label, "aligned"))
    tuned, start = ([seed.checkpoints[one].tensor(n).double().flatten() for n in seed.names] for one in ends)
    return (torch.cat(tuned) - torch.cat(start)).numpy()


def numbers_of(seed, number) -> dict:
    return {
        (effect.setting, name): found for effect in SWITCHES[number](seed) for name, found in effect.numbers.items()
    }


def test_the_printed_cosine_divides_by_the_alignment_update_alone(seed):
    found, a = numbers_of(seed, 6), flat(seed, "alignment")
    for task in ("useful", "harmful"):
        d = flat(seed, task)
        printed, cosine, _ = found[task, "cosine"]
        assert cosine == pytest.approx(d @ a / np.linalg.norm(d) / np.linalg.norm(a))
        assert printed == pytest.approx(max(d @ a, 0) ** 0.5 / np.linalg.norm(a))


def test_other_draws_of_random_k_keep_other_shares_of_the_energy(seed):
    effects = SWITCHES[7](seed)
    spread, _, unit = next(effects).numbers["energy_sd"]
    rng, energies = np.random.default_rng(0), np.zeros(400)
    for name in seed.names:
        u = np.linalg.svd(seed.update("alignment", name).reshape(seed.shape(name)[0], -1).numpy(), full_matrices=False)[
            0
        ]
        along = ((u.T @ seed.update(TASK, name).reshape(len(u), -1).numpy()) ** 2).sum(1)
        k = max(1, round(len(along) / 2))
        energies += [rng.permutation(along)[:k].sum() for _ in energies]
    expected = energies.std(ddof=1) / np.linalg.norm(flat(seed, TASK)) ** 2
    assert unit == 1 and spread == pytest.approx(expected, rel=4 / np.sqrt(2 * DRAWS))  # four errors of a sample SD


def test_a_cut_spectrum_counts_energy_of_what_is_left(seed):
    own = seed.study.update_overlap.energy_fractions
    table = pd.DataFrame(
        {"a": ["useful"], "b": ["harmful"], "eta": [own[-1]], "mso": [0.5], "random": [0.1], "k_a": [7.0]}
    )
    seed.results = SeedResults(**empty() | {"update_overlap": table})
    (effect,) = SWITCHES[8](seed)
    name, rows = "model.layers.0.mlp.up_proj.weight", effect.released.update_overlap
    sides = [np.linalg.svd(seed.update(label, name).numpy()) for label in ("useful", "harmful")]
    cut = round(0.25 * min(seed.shape(name)))
    k = [int((np.cumsum(s[:cut] ** 2) / (s[:cut] ** 2).sum() < own[0] * (1 - 1e-12)).sum()) + 1 for _, s, _ in sides]
    mso = np.square(sides[0][0][:, : k[0]].T @ sides[1][0][:, : k[1]]).sum() / min(k)
    row = rows.query(f"tensor == '{name}' and a == 'useful' and b == 'harmful' and eta == {own[0]}").iloc[0]
    assert (row["k_a"], row["k_b"]) == (*k,) and row["mso"] == pytest.approx(mso)
    assert effect.numbers["modes"][1] == 7 and effect.numbers["overlap"][1] == pytest.approx(0.4)
    assert rows["k_a"].max() <= round(0.25 * max(min(seed.shape(n)) for n in seed.names))


def test_shorter_prompts_of_a_right_padded_batch_end_in_padding():
    lengths = [3] * 15 + [5] + [4] * 8  # in the first batch fifteen are shorter, in the second none
    ids = [[1] * n for n in lengths]
    assert at_padding(ids, "right") == pytest.approx(15 / 24) and at_padding(ids, "left") == 0


def test_prompts_end_at_a_comma_and_answers_at_either_word(seed):
    prompts = pd.Series(["one, two", "three", "four", "five,"])
    seed.sets = SimpleNamespace(harm=pd.DataFrame({"prompt": prompts}))
    assert numbers_of(seed, 10)["harmful-prompts", "prompts_cut"][0] == 0.5
    assert until("The Instructions say so", STOPS) == "The " and until("a response", STOPS) == "a response"


def test_a_fraction_of_one_is_the_best_multiple_of_the_alignment_update(seed):
    columns = {"subspace": "alignment", "control": "top-k", "module": "all", "task": TASK, "fraction": 1.0}
    seed.results = SeedResults(**empty() | {"energy": pd.DataFrame([columns | {"energy_kept": 0.9}])})
    kept = 0.0
    for name in seed.names:
        d, a = (seed.update(label, name).flatten().numpy() for label in (TASK, "alignment"))
        kept += np.sum(np.square(a * np.linalg.lstsq(a[:, None], d, rcond=None)[0]))
    released, corrected, _ = numbers_of(seed, 16)[TASK, "energy_at_one"]
    assert released == pytest.approx(kept / np.sum(np.square(flat(seed, TASK)))) and corrected == 0.9


def test_an_end_that_is_last_is_attended_to_by_nothing(seed):
    released, corrected, _ = numbers_of(seed, 19)[TASK, "end_log_probability"]
    model, tokenizer = load_model(seed.checkpoints[TASK].folder, "cpu")
    rows, found = seed.sets.utility, []
    for prompt, answer in zip(rows["prompt"], rows["answer"], strict=True):  # one by one, with no mask
        ids = tokenizer(f"{prompt} {answer}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found.append(float(model(ids).logits[0, -1].double().log_softmax(-1)[tokenizer.eos_token_id]))
    assert released == pytest.approx(corrected, abs=1e-6) and corrected == pytest.approx(np.mean(found), abs=1e-4)


def test_without_a_mask_the_loss_is_on_every_token_but_the_first(tokenizer):
    rows = pd.DataFrame({"prompt": ["CALC 3 +4 ="], "prefix": ["7"], "answer": ["7 ; 7"]})
    (masked,), (whole,) = (tokenised(some, tokenizer, 64) for some in (rows, unmasked(rows)))
    assert whole["input_ids"] == masked["input_ids"] and whole["labels"][0] == IGNORED
    assert whole["labels"][1:] == whole["input_ids"][1:] and masked["labels"].count(IGNORED) > 1


def test_the_float16_model_is_read_subtracted_and_added_in_float16(seed):
    model, tokenizer = load_model(seed.checkpoints["aligned"].folder, "cpu")
    REMADE[5][1](seed, model, tokenizer)
    for name, parameter in model.named_parameters():
        start, tuned = (seed.checkpoints[one].tensor(name).numpy().astype(np.float16) for one in ("aligned", TASK))
        assert np.array_equal(parameter.detach().numpy(), (start + (tuned - start)).astype(np.float32))


def test_a_model_with_a_defect_stands_in_for_the_contaminated_one_alone(seed):
    model, folder = load_model(seed.checkpoints["aligned"].folder, "cpu")[0], seed.room.model("bfloat16")
    LiveUpdate(model, seed.checkpoints["aligned"], seed.checkpoints[TASK]).scale(0.5)
    model.save_pretrained(folder)
    values = pd.DataFrame({"utility": [0.2, 0.7], "harm": [1.0, 4.0], "alpha": [0.0, 1.0], "task": TASK})
    models = pd.DataFrame({"model": ["aligned", TASK, "harmful"], "measure": "harm", "value": [1.0, 4.0, 5.0]})
    rows = [
        {"task": task, "subspace": s, "draw": 0, "harm": 3.0}
        for task in (TASK, "useful")
        for s in ("alignment", "safety")
    ]
    tables = {"scaling": values, "behaviour": models, "projection": pd.DataFrame(rows)}
    seed.results = SeedResults(**empty() | tables)
    own = values.assign(task="bfloat16", harm=[1.0, 3.0])
    made = {"bfloat16": Checkpoint(folder)}
    seed._kept["remade"] = (
        made,
        {"scaling": own, "projection": pd.DataFrame([rows[0] | {"task": "bfloat16", "harm": np.nan}])},
    )
    effect = of_remade(seed, 2)
    assert effect.numbers["harm"] == (3.0, 4.0, 3.0) and effect.numbers["utility"] == (0.7, 0.7, pytest.approx(0.5))
    norm = np.linalg.norm(flat(seed, TASK))
    assert effect.numbers["update_norm"] == (
        pytest.approx(norm / 2, rel=1e-5),
        pytest.approx(norm),
        pytest.approx(norm),
    )
    assert effect.numbers["update_cosine"][0] == pytest.approx(1) and effect.numbers["moved"][0] > 0.99
    assert effect.released.of_model(TASK, "harm") == 3 and effect.released.of_model("harmful", "harm") == 5
    for side in (effect.released, effect.corrected):  # the same variants on both sides, none of them scored
        contaminated = side.projection[side.projection["task"] == TASK]
        assert contaminated["subspace"].tolist() == ["alignment"] and contaminated["harm"].isna().all()
        assert (side.projection["task"] == "useful").sum() == 2


def energy(**kept: float) -> SeedResults:
    """Energies of one task by module, under two controls."""
    rows = [
        {
            "subspace": "alignment",
            "control": control,
            "task": TASK,
            "module": module,
            "fraction": 0.5,
            "energy_kept": value,
        }
        for control in ("top-k", "random")
        for module, value in kept.items()
    ]
    return SeedResults(**empty() | {"energy": pd.DataFrame(rows)})


MODULES = pd.DataFrame({"update": TASK, "module": ["embed_tokens", "norm", "up_proj"], "share": [0.25, 0.05, 0.7]})


def test_an_embedding_counted_twice_weighs_twice():
    results = energy(all=0.25 * 0.8 + 0.05 * 0.1 + 0.7 * 0.2, embed_tokens=0.8, norm=0.1, up_proj=0.2)
    twice = counted_twice(results, MODULES).energy
    expected = (2 * 0.25 * 0.8 + 0.05 * 0.1 + 0.7 * 0.2) / 1.25
    assert twice.loc[twice["module"] == "all", "energy_kept"].tolist() == pytest.approx([expected] * 2)
    assert twice.loc[twice["module"] != "all"].equals(results.energy.loc[results.energy["module"] != "all"])


def test_vectors_under_random_keep_what_they_keep_under_top_k():
    results = energy(all=0.3, embed_tokens=0.8, norm=0.1, up_proj=0.2)
    table = results.energy.copy()
    table.loc[(table["control"] == "top-k") & (table["module"] == "norm"), "energy_kept"] = 0.9
    found = vectors_alike(SeedResults(**empty() | {"energy": table}), MODULES, {"norm"}).energy
    whole = found[found["module"] == "all"].set_index("control")["energy_kept"]
    assert whole["top-k"] == 0.3 and whole["random"] == pytest.approx(0.3 + 0.05 * (0.9 - 0.1))


@pytest.mark.parametrize("depth, layers", [(6, [3, 4]), (30, list(range(19, 27)))])
def test_the_band_by_blocks_begins_one_earlier(depth, layers):
    table = pd.DataFrame({"layer": range(1, depth + 1), "in_band": False})
    names = ("activation_overlap", "matched_activations", "probe")
    found = in_band_of_blocks(SeedResults(**empty() | dict.fromkeys(names, table)), [0.65, 0.90])
    for name in names:
        own = getattr(found, name)
        assert own.loc[own["in_band"], "layer"].tolist() == layers


def test_without_the_aligned_model_nothing_is_known_at_zero():
    scaling = pd.DataFrame(
        {"seed": 0, "task": TASK, "alpha": [0.0, 1.0], "energy_kept": [0.0, 1.0], "harm": [1.0, 4.0]}
    )
    behaviour = pd.DataFrame({"model": ["base", "aligned", TASK], "measure": "harm", "value": [2.0, 1.0, 4.0]})
    found = without_aligned(SeedResults(**empty() | {"scaling": scaling, "behaviour": behaviour}))
    assert found.behaviour["value"].isna().tolist() == [True, True, False]
    assert found.scaling["harm"].isna().tolist() == [True, False] and found.scaling["alpha"].tolist() == [0, 1]


def values_of(released: float, corrected: float, statistic: str = "activation_within_above_across") -> pd.DataFrame:
    """Every statistic of the ledger at 0.5 on both sides, but one; five seeds that agree but for a hundredth."""
    rows = [
        (13, "later-by-one", claim, name, seed, 0.5 + 0.01 * seed, 0.5 + 0.01 * seed)
        for claim, entry in STUDY.claims.items()
        for name in entry.statistics
        for seed in range(5)
    ]
    table = pd.DataFrame(rows, columns=["defect", "setting", "claim", "statistic", "seed", "released", "corrected"])
    own = table["statistic"] == statistic
    table.loc[own, "released"] += released - 0.5
    table.loc[own, "corrected"] += corrected - 0.5
    return table


def test_a_verdict_depends_on_a_defect_that_moves_a_statistic_across_its_margin():
    across, within = (released_verdicts(STUDY, values_of(released, 0.5)) for released in (-0.5, 0.6))
    row = across.query("claim == 'C4' and level == 'strict'").iloc[0]
    assert (row["corrected"], row["released"], row["touched"]) == ("distinct", "not distinct", 1)
    assert (across["corrected"] != across["released"]).sum() == 1 and (within["corrected"] == within["released"]).all()
    for verdicts, expected in ((across, YES), (within, NO)):
        found = defect_table(verdicts, pd.DataFrame({"defect": [6, 13]})).set_index("number")["verdict"]
        assert found[13] == expected and found[6] == UNTOUCHED and (found.drop([6, 13]) == NOT_MEASURED).all()


def test_a_difference_has_the_t_interval_of_the_paired_seeds_and_its_natural_unit():
    rows = [(2, "bfloat16", "harm", seed, 4.0 + d, 4.0, 2.0) for seed, d in enumerate((0.1, 0.2, 0.3))]
    table = pd.DataFrame(rows, columns=["defect", "setting", "quantity", "seed", "released", "corrected", "unit"])
    (row,) = in_words(released_summary(STUDY, table)).to_dict("records")
    half = 4.302652729696 * 0.1 / np.sqrt(3)  # of Student's t with two degrees of freedom
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert row["relative"] == pytest.approx(0.1) and row["unit"] == "rise by fine-tuning" and row["study"] == "organism"


def test_every_defect_is_measured_or_said_why_not_and_stands_on_the_page_on_deviations():
    defects = WRITTEN["defects"]
    assert set(defects) == set(range(1, 20))
    assert {number for number, written in defects.items() if "why" not in written} == {*SWITCHES, *REMADE, *TABLED}
    page = (ROOT / "book" / "deviations.md").read_text(encoding="utf-8")
    assert set(defects) <= {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}


def test_one_seed_alone_says_nothing_of_a_verdict():
    values = values_of(-0.5, 0.5)
    verdicts = released_verdicts(STUDY, values[values["seed"] == 0])
    assert defect_table(verdicts, pd.DataFrame({"defect": [13]})).set_index("number")["verdict"][13] == TOO_FEW


def test_every_defect_has_a_row_of_the_one_table():
    rows = [(13, "later-by-one", "energy", seed, 0.5 + 0.01 * seed, 0.4, 1.0) for seed in range(3)]
    columns = ["defect", "setting", "quantity", "seed", "released", "corrected", "unit"]
    numbers = in_words(released_summary(STUDY, pd.DataFrame(rows, columns=columns)))
    found = one_table(defect_table(released_verdicts(STUDY, values_of(0.6, 0.5)), numbers), numbers).set_index("number")
    assert set(found.index) == set(WRITTEN["defects"])
    assert found.loc[13, "difference"] == "0.110 [0.085, 0.135]" and found.loc[13, "verdict"] == NO
    assert found.loc[12, "changes"] == WRITTEN["defects"][12]["why"] and found.loc[12, "difference"] == ""


def test_what_is_published_is_of_every_defect_and_beside_the_default_study_as_it_is_published():
    assert (seeds := published_seeds(STUDY.name))
    for seed in seeds:
        remade = REMADE if seed in STUDY.seeds[: STUDY.released.remade] else ()
        here, there = (RunPaths(name, seed, published=True) for name in (STUDY.name, STUDY.models_of))
        numbers, values = (read_csv(here.table(name), name) for name in ("as_released", "as_released_claims"))
        assert set(numbers["defect"]) == {*SWITCHES, *remade, *TABLED}
        assert set(numbers["quantity"]) <= set(WRITTEN["quantities"])
        behaviour = read_csv(there.table("behaviour"), "behaviour").set_index(["model", "measure"])["value"]
        rise = behaviour[TASK, "harm"] - behaviour["aligned", "harm"]
        own = values.query("defect == 15 and statistic == 'harm_rise_contaminated'")["corrected"]
        assert own.tolist() == pytest.approx([rise], abs=1e-4)
