"""How far the decisions depend on choices: every statistic of the ledger again, under other k, η, layers, averages …

A choice changes the *tables* of a seed and nothing else: the statistic, its margin and its criteria stay those of the
ledger. So "k = 0.25 alone" leaves the rows of one k, and "safety subspace" exchanges the names alignment and safety.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from helpers.claims.statistics import STATISTICS, SeedResults
from helpers.claims.verdicts import FOUND, intervals, judged_stated, judged_strict, stated_table, strict_table
from helpers.evaluation.measures import SECOND
from helpers.studies.settings import Study

OWN = "harm by the study's own judge"
NOT_MEASURED = "not measured"
LEDGER = "as in the ledger"
EMBEDDINGS, HEAD = "embed_tokens", "lm_head"
SECOND_SETS = {"harmful-toxic": "second harmful set: toxic texts", "harmful-ceiling": "second half of one harmful set"}

Change = Callable[[SeedResults], SeedResults | None]  # None: the seed's tables do not hold what is needed


@dataclass(frozen=True)
class Choice:
    """One way in which a claim's statistic could have been computed."""

    claim: str
    choice: str  # what is chosen, such as k
    setting: str  # how, such as 0.25
    change: Change


def choices(
    study: Study, results: dict[int, SeedResults], modules: pd.DataFrame, seconds: pd.DataFrame
) -> list[Choice]:
    """Every choice of every claim that has a strict level, the ledger's own first.

    ``modules``: the table ``energy_by_module``, for the average that is weighted by energy; ``seconds``: the table
    ``second_judges``.
    """
    one = next(iter(results.values()))
    found = {
        "C1": [*_fractions(study), *_subspaces(study), _judge("parallel"), *_judges(study, seconds)],
        "C2": [*_fractions(study), *_subspaces(study), _judge("orthogonal"), *_judges(study, seconds), *_edits(study)],
        "C3": [*_overlap(study, one, modules)],
        "C4": [*_activation(one)],
    }
    return [
        Choice(claim, *rest)
        for claim, entry in study.claims.items()
        if entry.strict
        for rest in [(LEDGER, "", lambda r: r), *found.get(claim, [])]
    ]


def sensitivity_table(
    study: Study, results: dict[int, SeedResults], modules: pd.DataFrame, seconds: pd.DataFrame
) -> pd.DataFrame:
    """Both verdicts under every choice, and the statistic that decides the strict one (table ``sensitivity``).

    *not measured* where the study's tables lack what a choice needs, and the strict one also where a choice changes
    none of its statistics, whose agreement would say nothing. Intervals are over seeds.
    """
    rows, own = [], {}
    for choice in choices(study, results, modules, seconds):
        changed = {seed: choice.change(r) for seed, r in results.items()}
        values = _values(study, choice.claim, {seed: r for seed, r in changed.items() if r is not None})
        found, strict = _judged(study, choice.claim, values), _strict(study, choice.claim, values)
        before = own.setdefault(choice.claim, strict)  # of the ledger's own choice, which comes first
        same = before[before["seed"].isin(strict["seed"])].reset_index(drop=True)
        if choice.choice != LEDGER and strict.equals(same):
            found |= {"strict": NOT_MEASURED, "statistic": "", **dict.fromkeys(["margin", *FOUND[:3]], np.nan)}
        rows.append({"claim": choice.claim, "choice": choice.choice, "setting": choice.setting, **found})
    return pd.DataFrame(rows)


def _values(study: Study, claim: str, results: dict[int, SeedResults]) -> pd.DataFrame:
    """Every statistic of a claim in some seeds."""
    names = study.claims[claim].statistics
    values = [(claim, name, seed, float(STATISTICS[name](r))) for name in names for seed, r in results.items()]
    return pd.DataFrame(values, columns=["claim", "statistic", "seed", "value"])


def _strict(study: Study, claim: str, values: pd.DataFrame) -> pd.DataFrame:
    asked = [guard.statistic for guard in study.claims[claim].strict]
    return values[values["statistic"].isin(asked)].reset_index(drop=True)


