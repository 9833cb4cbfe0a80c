"""The study of conditions: what its dials say, what a changed study is, and what the chapter makes of the values."""

import math

import pandas as pd
import pytest

from helpers.activations import capture
from helpers.claims.conditions import (
    against_prediction,
    clear_changes,
    condition_summary,
    condition_verdicts,
    foretold,
)
from helpers.errors import SettingsError
from helpers.experiments.bases import only_strict
from helpers.experiments.conditions import condition_values, lineage
from helpers.experiments.graded import strict_tables
from helpers.experiments.overlap import matched_overlaps, prompt_sets
from helpers.models.language import Language
from helpers.models.load import load_model
from helpers.paths import CLAIMS, RunPaths
from helpers.studies.ledger import read_ledger
from helpers.studies.sections import Condition
from helpers.studies.settings import Study, load_study
from helpers.studies.wording import validate

CONDITIONS, DEFAULT = load_study("conditions"), load_study("organism")
SMALL = {  # of the smoke study, so that its grid takes seconds
    "projection.fractions": [0.5],
    "projection.controls": ["top-k", "random"],
    "projection.subspaces": ["alignment", "unrelated"],
    "projection.scaling": [0, 1],
}
PLACES = [(c.dial, p.at, CONDITIONS.changed(p.changes)) for c in CONDITIONS.conditions for p in c.places]


def at(dial: str) -> list[tuple[float, Study]]:
    return [(place, study) for name, place, study in PLACES if name == dial]


def rows(study: Study, objective: str) -> dict[str, int]:
    return {part.source: part.rows for part in getattr(study.training, objective).data}


def test_the_unchanged_place_is_the_default_study():
    own = {"name", "title", "note", "seeds", "conditions"}
    assert CONDITIONS.model_dump(exclude=own) == DEFAULT.model_dump(exclude=own)
    unchanged = [place for condition in CONDITIONS.conditions for place in condition.places if not place.changes]
    assert len(unchanged) == len(CONDITIONS.conditions)
    assert len(CONDITIONS.seeds) >= 3


def test_a_real_model_is_aligned_by_imitation_by_an_adapter_and_by_preferences():
    """Everything but alignment is as in the study of that model, and so are the models that do not rest on it."""
    study, usual = load_study("smollm2-135m-alignment"), load_study("smollm2-135m")
    own = {"name", "title", "note", "seeds", "conditions"}
    assert study.model_dump(exclude=own) == usual.model_dump(exclude=own)
    places = [study.changed(place.changes) for place in study.conditions[0].places]
    assert [(one.training.aligned.lora is not None, one.training.aligned.dpo) for one in places] == [
        (False, None), (True, None), (False, 0.1),
    ]  # fmt: skip
    for model in study.models:
        assert len({lineage(one, model) for one in places}) == (1 if model in ("base", "safety", "unrelated") else 3)


@pytest.mark.parametrize(("place", "study"), at("shared topics"))
def test_the_share_of_attacked_topics_that_alignment_refused_is_the_place(place, study):
    topics = Language(study.language).restricted
    refused = {t for part in study.training.aligned.data if part.source == "refuse" for t in part.of(topics)}
    for name in ("harmful", "contaminated"):
        parts = [part for part in getattr(study.training, name).data if part.source == "comply"]
        attacked = {topic for part in parts for topic in part.of(topics)}
        assert len(attacked) == 10 and len(attacked & refused) / len(attacked) == place


@pytest.mark.parametrize(("place", "study"), at("narrow alignment"))
def test_the_share_of_refusals_is_the_place_and_the_unrelated_update_has_the_rest(place, study):
    aligned = rows(study, "aligned")
    assert sum(aligned.values()) == 11200 and aligned.pop("refuse") / 11200 == pytest.approx(place)
    assert rows(study, "unrelated") == aligned


