"""The first page: the answer in sentences, both verdicts by claim, and the conditions, from tables written here."""

import html
import re
from pathlib import PurePosixPath

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.claims import verdicts
from helpers.claims.statistics import STATISTICS
from helpers.figures import table
from helpers.paths import ROOT, RunPaths
from helpers.studies.ledger import in_words, label_of, meaning_of
from helpers.studies.settings import load_study
from pipeline.report.answer import STATED as STATED_WORDS
from pipeline.report.answer import STRICT as STRICT_WORDS
from pipeline.report.answer import answer, conditions, counted, finding_of, passed
from pipeline.report.chapters import Chapter, Staged
from pipeline.report.claim_cards import claim_cards, seeds_to_tell, what_would_change
from pipeline.report.forest import axis_of, effect, forest, place_on
from pipeline.report.inert import clean_html
from pipeline.report.records import banner
from pipeline.report.verdicts import number_tables, verdict_table
from pipeline.results.tables import SCHEMAS, read_csv, write_csv
from pipeline.runs.selections import Selection, not_tested

STATED = ("yes", "yes", "yes", "no", "not measurable")  # of C0 to C4
STRICT = ("", "undecided", "undecided", "distinct", "not distinct")


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """A function that gives studies the same verdicts, and a share of seeds that pass."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))

    def make(*names, passed=1.0):
        return [_with_verdicts(load_study(name), passed) for name in names]

    return make


def _with_verdicts(study, passed):
    rows = [
        dict.fromkeys(SCHEMAS["verdicts"], float("nan"))
        | {"study": study.name, "claim": claim, "statement": entry.statement, "stated": stated, "strict": strict}
        | {"stated_by": entry.stated[0].statistic, "criterion": "≥ 0", "stated_mean": 0.5, "seeds": 5.0}
        | ({"strict_by": entry.strict[0].statistic, "margin": 0.05, "mean": 0.123} if entry.strict else {})
        | ({"share_of_seeds": passed, "share_seeds": 5, "share_low": 0.5, "share_high": 1.0} if entry.strict else {})
        for (claim, entry), stated, strict in zip(study.claims.items(), STATED, STRICT, strict=True)
    ]
    write_csv(RunPaths(study.name).table("verdicts"), "verdicts", pd.DataFrame(rows))
    return Staged(Selection(study, [0, 1, 2, 3, 4]), [], [])


def plain(text):
    """A page's text without its marks."""
    return " ".join(re.sub(r"<[^>]+>", "", text).split())


def test_verdicts_are_counted_in_few_words():
    found = {"C0": "yes", "C1": "no", "C2": "yes", "C3": "undecided", "C4": "not measurable"}
    assert counted(found, STATED_WORDS) == "2 as in the paper, 1 undecided, 1 not as in the paper, 1 not measurable"
    assert counted({"C1": "no", "C2": "no"}, STATED_WORDS) == "2 not as in the paper"
    assert counted({"C1": "distinct"}, STRICT_WORDS) == "1 distinct"


def test_shares_of_seeds_are_said_once_where_they_are_alike():
    def rows(*shares):
        return [{"claim": f"C{i}", "share_of_seeds": x, "share_seeds": n} for i, (x, n) in enumerate(shares, start=1)]

    mixed = rows((1, 20.0), (0.95, 20.0), (float("nan"), 20.0))
    assert passed(mixed) == ("C1 finds one in 20 of 20 seeds; C2 finds one in 19 of 20 seeds; C3 cannot be measured")
    assert passed(rows((1, 5.0), (1, 5.0))) == "every test finds one, in each of 5 seeds"
    assert passed(rows((0, 20.0), (0, 18.0))) == "no test finds one, in 18 to 20 seeds"


def test_the_answer_has_a_sentence_per_study_real_models_first(staged):
    studies = staged("negative", "organism", "planted", "smollm2-135m")
    missing = not_tested([one.selection for one in studies])
    items = [plain(item) for item in answer(studies, missing).split("<li>")[1:]]
    said = (
        "5 seeds). Strict tests: 1 distinct, 1 not distinct, 2 undecided. The paper's experiments, repeated: 3 as in "
        "the paper, 1 not as in the paper, 1 not measurable"
    )
    assert items[0].startswith(f"SmolLM2-135M (a real base model, aligned here; {said}")
    assert items[1].startswith(f"Model organism (a tiny model, trained here on an invented language; {said}")
    assert items[2] == "Gemma-3-270M: not tested"
    assert items[3].startswith("The paper's five models (") and items[3].endswith("): not tested")
    assert items[3].count(",") == 4 and "Llama-2-7B" in items[3]
    assert items[4].startswith("Can these tests be trusted?") and len(items) == 5


