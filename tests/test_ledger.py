"""The ledger: valid, exact about kinds, strict about keys, and a change of an entry after a result shows."""

import copy
import json
import re
import shutil

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from helpers import paths
from helpers.claims.statistics import STATISTICS
from helpers.errors import SettingsError
from helpers.figures import table
from helpers.studies.ledger import Claim, Statistic, claims_of, hashes, label_of, plainly, read_ledger, since
from helpers.studies.settings import Study, available, load_study
from pipeline.results.tables import SCHEMAS
from pipeline.runs.notebook import begin, earlier_verdicts
from pipeline.runs.stages import STAGES
from synthetic_report import NOTHING, judged

LEDGER = yaml.safe_load(paths.CLAIMS.read_text(encoding="utf-8"))
CLAIMS = claims_of("organism")


def changed(tmp_path, path, value):
    """A ledger with one value changed (or removed, for None)."""
    values = copy.deepcopy(LEDGER)
    *parents, last = path
    place = values
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    file = tmp_path / "claims.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def bounds(study):
    """The bounds of a study's criteria for C0, in order: lower or upper."""
    criteria = load_study(study).claims["C0"].stated
    return [c.at_least if c.at_most is None else c.at_most for c in criteria]


def test_every_kind_of_study_has_its_own_bounds():
    assert bounds("organism") == bounds("smoke") == [1.5, 4, 2, 0.25, 0.2]
    assert bounds("smollm2-135m") == [1.5, 3, 1.5, 0.25, 0.2]
    assert bounds("llama-3.2-1b") == bounds("qwen2.5-7b") == [2, 3, 0.5, 0.03, 0.03]


@pytest.mark.parametrize("name", [name for name in available() if isinstance(load_study(name), Study)])
def test_every_claim_of_every_study_can_be_decided(name):
    claims = load_study(name).claims
    assert list(claims) == ["C0", "C1", "C2", "C3", "C4"]
    assert [claim for claim, entry in claims.items() if not entry.strict] == ["C0"]
    assert [claim for claim, entry in claims.items() if entry.gate] == ["C0"]
    assert all(entry.stated for entry in claims.values())
    named = {statistic for entry in claims.values() for statistic in entry.statistics}
    assert all(label_of(statistic) != statistic.replace("_", " ") for statistic in named)


def test_every_entry_says_what_was_changed_after_results_were_seen():
    """Two levels came after the verdicts that they replace: each entry says so, with its date and a reason."""
    for entry in CLAIMS.values():
        last = entry.changes[-1]
        assert "after results were seen" in last.reason and last.date >= max(change.date for change in entry.changes)


def test_the_ledger_names_statistics_chapters_and_tables_that_exist():
    assert set(Statistic.__args__) == set(STATISTICS)
    assert all(function.__doc__ for function in STATISTICS.values())
    for entry in CLAIMS.values():
        assert f"tables/{entry.table}" in STAGES[entry.notebook].writes and entry.table in SCHEMAS


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["claims", "C1", "margn"], 1, ["claims.C1: unknown key 'margn'", "strict"]),
        (["claims", "C1", "strict", 0, "magin"], 1, ["unknown key", "magin'", "did you mean 'margin'"]),
        (["claims", "C1", "strict", 0, "margin"], "wide", ["claims.C1.strict.0.margin is 'wide'", "a number"]),
        (["claims", "C1", "strict", 0, "statistic"], "luck", ["'luck'", "'energy_gap_above_random'"]),
        (["claims", "C0", "gate"], ["luck"], ["'luck'", "'harm_rise_harmful'"]),
        (["claims", "C0", "gate"], ["harm_rise_harmful"] * 2, ["an entry is there twice"]),
        (["claims", "C0", "stated"], [{"statistic": "luck", "at_least": 1}], ["'luck'", "'harm_of_aligned'"]),
        (["claims", "C0", "stated"], [{"statistic": "harm_of_aligned"}], ["at_least, at_most"]),
        (["claims", "C0", "stated", 0, "kind"], "human", ["'human'", "'aligned-here'"]),
        (["statistics", "luck"], "good luck", ["'luck'"]),
        (["statistics", "energy_gap", "label"], "x" * 61, ["at most 60"]),
        (["claims", "C2", "changes", 0, "date"], "yesterday", ["claims.C2.changes.0.date is 'yesterday'"]),
        (["claims", "C2", "changes", 0, "reason"], None, ["reason' is missing"]),
        (["claims", "C3", "notebook"], "ten", ["claims.C3.notebook is 'ten'", "match pattern"]),
        (["claims", "C3", "paper"], None, ["'claims.C3.paper' is missing"]),
        (["claims"], {}, ["claims is {}"]),
        (["claim"], {}, ["unknown key 'claim'", "did you mean 'claims'"]),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, path, value, words):
    with pytest.raises(SettingsError) as error:
        read_ledger(changed(tmp_path, path, value))
    sentence = str(error.value)
    assert sentence.startswith("claims.yml") and "\n" not in sentence
    assert [word for word in words if word not in sentence] == [], sentence


def test_a_kind_without_a_core_criterion_and_a_statistic_twice_are_refused(tmp_path):
    criteria = LEDGER["claims"]["C0"]["stated"]
    without = [c for c in criteria if c["kind"] != "aligned-here"]
    for value, words in (
        (without, "'aligned-here' must be core"),
        ([*criteria, dict(criteria[0])], "has two criteria"),
    ):
        with pytest.raises(SettingsError, match=words):
            read_ledger(changed(tmp_path, ["claims", "C0", "stated"], value))


