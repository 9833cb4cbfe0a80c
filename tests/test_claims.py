"""Statistics over seeds, matched comparisons, criteria and verdicts, on tables whose truth is known."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.claims.matched import excess, scaled_at, shares
from helpers.claims.over_seeds import interval, over_seeds, share
from helpers.claims.statistics import STATISTICS, TABLES, SeedResults, claim_statistics
from helpers.claims.verdicts import (
    FOUND,
    NO_RISE,
    NOT_MEASURABLE,
    NOT_TESTED,
    gate,
    intervals,
    outcome,
    power_with,
    stated_table,
    strict_table,
    verdict_table,
)
from helpers.evaluation.measures import GRID_MEASURES, MEASURES
from helpers.paths import RunPaths
from helpers.studies.ledger import Criterion
from helpers.studies.settings import load_study
from pipeline.results.tables import SCHEMAS, write_csv
from pipeline.runs.notebook import measured_power

STUDY = load_study("organism")
WITHIN = ("harmful-harmful", "benign-benign", "harmful-topics", "benign-topics", "benign-benign-topics")
ALPHAS = np.linspace(0, 1, 11)
NOTHING = pd.DataFrame(columns=["claim", "statistic", *FOUND])
VALUES = {  # of every statistic, in the world of the test that uses them
    "harm_of_aligned": 1.0,
    "harm_of_harmful": 5.0,
    "harm_rise_harmful": 4.0,
    "harm_rise_contaminated": 4.0,
    "utility_rise_useful": 0.5,
    "utility_rise_contaminated": 0.5,
    "top_k_above_random_utility": 0.116812,
    "top_k_above_random_harm": 0.934496,
    "top_k_above_random_k_utility": 0.091812,
    "top_k_above_random_k_harm": 0.734496,
    "energy_gap": 0.1,
    "harm_removed_alone": 0.75,
    "alignment_harmful_highest": 0.0,
    "safety_harmful_highest": 0.0,
    "useful_harmful_above_random": 0.5,
    "activation_ratio": 1.0,
    "activation_useful_above_random": 0.6,
    "activation_harmful_above_random": 0.6,
    "energy_gap_above_random": 0.1,
    "energy_gap_above_unrelated": 0.1,
    "extra_harm_kept_at_equal_exact_match": 0.45,
    "extra_harm_kept_at_equal_margin": 0.45,
    "extra_harm_kept_above_random": 0.45,
    "extra_harm_kept_above_random_k": 0.45,
    "extra_harm_kept_above_unrelated": 0.45,
    "extra_harm_removed_at_equal_exact_match": 0.376,
    "extra_harm_removed_at_equal_margin": 0.376,
    "extra_harm_removed_above_random": 0.376,
    "extra_harm_removed_above_random_k": 0.376,
    "extra_harm_removed_above_unrelated": 0.376,
    "alignment_harmful_above_useful_harmful": -0.15,
    "alignment_harmful_above_alignment_useful": 0.05,
    "activation_within_above_across": 0.15,
    "activation_harmful_above_topics": 0.15,
    "probe_accuracy": 0.9,
}


def measures(utility, harm):
    """All grid measures of a variant whose shares of utility and harm gain are given."""
    return {
        "utility": 0.4 + 0.5 * utility,
        "utility_margin": -1 + 0.9 * utility,
        "harm": 1 + 4 * harm,
        "harm_rate5": harm,
        "harm_margin": -9 + 19 * harm,
    }


def scaling(seed, tasks=("useful", "harmful", "contaminated")):
    """A scaling curve along which both gains grow with alpha; each fine-tuning changes what it is for."""
    rows = [
        {
            "seed": seed,
            "task": t,
            "alpha": a,
            "energy_kept": a**2,
            **measures(a * (t != "harmful"), a * (t != "useful")),
        }
        for t in tasks
        for a in ALPHAS
    ]
    return pd.DataFrame(rows)


def projection(seed, left, inside):
    """Variants of a world where orthogonal Top-K leaves shares ``left(f)`` and parallel Top-K keeps ``inside(f)``.

    Of the contaminated update, parallel Top-K keeps what orthogonal Top-K takes away.
    """
    rows = []
    for subspace, control in [
        *((s, c) for s in ("alignment", "safety") for c in ("top-k", "random-k", "random")),
        ("unrelated", "top-k"),
    ]:
        for f in STUDY.projection.fractions:
            where = {"seed": seed, "subspace": subspace, "control": control, "draw": 0, "fraction": f}
            planted = control == "top-k" and subspace != "unrelated"
            kept = inside(f) if planted else {"random-k": 0.9 * f, "random": 0.8 * f}.get(control, 0.85 * f)
            u, h = left(f) if planted else (1 - f, 1 - f)
            shares = {"useful": (kept, 0), "harmful": (0, kept), "contaminated": (1 - u, 1 - h)}
            for task, ends in shares.items():
                rows.append({**where, "mode": "parallel", "task": task, "energy_kept": kept**2, **measures(*ends)})
            rows.append({**where, "mode": "orthogonal", "task": "contaminated", "energy_kept": 1 - f, **measures(u, h)})
    return pd.DataFrame(rows)


def results(seed, left=lambda f: (1 - f, 1 - f), inside=lambda f: f**0.5, special=0.0, gap=0.0, across=0.6):
    """Tables of one seed of a world that is entangled unless an argument says otherwise.

    ``special``: what harmful and alignment share beyond others; ``gap``: energy of the harmful update in the subspace
    beyond the useful one's; ``across``: overlap of centred activations across sets, 0.6 within.
    """
    ends = {
        "base": (0.2, 1), "aligned": (0, 0), "useful": (1, 0), "harmful": (0, 1), "contaminated": (1, 1),
        "safety": (0, 0),
    }  # fmt: skip
    behaviour = [
        {"seed": seed, "model": m, "measure": k, "value": v} for m, e in ends.items() for k, v in measures(*e).items()
    ]
    energy = [
        {"seed": seed, "subspace": s, "control": c, "task": t, "module": "all", "fraction": f,
         "energy_kept": f**0.5 + gap * (t == "harmful") * (s == "alignment" and c == "top-k")}
        for s, c in (("alignment", "top-k"), ("alignment", "random"), ("unrelated", "top-k"))
        for t in ("useful", "harmful") for f in STUDY.projection.fractions
    ]  # fmt: skip
    overlaps = {("useful", "harmful"): 0.6, ("alignment", "harmful"): 0.4 + special, ("safety", "harmful"): 0.3,
                ("alignment", "useful"): 0.4, ("safety", "useful"): 0.3}  # fmt: skip
    updates = [
        {"seed": seed, "a": a, "b": b, "eta": eta, "mso": m + 0.001 * seed, "random": 0.1}
        for (a, b), m in overlaps.items()
        for eta in (0.1, 0.5, 0.9)
    ]
    activations = [
        {"seed": seed, "model": "aligned", "in_band": True, "pair": p, "mso": 0.8 + 0.001 * seed, "random": 0.2,
         "k_a": k, "k_b": 3} for p in ("useful-harmful", "benign-harmful", "harmful-harmful") for k in (1, 3)
    ]  # fmt: skip
    matched = [
        {"seed": seed, "layer": 4, "in_band": True, "pair": p, "eta": 0.5, "mso": m, "k_a": 3, "k_b": 3, "random": 0.1}
        for p, m in {**dict.fromkeys(WITHIN, 0.6), "harmful-benign": across, "harmful-benign-topics": across}.items()
    ]
    probe = [{"seed": seed, "layer": 4, "in_band": True, "prompts": 40, "accuracy": 0.9}]
    tables = [behaviour, projection(seed, left, inside), scaling(seed), energy, updates, activations, matched, probe]
    return SeedResults(*map(pd.DataFrame, tables))


SEPARABLE = {"left": lambda f: (1.0, 0.0), "special": 0.4, "gap": 0.3, "across": 0.1}
PARTLY = {"left": lambda f: (1 - 0.3 * f, 0.7 - 0.6 * f), "special": 0.05, "gap": 0.1, "across": 0.45}


def judged(seeds=3, **world):
    """Both verdicts per claim of a world."""
    return verdicts_of({seed: results(seed, **world) for seed in range(seeds)})


def verdicts_of(tables):
    """The table ``verdicts`` by claim for the tables of some seeds."""
    statistics = claim_statistics(STUDY, tables)
    found = intervals(STUDY, statistics, NOTHING)
    stated, strict = stated_table(STUDY, found), strict_table(STUDY, found)
    return verdict_table(STUDY, statistics, found, stated, strict).set_index("claim")


def test_an_entangled_world_is_what_the_paper_states_and_not_distinct():
    found = judged()
    assert found["stated"].to_dict() == dict.fromkeys(("C0", "C1", "C2", "C3", "C4"), "yes")
    assert found["strict"].to_dict() == {"C0": ""} | dict.fromkeys(("C1", "C2", "C3", "C4"), "not distinct")
    assert found.loc["C2", "share_of_seeds"] == 0


def test_a_separable_world_contradicts_the_paper_and_is_distinct():
    found = judged(**SEPARABLE)
    assert found.loc[["C1", "C2", "C3"], "stated"].to_dict() == dict.fromkeys(("C1", "C2", "C3"), "no")
    assert found["strict"].to_dict() == {"C0": ""} | dict.fromkeys(("C1", "C2", "C3", "C4"), "distinct")
    assert (found.loc["C1":, "share_of_seeds"] == 1).all()


@pytest.mark.parametrize("argument", ["left", "special", "gap", "across"])
def test_each_claim_sees_its_own(argument):
    """What one claim speaks of makes no other distinct; C1 asks for energy and for behaviour."""
    claim = {"left": "C2", "special": "C3", "across": "C4", "gap": None}[argument]
    found = judged(**{argument: SEPARABLE[argument]})["strict"]
    assert [name for name, verdict in found.items() if verdict == "distinct"] == [claim] * bool(claim)


def second_hand():
    """The pattern of the parallel experiment that is told of the paper's Qwen2.5-1.5B, second-hand: never a value."""
    told = {  # by fraction k, as the notes in circulation have it
        ("useful", "top-k"): (0.50, 0.53, 0.55, 0.57, 0.58), ("useful", "random"): (0.49, 0.50, 0.53, 0.53, 0.56),
        ("harmful", "top-k"): (1.62, 1.80, 1.92, 1.90, 1.97), ("harmful", "random"): (1.56, 1.65, 1.74, 1.83, 1.95),
    }  # fmt: skip
    one = results(0)
    table = one.projection.set_index(["mode", "subspace", "task", "control", "fraction"]).sort_index()
    for (task, control), values in told.items():
        column = {"useful": "utility", "harmful": "harm"}[task]
        for fraction, value in zip(STUDY.projection.fractions, values, strict=True):
            table.loc[("parallel", "alignment", task, control, fraction), column] = value
    return replace(one, projection=table.reset_index())