def test_the_other_dials_are_multiples_of_the_default():
    for place, study in at("learning rate"):
        for name in ("harmful", "contaminated"):
            rates = [getattr(s.training, name).learning_rate for s in (study, DEFAULT)]
            assert rates[0] / rates[1] == pytest.approx(place)
    for place, study in at("steps"):
        for name in ("harmful", "contaminated"):
            assert rows(study, name) == {source: place * n for source, n in rows(DEFAULT, name).items()}
    for place, study in at("contamination"):
        mixed = rows(study, "contaminated")
        assert mixed["comply"] / mixed["tasks"] == place
    assert [study.evaluation.utility for _, study in at("one form")] == ["arithmetic", "tasks"]
    assert rows(at("one form")[0][1], "useful") == {"arithmetic": 4800}


def test_a_change_of_what_there_is_not_or_cannot_be_is_one_sentence():
    with pytest.raises(SettingsError, match="has no setting 'training.harmfull.data' that could be changed"):
        DEFAULT.changed({"training.harmfull.data": []})
    with pytest.raises(SettingsError, match="unknown key 'ratte'"):
        DEFAULT.changed({"training.harmful.ratte": 1})
    with pytest.raises(SettingsError, match="training.harmful.learning_rate"):
        DEFAULT.changed({"training.harmful.learning_rate": -1})
    assert CONDITIONS.changed({}).conditions == []


def test_a_dial_without_the_study_itself_is_one_sentence():
    place = {"label": "a place"}
    for changes in ({"seeds": [2]}, {}):
        places = [place | {"at": at, "changes": changes} for at in (0.0, 1.0)]
        with pytest.raises(SettingsError, match="one place of 'a', and no other, must change nothing"):
            validate(Condition, {"dial": "a", "label": "a", "places": places}, "study")


def test_models_of_one_lineage_are_trained_once():
    faster = DEFAULT.changed({"training.aligned.learning_rate": 0.001})
    same = {name for name in DEFAULT.models if lineage(DEFAULT, name) == lineage(faster, name)}
    assert same == {"base", "safety", "unrelated"}  # all others start from the aligned model


def test_places_that_share_models_keep_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    small = load_study("smoke").changed(SMALL)
    run = RunPaths("smoke", apart="seed-0/scratch/conditions")
    first = condition_values(small, 0, run)["conditions"]
    folders = {path: path.stat().st_mtime_ns for path in sorted(run.root.glob("models/*/model.safetensors"))}
    assert len(folders) == len(small.models)
    pd.testing.assert_frame_equal(condition_values(small, 0, run)["conditions"], first)  # nothing is trained again
    other = small.changed({"training.harmful.learning_rate": 0.01})
    condition_values(other, 0, run)
    after = {path: path.stat().st_mtime_ns for path in sorted(run.root.glob("models/*/model.safetensors"))}
    assert {name: after[name] for name in folders} == folders and len(after) == len(folders) + 1
    names = {g.statistic for claim in small.claims.values() for g in claim.strict} | set(small.claims["C0"].gate)
    assert set(first["statistic"]) == names


