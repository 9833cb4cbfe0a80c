"""The tables of a seed as they would be with a defect of the released code that needs no model to be switched on."""

from dataclasses import replace

import pandas as pd

from helpers.claims.results import SeedResults

EMBEDDING = "embed_tokens"


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