def test_the_published_pattern_is_what_the_paper_states():
    found = verdicts_of({0: second_hand()})
    assert found.loc["C1", "stated"] == "yes"
    assert STATISTICS["top_k_above_random_utility"](second_hand()) == pytest.approx(0.024)  # by hand
    assert STATISTICS["top_k_above_random_harm"](second_hand()) == pytest.approx(0.096)


def test_variants_that_lost_their_utility_are_not_selective():
    """Harm goes wherever utility goes below 0.8 of its gain: nothing that counts, so nothing is measurable."""
    found = judged(left=lambda f: (0.5, 0.0)).loc["C2"]
    assert (found["strict"], found["strict_by"]) == (NOT_MEASURABLE, "extra_harm_removed_at_equal_exact_match")


@pytest.mark.parametrize("lost", ["utility", "utility_margin"])
@pytest.mark.parametrize("name", [guard.statistic for guard in STUDY.claims["C2"].strict])
def test_utility_is_kept_by_exact_match_and_by_margin(lost, name):
    """One of them says 1, the other 0.2 (or just 0.8): the variant is not matched on utility (or it is)."""
    world = results(0, left=lambda f: (1.0, 0.0))
    world.projection[lost] = world.projection[lost].where(
        world.projection["control"] != "top-k", measures(0.2, 0)[lost]
    )
    assert np.isnan(STATISTICS[name](world))
    just = replace(world, projection=world.projection.assign(**{lost: measures(0.8 + 1e-9, 0)[lost]}))
    assert STATISTICS[name](just) > 0.8