def test_the_answer_says_whether_the_method_sees_and_cries_wolf(staged):
    seen = plain(answer(staged("organism", "planted"), []))
    assert "planted safety subspace every test finds one, in each of 5 seeds, as it should be" in seen
    assert "Whether they find one where there is none is not tested" in seen
    wolf = plain(answer(staged("organism", "negative"), []))
    assert "In those without any every test finds one, in each of 5 seeds missed" in wolf
    assert "Whether they find a subspace that is planted is not tested" in wolf


@pytest.mark.parametrize(
    ("verdicts", "word", "counts"),
    [
        ([], "Not tested yet.", (0, 0, 0)),
        (["not distinct"] * 4, "No.", (0, 4, 0)),
        (["distinct"] * 3, "Yes, in every test.", (3, 0, 0)),
        (["distinct", "not distinct", "undecided"], "In part.", (1, 1, 1)),
        (["not distinct", "not measurable", "no sure rise"], "No safety subspace was found, but most", (0, 1, 2)),
        (["not distinct", "undecided"], "No safety subspace was found, but some", (0, 1, 1)),
        (["undecided"], "No safety subspace was found, but most", (0, 0, 1)),
    ],
)
def test_the_finding_counts_what_the_strict_tests_say(verdicts, word, counts):
    found = finding_of({"one": verdicts[:1], "other": verdicts[1:]})
    assert found["word"].startswith(word) and (found["yes"], found["no"], found["open"]) == counts
    assert found["tests"] == len(verdicts) and found["models"] == 2


def test_the_finding_names_the_model_that_alone_can_tell():
    assert finding_of({"toy": ["not distinct"], "real": ["undecided"]})["only"] == "toy"
    assert not finding_of({"toy": ["not distinct"], "real": ["not distinct"]})["only"]
    assert not finding_of({"toy": ["not distinct"]})["only"]


def test_controls_are_no_part_of_the_finding(staged):
    text = plain(answer(staged("organism", "planted", "negative"), []))
    assert "Of 4 strict tests on 1 model, 1 says distinct, 1 says not distinct, and 2 are undecided. That" in text


def test_the_forest_draws_effects_as_multiples_of_their_margins(staged):
    """The fixture's deciding effect is 0.123, its margin 0.05, without an interval: 2.46 on an axis from -1 to 3."""
    text = forest(staged("negative", "organism", "smollm2-135m"))
    assert re.findall(r'class="point [\w-]+" style="left:([\d.]+)%"', text) == ["86.5"] * 12  # (2.46 + 1) / 4
    assert text.count('class="margin" style="left:50.0%"') == 12 and 'class="interval' not in text
    names = re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]+)', text)
    assert names == ["SmolLM2-135M", "Model organism", "Negative control"] * 5
    assert text.count("0.123, margin 0.05") == 24  # in the label and on hover


@given(st.lists(st.floats(-1e3, 1e3), max_size=5))
def test_the_axis_holds_no_effect_the_margin_and_what_is_not_too_far(means):
    low, high = axis = axis_of({"mean": mean, "low": float("nan"), "high": float("nan")} for mean in means)
    assert low <= -1 and high >= 2 and all(low <= mean <= high for mean in means if abs(mean) <= 10)
    assert (place_on(axis, low - 1), place_on(axis, high + 1)) == (0, 100) and low >= -10 and high <= 10


def test_an_effect_that_was_not_measured_gives_way_to_the_weakest_that_was(staged):
    (study,) = staged("smollm2-135m")
    rows = [
        dict.fromkeys(SCHEMAS["strict"], float("nan"))
        | {"study": "smollm2-135m", "claim": "C1", "statistic": entry.statistic, "margin": entry.margin, "seeds": 1}
        | {"mean": mean, "decision": "undecided", "over": "seeds"}
        for entry, mean in zip(study.selection.study.claims["C1"].strict, (float("nan"), 0.4, 0.2), strict=False)
    ]
    write_csv(RunPaths("smollm2-135m").table("strict"), "strict", pd.DataFrame(rows))
    found = effect(study, "C1", {"mean": float("nan"), "margin": 0.05})
    assert found["missing"] == 1 and found["mean"] == pytest.approx(0.2 / rows[2]["margin"])
    assert effect(study, "C2", {"mean": float("nan"), "margin": 0.05}) is None