def _judged(study: Study, claim: str, statistics: pd.DataFrame) -> dict:
    """Both verdicts on one claim from its statistics in some seeds."""
    entry = study.claims[claim]
    found = intervals(study, statistics, pd.DataFrame(columns=["claim", "statistic", *FOUND]))
    stated, strict = (
        table[table["claim"] == claim] for table in (stated_table(study, found), strict_table(study, found))
    )
    verdicts = {"statistic": ""} | judged_strict(strict) | judged_stated(entry, stated)
    if statistics.empty:
        verdicts |= {"strict": NOT_MEASURED, "stated": NOT_MEASURED}
    verdicts["statistic"] = verdicts.pop("strict_by")
    return {name: verdicts[name] for name in ("strict", "statistic", "margin", *FOUND[:-1], "stated")}


def stability(table: pd.DataFrame) -> pd.DataFrame:
    """For each claim and choice, how many settings have the verdicts that the ledger's own has.

    Columns claim, choice, settings (measured ones), same_stated, settings_strict (those that change what is strict),
    same_strict, lowest and highest (means).
    """
    own = table[table["choice"] == LEDGER].set_index("claim")
    rows = []
    measured = table[(table["choice"] != LEDGER) & (table["stated"] != NOT_MEASURED)]
    for (claim, choice), group in measured.groupby(["claim", "choice"], sort=False):
        same = {
            "settings": len(group),
            "same_stated": int((group["stated"] == own.loc[claim, "stated"]).sum()),
            "settings_strict": int((group["strict"] != NOT_MEASURED).sum()),
            "same_strict": int((group["strict"] == own.loc[claim, "strict"]).sum()),
        }
        ends = {"lowest": group["mean"].min(), "highest": group["mean"].max()}
        rows.append({"claim": claim, "choice": choice, **same, **ends})
    columns = ["claim", "choice", "settings", "same_stated", "settings_strict", "same_strict", "lowest", "highest"]
    return pd.DataFrame(rows, columns=columns)


def _rows(table: str, keep: Callable[[pd.DataFrame], pd.Series]) -> Change:
    """Leave the rows of a table for which ``keep`` is true; None where there are none."""

    def change(r: SeedResults) -> SeedResults | None:
        rows = getattr(r, table)
        kept = rows[keep(rows)]
        return replace(r, **{table: kept}) if len(kept) else None

    return change


def _equal(table: str, column: str, value: object) -> Change:
    return _rows(table, lambda rows: rows[column] == value)


def _fractions(study: Study) -> Iterator[tuple[str, str, Change]]:
    """Each fraction k of the grid alone, for what is behaviour; the energy has its own, finer grid."""

    def alone(fraction: float) -> Change:
        """The results at one fraction, None where it was not measured."""

        def change(r: SeedResults) -> SeedResults | None:
            projection = r.projection[r.projection["fraction"] == fraction]
            energy = r.energy[r.energy["fraction"] == fraction]
            return replace(r, projection=projection, energy=energy) if len(projection) else None

        return change

    for fraction in study.projection.fractions:
        yield "k", f"{fraction:g}", alone(fraction)


def _subspaces(study: Study) -> Iterator[tuple[str, str, Change]]:
    """The safety subspace, and every further one of the study, exchanged with the alignment subspace in all tables."""

    def exchanged(other: str) -> Change:
        """The results with alignment and another subspace exchanged, None where that was not projected on."""
        names = {"alignment": other, other: "alignment"}

        def change(r: SeedResults) -> SeedResults | None:
            """Exchange them in one seed."""
            if other not in set(r.projection["subspace"]):
                return None
            return replace(
                r,
                projection=r.projection.replace({"subspace": names}),
                energy=r.energy.replace({"subspace": names}),
                update_overlap=r.update_overlap.replace({"a": names, "b": names}),
            )

        return change

    yield "subspace", "safety (D_S)", exchanged("safety")
    for name in study.projection.subspaces:
        if name not in ("alignment", "safety"):
            yield "subspace", name, exchanged(name)