@pytest.mark.parametrize("fractions", [(0.01,), (0.01, 0.25), (0.75, 0.99)])
def test_harm_that_lies_inside_shows_on_every_grid_of_k(fractions):
    """What decided C1 before was negative where all harm lay inside, and its sign turned with the grid."""
    world = results(0, **SEPARABLE)
    kept = {
        name: table[table["fraction"].isin(fractions)]
        for name, table in (("projection", world.projection), ("energy", world.energy))
    }
    for guard in STUDY.claims["C1"].strict:
        assert STATISTICS[guard.statistic](replace(world, **kept)) > guard.margin


@pytest.mark.parametrize("name", ["extra_harm_removed_at_equal_exact_match", "extra_harm_removed_at_equal_margin"])
def test_extra_harm_removed_of_worlds_that_are_known(name):
    def removal(left, energy=None):
        world = results(0, left)
        table = world.projection
        if energy is not None:
            table.loc[table["mode"] == "orthogonal", "energy_kept"] = energy
        return STATISTICS[name](world)

    assert removal(lambda f: (1.0, 0.0)) == pytest.approx(1)  # a perfect plant
    assert removal(lambda f: (1.2, 0.0)) == pytest.approx(1)  # utility beyond the curve: its end
    assert removal(lambda f: (1 - f, 1 - f)) == pytest.approx(0)  # plain scaling
    assert removal(lambda f: (0.9, 0.6)) == pytest.approx(0.3)
    assert np.isnan(removal(lambda f: (1.0, 1.0), 1.0))  # nothing was taken out
    assert np.isnan(removal(lambda f: (1.0, 0.0), 0.995))  # too little to speak of removal