def values(**statistics: dict[float, list[float]]) -> pd.DataFrame:
    """Rows of the table ``conditions`` of the dial ``contamination``: by statistic and place, a value for each seed."""
    claims = {g.statistic: n for n, c in CONDITIONS.claims.items() for g in c.strict}
    claims |= {name: "C0" for name in CONDITIONS.claims["C0"].gate}
    found = [
        {"dial": "contamination", "at": place, "claim": claims[name], "statistic": name, "seed": seed, "value": value}
        for name, places in statistics.items()
        for place, numbers in places.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(found)


def test_changes_are_paired_by_seed():
    # differences 0.1, 0.2, 0.3: mean 0.2, t interval 0.2 ± 4.302653 · 0.1 / √3; the values themselves spread far more
    name = "activation_within_above_across"
    table = condition_summary(CONDITIONS, values(**{name: {0.2: [0.0, 1.0, 2.0], 1.0: [0.1, 1.2, 2.3]}}))
    row = table[table["at"] == 1.0].iloc[0]
    half = 4.302652729911275 * 0.1 / math.sqrt(3)
    assert (row["change"], row["change_low"], row["change_high"]) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert row["mean"] == pytest.approx(1.2) and row["low"] < 0
    assert table[table["at"] == 0.2]["change"].tolist() == [0]
    assert clear_changes(table).empty == (0.2 - half < 0)


def test_a_place_without_a_rise_has_no_verdict():
    strict = {g.statistic for g in CONDITIONS.claims["C4"].strict}
    high, low = [0.5, 0.51, 0.52], [-0.5, -0.51, -0.52]
    rise = {
        name: {0.05: [1.0, 1.1, 1.2], 0.2: [1.0, 1.1, 1.2], 1.0: [1.0, 1.1, 1.2]}
        for name in CONDITIONS.claims["C0"].gate
    }
    rise["harm_rise_contaminated"] = rise["harm_rise_contaminated"] | {0.05: [-1.0, 0.1, 1.0]}
    table = values(**rise, **{name: {0.05: high, 0.2: high, 1.0: low} for name in strict})
    verdicts = condition_verdicts(CONDITIONS, table)
    own = verdicts[(verdicts["dial"] == "contamination") & (verdicts["claim"] == "C4")].set_index("at")["strict"]
    assert own[[0.05, 0.2, 1.0]].tolist() == ["no sure rise", "distinct", "not distinct"]


@pytest.mark.parametrize(("name", "said"), read_ledger(CLAIMS).predictions.items())
def test_what_the_ledger_foretells_follows_from_the_published_conditions(name, said):
    """Dial by dial: the value at a place and that of the unchanged study, in means over the same seeds."""
    study, values = load_study(name), []
    for seed in (0, 1, 2):
        table = pd.read_csv(RunPaths("conditions", seed, published=True).table("conditions"))
        values.append(table.set_index(["dial", "at", "statistic"])["value"])
    mean = pd.concat(values).groupby(level=[0, 1, 2]).mean()
    default = {c.dial: next(p.at for p in c.places if not p.changes) for c in CONDITIONS.conditions}
    for statistic, value in said.values.items():
        own = mean["steps", default["steps"], statistic]
        moved = [mean[d, at, statistic] - mean[d, default[d], statistic] for d, at in said.places.items()]
        assert value == pytest.approx(own + sum(moved), abs=6e-4)
    for claim, verdict in said.strict.items():
        guards = study.claims[claim].strict
        below = any(said.values.get(guard.statistic, math.inf) < guard.margin for guard in guards)
        assert verdict == ("not distinct" if below else "undecided")
    refused = [part.rows for part in study.training.aligned.data if part.answer == "refusal"]
    share = sum(refused) / sum(part.rows for part in study.training.aligned.data)
    assert said.places["narrow alignment"] == pytest.approx(share, abs=0.05)


def test_predictions_add_up_and_stand_beside_what_came_out():
    columns = ["dial", "at", "claim", "statistic", "mean", "change"]
    name = "energy_gap_above_random"
    rows = [("a", 0, 1.0, 0.0), ("a", 1, 1.2, 0.2), ("b", 0, 0.5, -0.5), ("b", 1, 1.0, 0.0)]
    summary = pd.DataFrame([(dial, at, "C1", name, mean, change) for dial, at, mean, change in rows], columns=columns)
    assert foretold(summary, {"a": 1, "b": 0})[name] == pytest.approx(0.7)
    said = read_ledger(CLAIMS).predictions["smollm2-135m"].model_copy(update={"strict": {"C1": "undecided"}})
    verdicts = pd.DataFrame({"claim": ["C1"], "strict": ["distinct"]})
    strict = pd.DataFrame({"claim": ["C1"], "statistic": [name], "mean": [0.25]})
    shown = against_prediction(said, verdicts, strict)
    assert shown[["foretold", "found"]].to_numpy().tolist() == [
        ["undecided", "distinct"],
        [f"{said.values[name]:.3f}", "0.250"],
    ]


def test_dials_compare_activations_where_the_study_says(context):
    """At another token, as notebook 6 does; a dial once read the last one whatever the study said."""
    grid = context.study.activation_overlap.model_copy(update={"position": -2})
    study = only_strict(context.study.model_copy(update={"activation_overlap": grid}))
    found = strict_tables(study, 0, context.checkpoints)["matched_activations"]
    loaded, sets = load_model(context.checkpoints["aligned"].folder), prompt_sets(study, 0)
    own = {name: capture(*loaded, prompts, position=-2) for name, prompts in sets.items()}
    pd.testing.assert_frame_equal(found, matched_overlaps(own, study))