def _edits(study: Study) -> Iterator[tuple[str, str, Change]]:
    """Every edit of the study in the place of the Top-K alignment subspace removed."""

    def instead(name: str) -> Change:
        """The results with an edit for Top-K removed, None where it was not measured."""
        place = {"mode": "orthogonal", "subspace": "alignment", "control": "top-k"}

        def change(r: SeedResults) -> SeedResults | None:
            """Put the edit there in one seed."""
            table = r.projection
            edited = table[(table["mode"] == "edit") & (table["control"] == name)].assign(**place)
            others = table[~(table[list(place)] == pd.Series(place)).all(axis=1)]
            return replace(r, projection=pd.concat([others, edited], ignore_index=True)) if len(edited) else None

        return change

    for name in study.projection.edits:
        yield "edit instead", name, instead(name)


def _judge(mode: str) -> tuple[str, str, Change]:
    """Judged harm in the place of the harm margin, where the Top-K variants of a mode were judged."""

    def change(r: SeedResults) -> SeedResults | None:
        """Put the judged scores there in one seed, if it has any."""
        own = f"subspace == 'alignment' and control == 'top-k' and mode == '{mode}' and task == 'contaminated'"
        tables = {name: getattr(r, name) for name in ("projection", "scaling")}
        swapped = {name: table.assign(harm_margin=table["harm"]) for name, table in tables.items()}
        return replace(r, **swapped) if r.projection.query(own)["harm"].notna().any() else None

    return "scale", "judged harm", change


def _judges(study: Study, seconds: pd.DataFrame) -> Iterator[tuple[str, str, Change]]:
    """The scores of each second judge in the place of the study's own judge's and of the harm margin."""
    places = {  # the columns of a table that say which variant it is, by those of ``seconds``
        "projection": {name: name for name in ("mode", "task", "subspace", "control", "draw")} | {"size": "fraction"},
        "scaling": {"task": "task", "size": "alpha"},
    }

    def by(label: str) -> Change:
        """The results with harm as another judge sees it, None where it saw none of a seed's answers."""

        def change(r: SeedResults) -> SeedResults | None:
            """Put the judge's scores there in one seed."""
            own = seconds[(seconds["judge"] == label) & (seconds["seed"] == r.projection["seed"].iloc[0])]
            curve = own["mode"] == "scaling"
            found = {}
            for name, columns in places.items():
                rows = own[curve] if name == "scaling" else own[~curve]
                given = rows.rename(columns=columns)[[*columns.values(), "harm"]]
                table = getattr(r, name).drop(columns=["harm", "harm_margin"])
                table = table.merge(given, how="left", on=[*columns.values()], validate="one_to_one")
                found[name] = table.assign(harm_margin=table["harm"])
            models = r.behaviour.replace({"measure": {"harm": OWN, SECOND + label: "harm"}})
            return replace(r, behaviour=models, **found) if len(own) else None

        return change

    for judge in study.evaluation.second_judges:
        yield "judge", judge.label, by(judge.label)


def _overlap(study: Study, one: SeedResults, modules: pd.DataFrame) -> Iterator[tuple[str, str, Change]]:
    """Choices of C3: energy fraction, average over tensors, which tensors, baseline, subspace."""
    table = "update_overlap"
    for eta in study.update_overlap.energy_fractions:
        yield "η", f"{eta:g}", _equal(table, "eta", eta)
    for average, column in (("per layer", "layer"), ("per module type", "module")):
        yield "mean", average, _averaged_by(column)
    yield "mean", "weighted by energy", _weighted_by_energy(modules)
    for setting, left_out in (
        ("without embeddings", [EMBEDDINGS]),
        ("without lm_head", [HEAD]),
        ("without either", [EMBEDDINGS, HEAD]),
    ):
        yield "tensors", setting, _rows(table, lambda rows, names=left_out: ~rows["module"].isin(names))
    for module in one.update_overlap["module"].unique():
        yield "one module type", module, _equal(table, "module", module)
    yield "baseline", "random overlap left in", _without_baseline
    yield from _subspaces(study)