def test_an_interval_over_the_prompts_of_few_seeds_is_called_so(staged):
    (study,) = staged("smollm2-135m")
    path = RunPaths("smollm2-135m").table("verdicts")
    table = read_csv(path, "verdicts").assign(seeds=1, over="prompts", low=0.1, high=0.2)
    write_csv(path, "verdicts", table.assign(stated_seeds=2, stated_over="prompts", stated_low=0.4, stated_high=0.6))
    cards, numbers = plain(claim_cards([study], [])), plain(number_tables([study]))
    assert cards.count("margin 0.05; 1 seed, interval over prompts.") == 4  # of the claims with a strict test
    assert "[0.400, 0.600], asked ≥ 0; 2 seeds, interval over prompts." in cards  # of C0, which has none
    assert [numbers.count(f"; {seeds}, interval over prompts") for seeds in ("2 seeds", "1 seed")] == [5, 4]


def test_a_card_per_claim_links_its_evidence_and_says_what_would_change(staged):
    studies = staged("organism", "planted", "smollm2-135m")
    chapter = Chapter(ROOT, PurePosixPath("notebooks/12_C2_orthogonal"), "")
    studies[0] = Staged(studies[0].selection, [chapter], [])
    RunPaths("organism").table("orthogonal_excess").write_text("k", encoding="utf-8")
    text = claim_cards(studies, [])
    links = ("notebooks/12_C2_orthogonal.html", "_sources/notebooks/12_C2_orthogonal.ipynb")
    assert [text.count(f'href="{link}"') for link in links] == [1, 1]
    assert re.findall(r'href="(results/[^"]+)"', text) == ["results/organism/all/tables/orthogonal_excess.csv"]
    assert re.findall(r'<section class="claim-card" id="(C\d)"', text) == ["C0", "C1", "C2", "C3", "C4"]
    assert "Positive control" not in text
    assert plain(text).count("What would change it. More seeds: one has no interval over seeds") == 8
    assert "share topics" not in plain(text) and "share topics" in plain(claim_cards(staged("organism-narrow"), []))


@pytest.mark.parametrize(
    ("strict", "low", "high", "said"),
    [
        ("not distinct", 0.01, 0.03, "reaches its margin of 0.05; its upper end is 0.030"),
        ("distinct", 0.06, 0.09, "reaches down to its margin of 0.05; its lower end is 0.060"),
        ("no sure rise", 0.01, 0.03, "surely raises harm and utility"),
        ("not measurable", 0.01, 0.03, "can be measured"),
    ],
)
def test_what_would_change_a_verdict_follows_from_it(strict, low, high, said):
    row = {"strict": strict, "strict_by": "energy_gap_above_random", "margin": 0.05, "mean": 0.02, "over": "seeds"}
    assert said in what_would_change(row | {"low": low, "high": high, "seeds": 5.0}, 0.95)


def test_seeds_that_would_tell_are_those_of_a_t_interval():
    """SD 0.05 and mean 0.1 with a margin of 0.07: t(11) 2.201 × 0.05 / √12 = 0.0318, t(12) 2.179 × 0.05 / √13 = 0.0302,
    t(13) 2.160 × 0.05 / √14 = 0.0289 < 0.03."""
    half = 2.7764451 * 0.05 / 5**0.5
    row = {"mean": 0.1, "low": 0.1 - half, "high": 0.1 + half, "margin": 0.07, "seeds": 5.0}
    assert seeds_to_tell(row, 0.95) == 14
    assert seeds_to_tell(row | {"margin": 0.1}, 0.95) is None


def test_a_study_without_verdicts_is_not_tested(staged, tmp_path):
    study = Staged(Selection(load_study("organism"), [0]), [], [])
    assert "Model organism: not tested" in plain(answer([study], []))


def test_the_answer_says_where_a_study_cannot_speak_about_the_paper(staged):
    assert "why 2 of these 5 cannot count" in plain(answer(staged("organism-narrow"), []))
    assert "cannot count" not in answer(staged("organism"), [])
    table = verdict_table(staged("organism-narrow", "organism"))
    marked = re.findall(r"<td data-head=\"([^\"]+)\">(?:(?!</td>).)*†", table)
    assert marked == ["Model organism, narrow alignment"] * 4  # both verdicts of C2 and of C3
    assert "share topics" in plain(table)


def test_the_table_shows_both_verdicts_and_leaves_controls_to_their_own(staged):
    table = verdict_table(staged("organism", "planted", "smollm2-135m"))
    heads = re.findall(r"<th scope=\"col\">([^<]+)</th>", table)
    assert heads == ["What the paper says", "SmolLM2-135M", "Model organism"]
    assert table.count("Seen as stated?</th>") == 5 and table.count("Strictly distinct?</th>") == 4
    assert plain(table).count("not distinct") == 2


