"""The grade of a difference between environments: its rule, its order, and what the page says of it."""

import copy
import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import records
from pipeline.results import environment, provenance
from pipeline.results.environment import COMPATIBLE, DIFFERS, GRADES, MAY_DIFFER, SAME, differences, of_version, worst

NUMBERS = st.tuples(*[st.integers(0, 30)] * 3)
VERSIONS = NUMBERS.map(lambda numbers: ".".join(map(str, numbers)))
TEXTS = st.one_of(VERSIONS, st.text(max_size=12))
ENVIRONMENTS = st.fixed_dictionaries(
    {
        "python": VERSIONS,
        "packages": st.dictionaries(st.sampled_from(provenance.PACKAGES), VERSIONS, min_size=1),
        "platform": st.sampled_from(["Linux-6.1-x86_64", "Linux-5.4-x86_64", "macOS-14-arm64"]),
        "cpu": st.sampled_from(["one", "other"]),
        "device": st.sampled_from(["cpu", "NVIDIA H100", "NVIDIA A100"]),
        "float32": st.sampled_from(["highest precision", "high precision"]),
        "seed": st.none() | st.integers(0, 3),
    }
)


@given(NUMBERS, NUMBERS)
def test_the_first_number_that_differs_decides(one, other):
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]
    place = next((i for i in range(3) if one[i] != other[i]), 3)
    assert of_version(*texts) == (DIFFERS, MAY_DIFFER, COMPATIBLE, SAME)[place]


@given(TEXTS, TEXTS)
def test_any_texts_have_a_grade_that_is_the_same_both_ways(one, other):
    assert of_version(one, other) == of_version(other, one) in GRADES
    assert (of_version(one, other) == SAME) == (one == other)


@given(ENVIRONMENTS)
def test_an_environment_is_the_same_as_itself(one):
    assert worst(d.grade for d in differences(one, one)) == SAME


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_the_whole_is_as_bad_as_its_worst_part_and_the_same_both_ways(one, other):
    one = one | {"seed": other["seed"]}
    there, back = ({d.fact: d.grade for d in differences(*pair)} for pair in ((one, other), (other, one)))
    assert there == back
    grade = worst(there.values())
    assert grade in there.values() and all(GRADES.index(part) <= GRADES.index(grade) for part in there.values())


@given(ENVIRONMENTS, st.sampled_from(sorted(environment.SHOWING)), VERSIONS, VERSIONS)
def test_what_only_draws_is_compatible_in_any_version(one, name, then, now):
    first, second = ({**one, "packages": {**one["packages"], name: version}} for version in (then, now))
    assert worst(d.grade for d in differences(first, second)) in (SAME, COMPATIBLE)


@pytest.mark.parametrize(
    ("then", "now", "grade"),
    [
        ("2.13.0", "2.13.0+cpu", COMPATIBLE),
        ("2.13.0rc1", "2.13.0", MAY_DIFFER),
        ("2.13", "2.13.0", COMPATIBLE),
        ("2.13.0", "none", DIFFERS),
        ("1!2.13.0", "2.13.0", DIFFERS),
        ("unreadable", "2.13.0", DIFFERS),
    ],
)
def test_versions_that_are_more_than_three_numbers(then, now, grade):
    assert of_version(then, now) == grade


def changed(**facts) -> dict:
    """A record of a seed's result made today, with other facts."""
    return copy.deepcopy(environment.today()) | {"seed": 0} | facts


@pytest.mark.parametrize(
    ("facts", "grade", "warned"),
    [
        ({}, SAME, ""),
        ({"cpu": "another"}, MAY_DIFFER, "may differ, because of another cpu"),
        ({"device": "cpu" if environment.today()["device"] != "cpu" else "NVIDIA H100"}, DIFFERS, "another device"),
        ({"float32": "medium precision"}, DIFFERS, "cannot be expected to be the same, because of another float32"),
        ({"platform": f"{platform.system()}-0.0"}, COMPATIBLE, ""),
        ({"python": "2.7.18"}, DIFFERS, "another python"),
    ],
)
def test_the_page_warns_where_it_matters(facts, grade, warned):
    text = records.against_today([changed(), changed(**facts)])
    assert f"**{grade}**" in text and (":::{warning}" in text) == bool(warned) and warned in text


def test_a_chapter_that_computes_without_a_model_is_not_graded_by_its_device():
    then = {key: value for key, value in changed(device="NVIDIA H100", seed=None).items() if key != "float32"}
    assert {"device", "float32"}.isdisjoint(d.fact for d in differences(then, environment.today()))


def test_an_old_record_that_says_nothing_is_not_graded():
    assert differences({}, environment.today()) == []