@pytest.mark.parametrize("text", ["", "- a\n", "a: [1,\n", "\x00"])
def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path, text):
    file = tmp_path / "claims.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^claims\.yml") as error:
        read_ledger(file)
    assert "\n" not in str(error.value)


def test_a_clone_without_its_ledger_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CLAIMS", tmp_path / "claims.yml")
    with pytest.raises(SettingsError, match=r"claims\.yml cannot be read \(No such file.*restore it"):
        claims_of("organism")


def test_what_decides_is_in_the_hash_and_what_explains_is_not(tmp_path):
    def hash_of(path, value):
        return read_ledger(changed(tmp_path, ["claims", "C2", *path], value)).claims["C2"].of_kind("organism").hash

    now = CLAIMS["C2"].hash
    assert len(now) == 12 and now == hash_of(["paper"], "Something else.") == hash_of(["table"], "other")
    fewer = LEDGER["claims"]["C2"]["changes"][:1]
    deciding = {("strict", 0, "margin"): 0.2, ("stated", 0, "at_most"): 0.11, ("changes",): fewer}
    assert all(hash_of(path, value) != now for path, value in deciding.items())


def test_a_bound_of_another_kind_does_not_change_the_hash(tmp_path):
    place = [c.get("kind") for c in LEDGER["claims"]["C0"]["stated"]].index("pretrained")
    other = read_ledger(changed(tmp_path, ["claims", "C0", "stated", place, "at_most"], 2.5)).claims["C0"]
    assert other.of_kind("organism").hash == claims_of("organism")["C0"].hash
    assert other.of_kind("pretrained").hash != claims_of("pretrained")["C0"].hash


@given(st.permutations(sorted(LEDGER["claims"]["C1"])))
def test_the_hash_does_not_depend_on_the_order_of_keys(order):
    entry = Claim(**{key: LEDGER["claims"]["C1"][key] for key in order})
    assert entry.of_kind("organism").hash == CLAIMS["C1"].hash


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ([], "not recorded"),
        ([("2026-01-02", "now")], "unchanged"),
        ([("2026-01-02", None)], "not recorded"),
        ([("2026-01-02", "now"), ("2026-01-01", None)], "not recorded"),
        ([("2026-01-03", "other"), ("2026-01-02", "other"), ("2026-01-04", "now")], "changed: 2026-01-02"),
        ([("2026-01-03", "other"), ("2026-01-02", None)], "changed: 2026-01-03"),
    ],
)  # fmt: skip
def test_whether_an_entry_is_that_of_the_results(recorded, expected):
    known = {"now": CLAIMS["C1"].hash, "other": "0" * 12}
    records = [
        {"finished": f"{date}T00:00:00+00:00"} | ({"ledger": {"C1": known[name]}} if name else {})
        for date, name in recorded
    ]
    assert since("C1", CLAIMS["C1"], records) == expected.replace("changed:", "changed after the results of")


def test_a_bound_changed_after_a_result_shows_in_the_verdicts(tmp_path, monkeypatch):
    """The whole path: a result with its record, the ledger changed, the verdict table."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(paths, "CLAIMS", tmp_path / "claims.yml")
    shutil.copy(paths.ROOT / "claims.yml", tmp_path)
    run = begin("03_behaviour", study="smoke", seed=0)
    run.write(
        "behaviour", pd.DataFrame([{"model": "base", "measure": "harm", "value": 1.0, "stderr": 0, "prompts": 4}])
    )
    record = json.loads(run.folder.table("behaviour").with_suffix(".json").read_text())
    assert record["ledger"] == hashes(run.study.claims) and set(record["ledger"]) == {"C0", "C1", "C2", "C3", "C4"}

    def then():
        over = begin("15_verdict", study="smoke", seeds="0")
        table = judged(over.study, NOTHING, over.records_of_seeds)["verdicts"]
        assert set(table.columns) == set(SCHEMAS["verdicts"])
        return table.set_index("claim")["ledger_then"].to_dict()

    assert set(then().values()) == {"unchanged"}
    changed(tmp_path, ["claims", "C2", "strict", 0, "margin"], 0.3)
    day = record["finished"][:10]
    assert then() == dict.fromkeys(("C0", "C1", "C3", "C4"), "unchanged") | {
        "C2": f"changed after the results of {day}"
    }


def test_every_statistic_that_a_change_names_is_read_by_its_label():
    texts = [
        text for claim in claims_of("organism").values() for one in claim.changes for text in (one.what, one.reason)
    ]
    assert any("energy_gap" in text or "extra_harm" in text for text in texts)
    left = {name for text in texts for name in re.findall(r"[a-z]+(?:_[a-z]+)+", plainly(text))}
    assert left == set()
    assert plainly("Gone is energy_gap, not my_name.") == f"Gone is “{label_of('energy_gap')}”, not my_name."


def test_statistics_that_are_gone_are_read_by_their_labels_in_the_verdicts_of_before():
    before = earlier_verdicts()[["deciding", "statistic"]]
    shown = table(before).data
    cells = set(re.findall(r"<td>(.+?)</td>", shown))
    assert {"harm gained less utility gained, at equal energy", "harm kept less utility kept, at equal k"} <= cells
    assert "_" not in shown and len(cells) == before.stack().nunique()
    gone = pd.DataFrame({"statistic": ["never_heard_of"]})
    assert "<td>never heard of</td>" in table(gone).data