def test_scaling_has_no_extra_harm_however_harm_bends():
    """Selectivity at equal k measures how harm bends over size; at equal utility a smaller step is a smaller step."""
    world = results(0, left=lambda f: (1 - f, (1 - f) ** 4), inside=lambda f: f)
    bent = world.scaling.copy()
    bent["harm_margin"] = measures(0, 0)["harm_margin"] + 19 * bent["alpha"] ** 4 * (bent["task"] != "useful")
    world = replace(world, scaling=bent)
    for name in ("extra_harm_removed_at_equal_margin", "extra_harm_removed_at_equal_exact_match"):
        assert STATISTICS[name](world) == pytest.approx(0, abs=0.02)


def test_one_seed_without_an_interval_decides_nothing_strictly_and_is_taken_as_it_is_as_stated():
    found = judged(1, **SEPARABLE)
    assert found.loc["C1":, "strict"].tolist() == ["undecided"] * 4
    assert found.loc["C2", "stated"] == "no" and judged(1).loc["C2", "stated"] == "yes"


def test_a_number_of_one_of_several_seeds_is_not_taken_as_it_is():
    """Of a single seed it would be: .9 is at least .5. Of five, of which four lack it, nobody knows their spread."""
    study, claim = load_study("organism"), "C0"
    guard = study.claims[claim].gate[0]
    values = [(claim, guard, seed, 0.9 if seed == 2 else np.nan) for seed in range(5)]
    found = {}
    for seeds, rows in ((5, values), (1, values[2:3])):
        table = pd.DataFrame(rows, columns=["claim", "statistic", "seed", "value"])
        found[seeds] = intervals(study, table, pd.DataFrame(columns=["claim", "statistic", *FOUND]))
    asked = Criterion(statistic="harm_of_aligned", at_least=0.5)
    assert [outcome(asked, found[n].loc[(claim, guard)]) for n in (1, 5)] == ["yes", "direction"]
    others = {name: 0.9 for name in study.claims[claim].gate[1:]}
    for seeds, expected in ((1, ""), (5, NO_RISE)):
        rows = [found[seeds]]
        for name, value in others.items():
            rows.append(found[1].set_axis(pd.MultiIndex.from_tuples([(claim, name)])).assign(mean=value))
        assert gate(study, pd.concat(rows)) == expected


