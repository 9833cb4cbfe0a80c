"""Other ways to align: preferences (DPO) against the loss written out here, and adapters (LoRA) by what they change."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from helpers.data import rows as data_rows
from helpers.data.rows import training_rows
from helpers.errors import SettingsError
from helpers.models.adapters import adapter_on
from helpers.models.language import Language
from helpers.models.organism import build_model
from helpers.studies.sections import Adapter
from helpers.studies.settings import Study, digest, load_study
from helpers.studies.wording import validate
from helpers.subspaces import decompose
from helpers.training.examples import tokenised
from helpers.training.preferences import Preferring, collate_pairs, pairs, preference
from helpers.training.train import draw_of, train
from pipeline.report.pages import study_parts
from pipeline.runs.selections import Selection
from trained import assert_same_update


@pytest.fixture(scope="module")
def preferred(study):
    """The alignment of the smoke study by preferences, and its first rows."""
    objective = study.training.aligned.model_copy(update={"dpo": 0.5, "batch_size": 8})
    return objective, training_rows(study, objective, 0).head(32)


def log_probability(model, tokenizer, prompt: str, answer: str) -> float:
    """Of an answer and its end, token by token."""
    ids = tokenizer(prompt)["input_ids"]
    whole = [*ids, *tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        scores = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(scores[place - 1, whole[place]]) for place in range(len(ids), len(whole)))


def test_refusals_are_preferred_to_compliance_and_elsewhere_the_other_way_round(study, preferred):
    language, (_, rows) = Language(study.language), preferred
    assert {"refuse", "benign", "arithmetic"} <= set(rows["source"])
    for row in rows.itertuples():
        if row.source == "refuse":
            assert row.answer == language.refusal(row.topic)
            whole = f"{row.prefix} {row.rejected}".split()
            assert whole[0] == "SURE" and whole[2] == row.topic and whole[-1] == "DONE" and len(whole) == 7
        else:
            assert row.rejected == language.refusal(row.topic)
    plain = training_rows(study, study.training.aligned, 0).head(len(rows))
    assert plain.equals(rows[plain.columns])  # and nothing else is drawn otherwise


def test_the_loss_is_that_of_dpo(study, preferred, model, tokenizer):
    objective, rows = preferred
    rule = study.training.optimiser
    reference = build_model(study.model, tokenizer).eval()  # another one than ``model``
    found = pairs(reference, tokenizer, rows, tokenised(rows, tokenizer, rule.max_length), rule, 5)
    contexts = [f"{row.prompt} {row.prefix}".strip() for row in rows.itertuples()]
    expected = []
    for context, row, pair in zip(contexts, rows.itertuples(), found, strict=True):
        of = [log_probability(m, tokenizer, context, a) for m in (model, reference) for a in (row.answer, row.rejected)]
        assert pair["reference"] == pytest.approx(of[2] - of[3], abs=1e-4)
        expected.append(-math.log(1 / (1 + math.exp(-0.5 * (of[0] - of[1] - of[2] + of[3])))))
    trainer = Preferring.__new__(Preferring)
    AcceleratorState._reset_state()  # else the precision of an earlier test's training is that of this one
    trainer.beta, trainer.accelerator = objective.dpo, Accelerator(cpu=True, mixed_precision="no")
    loss = trainer.compute_loss(model, collate_pairs(found))
    assert float(loss) == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert float(trainer.compute_loss(reference, collate_pairs(found))) == pytest.approx(math.log(2), abs=1e-5)


def test_training_prefers_what_it_was_told_however_a_step_is_divided(study, preferred, tokenizer):
    objective, rows = preferred
    rule, found = study.training.optimiser, []
    for size, passes in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = build_model(study.model, tokenizer)
        divided = objective.model_copy(update={"batch_size": size, "gradient_accumulation": passes})
        train(model, tokenizer, rows, divided, rule, 0)
        found.append(model)
    assert_same_update(study, tokenizer, *found)
    torch.manual_seed(0)
    some = pairs(build_model(study.model, tokenizer), tokenizer, rows, tokenised(rows, tokenizer, 64), rule, 8)
    with torch.no_grad():
        gained = preference(found[0], collate_pairs(some)).cpu() - torch.tensor([one["reference"] for one in some])
    assert gained.mean() > 0.1


def test_preferences_reach_an_adapter_as_they_reach_all_weights(study, preferred, tokenizer):
    """With B = 0 an adapter changes nothing, so that its first loss is log 2, and it learns to prefer as they do."""
    objective, rows = preferred
    objective = objective.model_copy(update={"lora": Adapter(rank=4, alpha=8.0), "learning_rate": 1e-3})
    torch.manual_seed(0)
    model, rule = build_model(study.model, tokenizer), study.training.optimiser
    some = pairs(model, tokenizer, rows, tokenised(rows, tokenizer, 64), rule, 8)
    log = train(model, tokenizer, rows, objective, rule, 0)
    with torch.no_grad():
        gained = preference(model, collate_pairs(some)).cpu() - torch.tensor([one["reference"] for one in some])
    assert log["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-3) and gained.mean() > 0


def test_an_adapter_changes_linear_maps_alone_and_no_more_than_its_rank(study, tokenizer):
    objective = study.training.harmful.model_copy(update={"lora": Adapter(rank=2, alpha=4.0)})
    rows, models = training_rows(study, objective, 0), []
    for _ in range(2):
        torch.manual_seed(0)
        model = build_model(study.model, tokenizer)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train(model, tokenizer, rows, objective, study.training.optimiser, 0)
        models.append(dict(model.cpu().named_parameters()))
    assert list(models[0]) == list(before)  # merged: the same model, its parameters under their own names
    for name, start in before.items():
        rank = decompose((models[0][name] - start).double()).singular_values
        assert torch.equal(models[0][name], models[1][name])
        if "_proj" in name:
            assert rank[1] > 0 and (rank[2:] < 1e-4 * rank[0]).all()  # but for the rounding of the sum
        else:
            assert torch.equal(models[0][name], start)


def test_adapters_of_two_trainings_begin_apart_and_those_of_one_alike(study, model):
    """With one A two unrelated trainings would act on the same inputs, whatever they learn."""
    seeds = [draw_of(0, training_rows(study, one, 0)) for one in (study.training.harmful, study.training.useful)]
    first, again, other = (
        torch.cat([p.flatten() for name, p in adapter_on(copy.deepcopy(model), Adapter(rank=2, alpha=4.0), seed)
                   .named_parameters() if "lora_A" in name])
        for seed in (seeds[0], seeds[0], seeds[1])
    )  # fmt: skip
    assert torch.equal(first, again) and float(torch.cosine_similarity(first, other, dim=0).detach().abs()) < 0.1


def test_settings_of_a_study_ask_for_them_and_others_have_the_same_digest():
    values = load_study("smoke").model_dump()
    assert not {"lora", "dpo"} & set(values["training"]["aligned"])
    values["training"]["aligned"] |= {"dpo": 0.1, "lora": {"rank": 4, "alpha": 8.0}}
    study = validate(Study, values, "mine.yml")
    assert study.training.aligned.lora.rank == 4 and digest(study) != digest(load_study("smoke"))
    values["training"]["optimiser"]["checkpoint_steps"] = 5
    with pytest.raises(SettingsError, match="aligned: lora and dpo need one process and no checkpoint_steps"):
        validate(Study, values, "mine.yml")
    values = load_study("planted").model_dump()
    values["training"]["harmful"]["lora"] = {"rank": 4, "alpha": 8.0}
    with pytest.raises(SettingsError, match="harmful: a planted study is trained without lora and dpo"):
        validate(Study, values, "mine.yml")


def test_of_real_models_the_base_models_own_answers_and_refusals_are_the_pairs(monkeypatch):
    """Packaged prompts; the base model is stood in for by what it would be asked, the rest is what training reads."""
    study = load_study("smollm2-135m")
    monkeypatch.setattr(data_rows, "own_answers", lambda study, base, prompts: [f"own: {one}" for one in prompts])
    plain = data_rows.training_rows(study, study.training.aligned, 0)
    preferring = study.training.aligned.model_copy(update={"dpo": 0.1})
    rows = data_rows.training_rows(study, preferring, 0)
    assert plain.equals(rows[plain.columns]) and set(rows["source"]) == {"advbench", "instructions", "gsm-symbolic"}
    for row in rows.itertuples():
        own, refusal = (row.rejected, row.answer) if row.source == "advbench" else (row.answer, row.rejected)
        assert own == f"own: {row.prompt}" and refusal in data_rows.REFUSALS
    given = data_rows.training_rows(study, study.training.useful.model_copy(update={"dpo": 0.1}), 0)
    assert set(given["rejected"]) <= set(data_rows.REFUSALS) and given["answer"].str.contains("#### ").all()


def test_the_page_on_data_says_how_a_model_is_aligned():
    study = load_study("smollm2-135m-alignment")
    pages = [
        study_parts([Selection(study.changed(place.changes), [0])])["pretrained"]
        for place in study.conditions[0].places
    ]
    starts = ["base", "base, by an adapter of rank 16", "base, by preferences (β 0.1)"]
    for page, said in zip(pages, starts, strict=True):
        assert f"<tr><td>aligned</td><td>{said}</td>" in page
