"""What a defect of the released code does to the tables of a seed, and those that need no model to be switched on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd

from helpers.claims.results import SeedResults
from helpers.claims.statistics import STATISTICS, TABLES
from helpers.studies.settings import Study

TASK = "contaminated"  # the update of which numbers are
MODULES = "energy_by_module"  # the table that has the share of each module type
EMBEDDING, HEAD = "embed_tokens", "lm_head"
HALF = 0.5  # k / min(m, n) at which energies are compared
NUMBERS = ["defect", "setting", "quantity", "released", "corrected", "unit"]
VALUES = ["defect", "setting", "claim", "statistic", "released", "corrected"]
Number = tuple[float, float, float]  # as released, corrected, size of the natural unit
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Effect:
    """What a defect does, in one way of having it."""

    setting: str
    numbers: dict[str, Number]
    released: SeedResults | None = None  # the seed's tables with the defect, where it touches them
    corrected: SeedResults | None = None  # and without, where the project's own have it


def effect_tables(number: int, effects: Iterable[Effect], study: Study, own: SeedResults) -> Tables:
    """Tables ``as_released`` and ``as_released_claims`` of one defect: its numbers, and every statistic both ways."""
    numbers, values = [], []
    for effect in effects:
        numbers += [(number, effect.setting, name, *found) for name, found in effect.numbers.items()]
        sides = [results or own for results in (effect.released, effect.corrected)]
        for claim, entry in study.claims.items() if effect.released or effect.corrected else ():
            for name in entry.statistics:
                found = (float(STATISTICS[name](results)) for results in sides)
                values.append((number, effect.setting, claim, name, *found))
    frames = pd.DataFrame(numbers, columns=NUMBERS), pd.DataFrame(values, columns=VALUES)
    return dict(zip(("as_released", "as_released_claims"), frames, strict=True))


def from_tables(study: Study, tables: dict[int, Tables]) -> Tables:
    """What can be said from the tables of the seeds alone: both tables, of all seeds."""
    made = []
    for seed, found in tables.items():
        own = SeedResults(**{name: found[name] for name in TABLES})
        for number, switch in sorted(TABLED.items()):
            effect = switch(study, own, found[MODULES])
            made.append({k: t.assign(seed=seed) for k, t in effect_tables(number, [effect], study, own).items()})
    return {name: pd.concat([one[name] for one in made], ignore_index=True) for name in made[0]}


def no_aligned_model(study: Study, own: SeedResults, modules: pd.DataFrame) -> Effect:
    """Neither base nor aligned model scored, so that no curve begins at α = 0; activations of the last model alone."""
    models = own.activation_overlap["model"]
    left = float((models == models.iloc[-1]).mean())
    return Effect("no-base-scores", {"rows_left": (left, 1.0, 1.0)}, without_aligned(own))


def band_of_hidden_states(study: Study, own: SeedResults, modules: pd.DataFrame) -> Effect:
    """The band with L = blocks + 1, as the project has it too, against L = blocks."""
    corrected = in_band_of_blocks(own, study.activation_overlap.band)
    pair = "in_band and model == 'aligned' and pair == 'useful-harmful'"
    overlaps = [float(r.activation_overlap.query(pair)["mso"].mean()) for r in (own, corrected)]
    return Effect("later-by-one", {"activation_overlap": (*overlaps, 1.0)}, corrected=corrected)


def tied_twice(study: Study, own: SeedResults, modules: pd.DataFrame) -> Effect:
    """The embedding counted once more, as where it is the head as well."""
    released = counted_twice(own, modules)
    kept = [energy_inside(r, HALF) for r in (released, own)]
    return Effect("as-if-tied" if HEAD in set(modules["module"]) else "tied", {"energy": (*kept, 1.0)}, released)


TABLED: dict[int, Callable[[Study, SeedResults, pd.DataFrame], Effect]] = {
    11: no_aligned_model,
    13: band_of_hidden_states,
    17: tied_twice,
}


def energy_inside(results: SeedResults, fraction: float) -> float:
    """Share of the contaminated update's energy in Top-K of the alignment update."""
    rows = results.energy.query("subspace == 'alignment' and control == 'top-k' and module == 'all' and task == @TASK")
    return float(rows.set_index("fraction")["energy_kept"].loc[fraction])


def without_aligned(results: SeedResults) -> SeedResults:
    """The tables without what is known of the base and the aligned model: no scores, no α = 0."""
    table, scaling = results.behaviour, results.scaling
    lost = table["value"].where(~table["model"].isin(["base", "aligned"]))
    measured = scaling.columns.difference(["seed", "task", "alpha", "energy_kept"])
    curve = scaling.assign(**scaling[measured].where(scaling["alpha"] != 0))
    return replace(results, behaviour=table.assign(value=lost), scaling=curve)


def in_band_of_blocks(results: SeedResults, band: list[float]) -> SeedResults:
    """The tables of activations with the band counted by blocks, of which there is one less than hidden states."""
    low, high = (int(share * int(results.activation_overlap["layer"].max())) for share in band)
    tables = {name: getattr(results, name) for name in ("activation_overlap", "matched_activations", "probe")}
    return replace(results, **{name: t.assign(in_band=t["layer"].between(low, high - 1)) for name, t in tables.items()})


def counted_twice(results: SeedResults, modules: pd.DataFrame) -> SeedResults:
    """The energies of all tensors together with the embedding in them once more."""
    share = _share(results.energy, modules, EMBEDDING)
    of_embedding = _of_module(results.energy, EMBEDDING)
    whole = results.energy["module"] == "all"
    twice = (results.energy["energy_kept"] + share * of_embedding) / (1 + share)
    return replace(
        results, energy=results.energy.assign(energy_kept=results.energy["energy_kept"].where(~whole, twice))
    )


def vectors_alike(results: SeedResults, modules: pd.DataFrame, vectors: set[str]) -> SeedResults:
    """The energies of Random with the module types ``vectors``, which are no matrices, kept as they are in Top-K."""
    energy, kept = results.energy, results.energy["energy_kept"].copy()
    random = (energy["module"] == "all") & (energy["control"] == "random")
    for module in vectors:
        as_top = _of_module(energy.assign(control=energy["control"].replace("random", "top-k")), module)
        kept += (_share(energy, modules, module) * (as_top - _of_module(energy, module))).where(random, 0.0)
    return replace(results, energy=energy.assign(energy_kept=kept))


def _share(energy: pd.DataFrame, modules: pd.DataFrame, module: str) -> pd.Series:
    """Of each row of ``energy``, the share of its task's update that lies in a module type."""
    return energy["task"].map(modules[modules["module"] == module].set_index("update")["share"])


def _of_module(energy: pd.DataFrame, module: str) -> pd.Series:
    """Of each row of ``energy``, that of a module type with the same subspace, control, task and fraction."""
    keys = ["subspace", "control", "task", "fraction"]
    own = energy[energy["module"] == module].drop_duplicates(keys).set_index(keys)["energy_kept"]
    return pd.Series(own.reindex(pd.MultiIndex.from_frame(energy[keys])).to_numpy(), energy.index)