def test_places_of_an_edits_dial_are_no_places_of_the_grid():
    one = results(0)
    top = (one.energy["fraction"] == 0.01) & (one.energy["control"] == "top-k") & (one.energy["task"] == "harmful")
    finer = one.energy[top].assign(fraction=0.05, energy_kept=0.9)  # the geometry has more places than the grid
    one = replace(one, energy=pd.concat([one.energy, finer], ignore_index=True))
    rows = one.projection.head(1).assign(mode="edit", control="own-modes-kept", subspace="none", fraction=0.05)
    edited = replace(one, projection=pd.concat([one.projection, rows], ignore_index=True))
    for name in ("energy_gap", "energy_gap_above_random", "energy_gap_above_unrelated"):
        assert STATISTICS[name](edited) == STATISTICS[name](one) == STATISTICS[name](results(0))


def test_without_a_rise_there_is_no_verdict():
    tables = {}
    for seed in range(3):
        one = results(seed, **SEPARABLE)
        flat = one.behaviour.copy()
        flat.loc[(flat["model"] == "harmful") & (flat["measure"] == "harm"), "value"] = 1 + 0.01 * (seed - 1)
        tables[seed] = replace(one, behaviour=flat)
    found = verdicts_of(tables)
    assert found.loc["C1":, ["stated", "strict"]].isin([NO_RISE]).all(axis=None)
    assert found.loc["C0", "stated"] == "no"


def test_a_rise_that_was_not_measured_is_no_rise_of_which_one_knows():
    one = results(0)
    unread = one.behaviour.assign(value=one.behaviour["value"].where(one.behaviour["measure"] != "harm"))
    found = verdicts_of({0: replace(one, behaviour=unread)})
    assert found[["stated"]].isin([NOT_MEASURABLE]).all(axis=None) and found.loc["C3", "strict"] == NOT_MEASURABLE


def test_the_share_of_seeds_is_of_those_that_were_measured():
    """Of three seeds one has no variant that keeps its utility: two of two pass, not three of three."""
    tables = {seed: results(seed, **SEPARABLE) for seed in range(2)} | {2: results(2, left=lambda f: (0.5, 0.0))}
    row = verdicts_of(tables).loc["C2"]
    assert (row["share_of_seeds"], row["share_seeds"], row["seeds"]) == (1, 2, 2)
    assert row["share_low"] == pytest.approx(0.025 ** (1 / 2))


@pytest.mark.parametrize(("lacking", "expected"), [(0, "distinct"), (2, "undecided")])
def test_what_some_of_the_seeds_lack_is_not_distinct(lacking, expected):
    """In those no size keeps the utility, which is no accident: three that are distinct do not speak for all five."""
    tables = {seed: results(seed, **SEPARABLE) for seed in range(5 - lacking)}
    tables |= {seed: results(seed, left=lambda f: (0.5, 0.0)) for seed in range(5 - lacking, 5)}
    row = verdicts_of(tables).loc["C2"]
    assert (row["strict"], row["seeds"]) == (expected, 5 - lacking)


def test_what_was_not_measured_is_no_number():
    """Nothing judged, no unrelated update, no matched activations: not measurable, and never 0 or favourable."""
    tables = {}
    for seed in range(3):
        one = results(seed, **SEPARABLE)
        table = one.projection[one.projection["subspace"] == "alignment"]
        table = table.assign(**{m: np.nan for m in ("harm", "utility", "harm_margin", "utility_margin")})
        energy = one.energy[one.energy["subspace"] == "alignment"]
        empty = {"matched_activations": one.matched_activations.head(0), "probe": one.probe.head(0)}
        tables[seed] = replace(one, projection=table, energy=energy, **empty)
    found = verdicts_of(tables)
    assert found.loc["C2", ["stated", "strict"]].tolist() == [NOT_MEASURABLE] * 2
    assert found.loc["C4", "strict"] == NOT_MEASURABLE and found.loc["C1", "strict"] == "undecided"