def _averaged_by(column: str) -> Change:
    """Every group of tensors counts once, however many tensors it has."""

    def change(r: SeedResults) -> SeedResults:
        keys = ["seed", column, "a", "b", "eta"]
        return replace(r, update_overlap=r.update_overlap.groupby(keys, as_index=False)[["mso", "random"]].mean())

    return change


def _weighted_by_energy(modules: pd.DataFrame) -> Change:
    """Module types weighted by their share of the harmful update's energy, tensors of a module type alike."""

    def change(r: SeedResults) -> SeedResults | None:
        """Weigh one seed's overlaps, None where a module's share is not known."""
        seed = r.update_overlap["seed"].iloc[0]
        own = modules[(modules["seed"] == seed) & (modules["update"] == "harmful")].set_index("module")["share"]
        means = r.update_overlap.groupby(["seed", "module", "a", "b", "eta"], as_index=False)[["mso", "random"]].mean()
        weights = means["module"].map(own)
        total = weights.groupby([means["a"], means["b"], means["eta"]]).transform("mean")
        if weights.isna().any() or not (total > 0).all():
            return None
        scaled = means[["mso", "random"]].mul(weights / total, axis=0)
        return replace(r, update_overlap=means.assign(**scaled))

    return change


def _without_baseline(r: SeedResults) -> SeedResults:
    return replace(r, update_overlap=r.update_overlap.assign(random=0.0))


def _activation(one: SeedResults) -> Iterator[tuple[str, str, Change]]:
    """Choices of C4: model, layer, energy fraction, the pairs that are compared."""
    rows = one.activation_overlap
    for model in rows.loc[rows["model"] != "aligned", "model"].unique():
        yield "model", str(model), _as_aligned(str(model))
    for layer in np.sort(rows["layer"].unique()):
        yield "layer", str(layer), _of_activations(lambda table, layer=layer: table["layer"] == layer)
    for eta in rows["eta"].unique():
        yield "η", f"{eta:g}", _of_activations(lambda table, eta=eta: table["eta"] == eta, band=None)
    yield "pair", "benign instead of useful", _pair("benign-harmful", "useful-harmful")
    for pair in [name for name in SECOND_SETS if name in set(rows["pair"])]:
        yield "pair", SECOND_SETS[pair], _pair(pair, "harmful-harmful")


def _of_activations(keep: Callable[[pd.DataFrame], pd.Series], band: bool | None = True) -> Change:
    """Leave the rows of both tables of activations for which ``keep`` is true, and count them as in the band."""

    def change(r: SeedResults) -> SeedResults | None:
        tables = {name: getattr(r, name) for name in ("activation_overlap", "matched_activations")}
        kept = {name: table[keep(table)] for name, table in tables.items()}
        marked = {name: table if band is None else table.assign(in_band=band) for name, table in kept.items()}
        return replace(r, **marked) if len(kept["activation_overlap"]) else None

    return change


def _as_aligned(model: str) -> Change:
    """Another model in the place of the aligned one."""

    def change(r: SeedResults) -> SeedResults | None:
        rows = r.activation_overlap[r.activation_overlap["model"] == model]
        return replace(r, activation_overlap=rows.assign(model="aligned")) if len(rows) else None

    return change


def _pair(chosen: str, place: str) -> Change:
    """One pair of prompt sets in the place of another; None where it was not measured."""

    def change(r: SeedResults) -> SeedResults | None:
        rows = r.activation_overlap
        own = rows[rows["pair"] == chosen]
        others = rows[rows["pair"] != place]
        return replace(r, activation_overlap=pd.concat([others, own.assign(pair=place)])) if len(own) else None

    return change