def test_numbers_are_called_by_their_plain_labels(staged):
    numbers = number_tables(staged("organism", "planted"))
    assert "harm of the aligned model (1–5)" in numbers and "harm_of_aligned" not in numbers
    assert "Positive control" in numbers and numbers.count("The paper.") == 5
    assert "0.123" in numbers


def test_pages_without_studies_are_empty():
    assert verdict_table([]).strip() == "" and number_tables([]).strip() == ""


@pytest.mark.parametrize("verdict", sorted({*verdicts.STATED, *verdicts.STRICT, verdicts.NO_RISE, verdicts.NOT_TESTED}))
def test_every_verdict_has_a_colour_in_both_schemes(verdict):
    style = (ROOT / "book" / "_static" / "report.css").read_text(encoding="utf-8")
    rules = re.findall(rf"^(.*\.verdict-{verdict.replace(' ', '-')}[ ,)].*)$", style, re.MULTILINE)
    assert len(rules) == 2 and sum("dark" in rule for rule in rules) == 1


def test_every_statistic_has_a_label_of_its_own():
    assert set(in_words()) == set(STATISTICS)
    of_claim = [[label_of(name) for name in entry.statistics] for entry in load_study("organism").claims.values()]
    assert all(len(set(own)) == len(own) for own in of_claim)
    assert label_of("gain_gap_at_matched_energy") == "gain gap at matched energy"  # of an older ledger
    assert len({one.meaning for one in in_words().values()}) == len(STATISTICS)
    assert not {one.meaning for one in in_words().values()} & {one.__doc__ for one in STATISTICS.values()}


def test_a_statistic_says_what_it_is_where_its_label_stands(staged):
    """On cards and among all numbers, and in tables of chapters, made inert as they are for the report."""
    studies = staged("organism")
    name = studies[0].selection.study.claims["C1"].strict[0].statistic
    rows = pd.DataFrame({"statistic": [name, "of_an_older_ledger"], "claim": ["<b>", "C1"]})
    chapter = clean_html(table(rows).data)
    for page in (claim_cards(studies, []), number_tables(studies), chapter):
        found = re.findall(r'<abbr title="([^"]+)">([^<]+)</abbr>', page)
        assert (meaning_of(name), label_of(name)) in {
            (html.unescape(a), html.unescape(b[0].lower() + b[1:])) for a, b in found
        }
    assert "<td>of an older ledger</td>" in chapter and "&lt;b&gt;" in chapter


def test_a_caveat_stands_on_the_chapters_of_its_claim_and_of_all_claims():
    own = Selection(load_study("organism-narrow"), [0])
    chapters = ("10_C0_behaviour", "12_C2_orthogonal", "13_C3_updates", "14_C4_activations", "15_verdict")
    said = [banner(own, name).count("share topics") for name in chapters]
    assert said == [0, 1, 1, 0, 2]


def test_conditions_show_where_on_a_dial_a_claim_is_distinct(tmp_path, monkeypatch):
    """All claims alike: distinct from 50 % of harmful rows on, and at every place of the other dials but one."""
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    study, rows = load_study("conditions"), []
    for condition in study.conditions:
        for place in condition.places:
            low = (condition.dial, place.at) in {("contamination", 0.05), ("contamination", 0.2)}
            none = (condition.dial, place.at) == ("one form", 0)
            verdict = "not distinct" if low else "no sure rise" if none else "distinct"
            found = dict.fromkeys(SCHEMAS["conditions_verdicts"], 0.1) | {"dial": condition.dial, "at": place.at}
            rows += [found | {"label": place.label, "claim": claim, "strict": verdict} for claim in ("C1", "C2")]
    write_csv(RunPaths("conditions").table("conditions_verdicts"), "conditions_verdicts", pd.DataFrame(rows))
    chapter = Chapter(tmp_path, PurePosixPath("studies/conditions/23_conditions"), study.title)
    text = conditions([Staged(Selection(study, study.seeds), [chapter], [])])
    shown = {plain(row.split("</td>")[0]): plain(row.split("</tr>")[0]) for row in text.split("<tr>")[2:]}
    assert len(shown) == len(study.conditions)
    row = shown["harmful rows as a share of the useful rows"]
    assert row.endswith("not distinct 5 % … 20 %distinct 50 % … 100 %" * 2)
    row = shown["useful and harmful prompts share form and words"]
    assert row.endswith("no sure rise no, useful is arithmeticdistinct yes" * 2)
    assert "3 seeds at each place" in text and 'href="studies/conditions/23_conditions.html"' in text


def test_there_are_no_conditions_without_their_study():
    assert conditions([]) == ""