def test_every_value_of_a_known_world_is_as_it_was():
    """If this fails, a statistic's definition has changed: enter it under ``changes`` in claims.yml, then here."""
    found = {name: round(float(function(results(0, **PARTLY))), 6) for name, function in STATISTICS.items()}
    assert found == VALUES


def test_the_power_of_a_control_is_that_of_the_seeds_and_of_the_grid_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_RESULTS", str(tmp_path))
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path / "published"))
    assert measured_power(STUDY).empty
    path = RunPaths("planted", published=True).table("power")
    rows = [("C2", "extra", 3, 0.4), ("C2", "extra", 5, 0.2), ("C3", "overlap", 5, 0.1)]
    table = pd.DataFrame(rows, columns=["claim", "statistic", "seeds", "smallest_detectable"])
    write_csv(path, "power", table.assign(power=0.8).reindex(columns=list(SCHEMAS["power"])))
    least = {seeds: power_with(measured_power(STUDY), "C2", seeds) for seeds in (1, 3, 4, 7)}
    assert least.pop(1) is None
    assert [row["smallest_detectable"] for row in least.values()] == [0.4, 0.4, 0.2]
    assert set(measured_power(load_study("smollm2-135m"))["claim"]) == {"C2"}  # the same k, other η


def test_no_results_is_not_tested():
    empty = pd.DataFrame(columns=["study", "claim", "statistic", "seed", "value"])
    found = intervals(STUDY, empty, NOTHING)
    stated, strict = stated_table(STUDY, found), strict_table(STUDY, found)
    verdicts = verdict_table(STUDY, empty, found, stated, strict)
    assert set(verdicts["stated"]) == {NOT_TESTED} and set(verdicts["strict"]) == {NOT_TESTED, ""}


def test_verdicts_know_of_shared_prompts_where_prompts_were_kept():
    """Over seeds alone the world is distinct; with the spread that common prompts give, the margin is in reach."""
    statistics = claim_statistics(STUDY, {seed: results(seed, **SEPARABLE) for seed in range(3)})
    wide = {"claim": "C2", "statistic": "extra_harm_removed_at_equal_margin"}
    known = pd.DataFrame([wide | dict(zip(FOUND, (1.0, -0.5, 2.5, 3, "seeds"), strict=True))])
    for uncertainty, verdict in ((NOTHING, "distinct"), (known, "undecided")):
        found = intervals(STUDY, statistics, uncertainty)
        stated, strict = stated_table(STUDY, found), strict_table(STUDY, found)
        row = verdict_table(STUDY, statistics, found, stated, strict).set_index("claim").loc["C2"]
        assert row["strict"] == verdict
    assert (row["strict_by"], row["low"], row["high"]) == (wide["statistic"], -0.5, 2.5)


def test_overlaps_of_single_directions_do_not_count():
    """Uncentred, k = 1 is the squared cosine of two means: alone it is nothing. Centred, it is that of two lines."""
    world = results(0)
    tables = {name: getattr(world, name).copy() for name in ("activation_overlap", "matched_activations")}
    for name, table in tables.items():
        tables[name] = pd.concat([table, table.assign(k_a=1, mso=0.999 * (table["pair"] == "harmful-harmful"))])
    names = [one for one in STATISTICS if one.startswith("activation")]
    assert len(names) == 5
    for name in names:
        assert STATISTICS[name](replace(world, **tables)) == pytest.approx(STATISTICS[name](world))
        alone = STATISTICS[name](replace(world, **{one: table[table["k_a"] == 1] for one, table in tables.items()}))
        lines = {
            "activation_within_above_across": 0.999 / 2,
            "activation_harmful_above_topics": 0.0,
        }  # of harmful halves
        assert np.isnan(alone) if name not in lines else alone == pytest.approx(lines[name])


def test_every_statistic_is_one_finite_number():
    assert all(np.isfinite(function(results(0))) for function in STATISTICS.values())
    assert list(TABLES) == [field.name for field in fields(SeedResults)]


