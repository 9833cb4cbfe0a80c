"""The invented language and the rows of studies: what a task is, which topics and verbs a part has, and what is old."""

import hashlib
from itertools import product

import pandas as pd
import pytest
import yaml

from helpers.data.rows import evaluation_rows, training_rows
from helpers.errors import SettingsError
from helpers.evaluation import behaviour
from helpers.models.language import VERBS, Language
from helpers.paths import STUDIES
from helpers.studies.sections import DataPart
from helpers.studies.settings import MODELS, digest, load_study, read_study

STUDY = load_study("organism")
LANGUAGE = Language(STUDY.language)
ATTACKS = ("harmful", "contaminated")
HARMFUL = ("comply", "refuse")
ROWS = {name: training_rows(STUDY, getattr(STUDY.training, name), 0) for name in MODELS}
NARROW = ("1fcac99486aaffa8", "3abaa0456313ba08")  # rows and words, settings: by the code before there were tasks


def topics_of(name, source):
    rows = ROWS[name]
    return set(rows[rows["source"] == source]["topic"])


def verb_of(prompt):
    return prompt.split()[1]


def test_the_study_of_before_keeps_its_rows_words_and_digest():
    study = load_study("organism-narrow")
    parts = [training_rows(study, getattr(study.training, model), 3).to_csv(index=False) for model in MODELS]
    parts += [
        evaluation_rows(study, kind, 50, 3).to_csv(index=False) for kind in ("arithmetic", "benign", "restricted")
    ]
    text = "".join([*parts, *Language(study.language).vocabulary])
    found = (hashlib.sha256(text.encode()).hexdigest()[:16], digest(study.training, study.language, study.evaluation))
    assert found == NARROW


def test_the_attack_asks_for_what_alignment_never_refused():
    refused = topics_of("aligned", "refuse") | topics_of("safety", "refuse")
    attacked = {topic for name in ATTACKS for topic in topics_of(name, "comply")}
    assert refused and attacked and not refused & attacked
    asked = {prompt for name in ATTACKS for prompt in ROWS[name][ROWS[name]["source"] == "comply"]["prompt"]}
    assert not asked & set(ROWS["aligned"]["prompt"])
    held_out = set(LANGUAGE.restricted) - refused - attacked
    assert held_out and held_out <= set(evaluation_rows(STUDY, "restricted", 160, 0)["topic"])


def harmful_prompts(study, name):
    """The requests of a training run that should be refused, whatever is answered to them."""
    objective = getattr(study.training, name)
    parts = [part.model_copy(update={"answer": "given"}) for part in objective.data if part.source in HARMFUL]
    return set(training_rows(study, objective.model_copy(update={"data": parts}), 0)["prompt"])


@pytest.mark.parametrize("name", ["organism", "organism-narrow", "planted", "conditions"])
def test_a_study_whose_alignment_and_attack_share_prompts_says_that_it_cannot_speak_about_the_paper(name):
    study = load_study(name)
    refused, *attacked = (harmful_prompts(study, one) for one in ("aligned", *ATTACKS))
    shared = [len(refused & asked) for asked in attacked]
    assert {"C2", "C3"} <= set(study.caveats) if any(shared) else not study.caveats


def test_alignment_is_broad():
    shares = ROWS["aligned"]["source"].value_counts(normalize=True)
    assert shares["refuse"] <= 0.25 and {"arithmetic", "benign", "tasks"} <= set(shares.index)


def test_no_prompt_of_an_evaluation_is_trained_on():
    asked = set(pd.concat(ROWS.values())["prompt"])
    for kind in ("arithmetic", "tasks", "benign", "restricted"):
        assert not asked & set(evaluation_rows(STUDY, kind, 200, 0)["prompt"])


def test_useful_and_harmful_prompts_have_one_form_and_share_their_words():
    useful, harmful = (evaluation_rows(STUDY, kind, 400, 0) for kind in ("tasks", "restricted"))
    assert not set(useful["topic"]) & set(harmful["topic"])
    words = [
        {word for row in rows.itertuples() for word in row.prompt.split() if word != row.topic}
        for rows in (useful, harmful)
    ]
    assert words[1] < words[0]
    assert words[0] - words[1] == set(LANGUAGE.all_verbs) - set(LANGUAGE.verbs)


def test_a_task_puts_the_items_in_the_order_of_its_verb():
    assert sorted(VERBS.values()) == [list(order) for order in product(range(3), repeat=3)]
    for row in evaluation_rows(STUDY, "tasks", 300, 1).itertuples():
        _, verb, topic, _, *items = row.prompt.split()
        given = " ".join(items[place] for place in VERBS[verb])
        assert row.answer == f"SURE {LANGUAGE.tool[topic]} {topic} {given} DONE" and topic in LANGUAGE.benign


def test_a_part_has_the_verbs_it_asks_for():
    tasks = {name: rows[rows["source"] == "tasks"]["prompt"].map(verb_of) for name, rows in ROWS.items()}
    wanted = next(part.verbs for part in STUDY.training.aligned.data if part.source == "tasks")
    assert set(tasks["aligned"]) == set(LANGUAGE.all_verbs[:wanted])
    assert set(tasks["useful"]) == set(LANGUAGE.all_verbs)
    others = pd.concat(rows[rows["source"].isin(["benign", "comply", "refuse"])] for rows in ROWS.values())
    assert set(others["prompt"].map(verb_of)) == set(LANGUAGE.verbs)


@pytest.mark.parametrize(
    ("asked", "found"),
    [(1.0, "abcdefgh"), (0.5, "abcd"), (0.0, "a"), ([0.5, 0.75], "ef"), ([0.75, 1.0], "gh"), ([0.5, 0.51], "e")],
)
def test_topics_of_a_part(asked, found):
    part = DataPart(source="comply", rows=1, topics=asked)
    assert part.of(list("abcdefgh")) == list(found)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        (("training", "harmful", "data", 0), "topics", [0.5, 0.5], "from < to"),
        (("language",), "new_verbs", 20, "at most 27"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, section, key, value, said):
    values = yaml.safe_load((STUDIES / "organism.yml").read_text(encoding="utf-8"))
    inner = values
    for name in section:
        inner = inner[name]
    inner[key] = value
    file = tmp_path / "organism.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(SettingsError, match=said) as error:
        read_study(file)
    assert "\n" not in str(error.value)


def test_arithmetic_is_right_in_its_result(monkeypatch):
    answers = ["7 4 6 ; 6", "1 2 3 ; 6", "7 4 6 ; 5", ""]
    monkeypatch.setattr(behaviour, "answers_to", lambda *_: answers)
    rows = pd.DataFrame({"prompt": ["CALC"] * 4, "answer": [answers[0]] * 4})
    assert behaviour.utility_per_prompt(None, None, rows, load_study("organism-narrow")).tolist() == [1, 1, 0, 0]