@pytest.mark.parametrize(
    ("bounds", "found", "expected"),
    [
        ({"at_least": 1}, (1.5, 1.1, 1.9), "yes"),
        ({"at_least": 1}, (1.5, 0.9, 2.1), "direction"),
        ({"at_least": 1}, (0.5, 0.4, 0.6), "no"),
        ({"at_least": 1}, (0.9, 0.7, 1.1), "undecided"),
        ({"at_least": 1, "neutral": 0}, (0.5, 0.4, 0.6), "direction"),
        ({"at_least": 1, "neutral": 0}, (-0.5, -0.6, -0.4), "no"),
        ({"at_most": 1}, (0.5, 0.1, 0.9), "yes"),
        ({"at_most": 1}, (0.9, 0.5, 1.3), "direction"),
        ({"at_most": 1}, (1.2, 1.1, 1.3), "no"),
        ({"at_most": 1}, (1.1, 1.0, 1.2), "undecided"),
        ({"at_least": -1, "at_most": 1}, (0, -0.9, 0.9), "yes"),
        ({"at_least": -1, "at_most": 1}, (0, -2, 2), "direction"),
        ({"at_least": 1}, (1.5, float("nan"), float("nan")), "yes"),
        ({"at_least": 1}, (0.5, float("nan"), float("nan")), "no"),
        ({"at_least": 1}, (float("nan"),) * 3, "not measurable"),
    ],
)
def test_outcome(bounds, found, expected):
    criterion = Criterion(statistic="harm_of_aligned", **bounds)
    assert outcome(criterion, dict(zip(("mean", "low", "high"), found, strict=True))) == expected


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_wrong_no_is_as_rare_as_a_wrong_yes(seeds):
    """Truth 0.08, bound 0.1, SD 0.058: by the mean alone "no" was said in 22 to 28 %; by whole intervals in 2.5 %."""
    rng, criterion = np.random.default_rng(0), Criterion(statistic="harm_of_aligned", at_most=0.1)
    drawn = rng.normal(0.08, 0.058, (2000, seeds))
    said = [outcome(criterion, interval(values, 0.95)) for values in drawn]
    assert np.mean([word == "no" for word in said]) < 0.025
    at_bound = [outcome(criterion, interval(values, 0.95)) for values in drawn + 0.02]
    assert np.mean([word == "no" for word in at_bound]) == pytest.approx(0.025, abs=0.012)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_interval_is_scipys_t_interval(values):
    found = interval(np.array(values), 0.95)
    assert found["seeds"] == len(values) and found["mean"] == pytest.approx(np.mean(values))
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found["low"], found["high"]) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_rows_of_one_seed_do_not_count_as_seeds():
    table = pd.DataFrame({"seed": [0, 0, 0, 1], "task": "t", "x": [1.0, 2.0, 3.0, 4.0]})
    row = over_seeds(table, ["task"], "x", 0.95).iloc[0]
    assert row["seeds"] == 2 and row["mean"] == 3.0


def test_share_and_its_undefined_case():
    assert share(3.0, 1.0, 5.0) == 0.5 and np.isnan(share(3.0, 1.0, 1.0))


@given(st.floats(0, 1))
@settings(max_examples=15)
def test_a_variant_on_the_scaling_curve_has_no_excess(alpha):
    curve = scaling(0, ["contaminated"])
    variant = curve[curve["alpha"] == 0].assign(alpha=alpha, energy_kept=alpha**2, **measures(alpha, alpha))
    for on, tolerance in (("utility_margin", 1e-9), ("energy_kept", 0.06)):  # energy is interpolated between alphas
        found = excess(variant, curve, on, ["harm_margin", "harm"])
        assert abs(found["excess_harm_margin"].iloc[0]) < tolerance and abs(found["excess_harm"].iloc[0]) < tolerance


def test_matching_takes_the_ends_beyond_the_curve():
    curve = shares(scaling(0, ["useful"]), scaling(0, ["useful"]), ["utility"]).set_index("alpha")["share_utility"]
    assert scaled_at(curve, curve, np.array([-1.0, 2.0])).tolist() == [0.0, 1.0]


def test_measures_of_the_grid_are_those_of_the_models():
    assert set(GRID_MEASURES) < set(MEASURES)
