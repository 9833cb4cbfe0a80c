"""The page *Explorer*: the tables of the studies as data for its script, and what it is to be told beside them.

A table becomes arrays with an axis for everything that can be chosen. They are in one file per study, which the page
fetches by a script element, so that it works from a disk too. All numbers are rounded to three decimals, as shown.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Mapping

import pandas as pd

from helpers.claims.over_seeds import overlaps_over_seeds
from helpers.evaluation.measures import GRID_MEASURES
from helpers.paths import RunPaths
from helpers.studies.settings import Study
from pipeline.report.chapters import Staged
from pipeline.report.templates import render
from pipeline.results.tables import SCHEMAS, read_csv

FOLDER = "explorer"  # of the data, beside the page
AXES = {  # of each array, in its order
    "behaviour": ["mode", "task", "subspace", "control", "measure", "fraction"],
    "levels": ["task", "measure", "alpha"],
    "energy": ["task", "subspace", "control", "module", "fraction"],
    "updates": ["pair", "layer", "module", "eta"],
    "activations": ["model", "pair", "eta", "layer"],
}
TABLES = {  # over all seeds, that each array is made from
    "behaviour": ["parallel_summary", "orthogonal_summary", "scaling_summary"],
    "energy": ["energy_summary"],
    "updates": ["update_overlap_summary"],
    "activations": ["activation_overlap_summary", "matched_activations_summary"],
}
EVERY = "all"  # layers, or modules, together
CENTRED = "aligned, one form, centred"  # stands among the models for the requests of one form
ENDS = (0.0, 1.0)  # α of the aligned and of the fine-tuned model
SHADES = 17  # colours of the maps, between which the page takes the middle


def explorer(staged: Iterable[Staged]) -> dict[str, str]:
    """The files of the page by their places: its data, one for each study that has some, and its own part."""
    found = {study.selection.study.name: study_data(study) for study in staged}
    shown = {name: data for name, data in found.items() if any(data[array] for array in AXES)}
    files = {f"extra/{FOLDER}/{name}.js": as_script(name, data) for name, data in shown.items()}
    others = [study.selection.study.title for study in staged if study.selection.study.name not in shown]
    titles = {name: data["title"] for name, data in shown.items()}
    return files | {"generated/explorer.md": render("explorer.md", setup=json.dumps(setup(titles)), others=others)}


def setup(titles: Mapping[str, str]) -> dict:
    """What the page needs before any study: their titles, and names, colours and marks as the figures have them."""
    from matplotlib import colormaps  # here: a report that is up to date need not wait for it
    from matplotlib.colors import to_hex

    from helpers.figures import COLOURS, LABELS, look

    shades = [to_hex(colormaps["cividis"](place / (SHADES - 1))) for place in range(SHADES)]
    looks = {name: look(name, 0) for name in COLOURS}
    others = [look("", place) for place in range(len(looks))]
    return {"studies": titles, "labels": LABELS, "looks": looks, "others": others, "shades": shades}


def study_data(staged: Staged) -> dict:
    """What the page shows of one study: by the names of ``AXES`` an array, or None where nothing was measured."""
    selection = staged.selection
    study, tables = selection.study, RunPaths(selection.study.name)
    frames = {
        "behaviour": behaviour(tables),
        "levels": _read(tables, "scaling_summary"),
        "energy": _read(tables, "energy_summary"),
        "updates": overlaps_of_updates(staged),
        "activations": overlaps_of_activations(tables),
    }
    levels = frames["levels"]
    frames["levels"] = levels[levels["alpha"].isin(ENDS)]
    facts = {"title": study.title, "seeds": len(selection.seeds), "confidence": study.confidence}
    facts |= {"published": selection.published, "chapters": _chapters(staged)}
    facts["tables"] = {of: [name for name in names if tables.table(name).exists()] for of, names in TABLES.items()}
    return facts | {name: array(frame, AXES[name]) for name, frame in frames.items()}


def _chapters(staged: Staged) -> dict[str, str]:
    """The page of each chapter that the numbers are from, by the name of the array, as far as the study has them."""
    of = {"behaviour": "12_C2_orthogonal", "energy": "11_C1_parallel", "activations": "14_C4_activations"}
    of |= {"updates": "13_C3_updates" if isinstance(staged.selection.study, Study) else "30_own_models"}
    return {name: f"{staged.places[chapter]}.html" for name, chapter in of.items() if chapter in staged.places}


def _read(tables: RunPaths, name: str) -> pd.DataFrame:
    """A table over all seeds; empty where it was not made."""
    path = tables.table(name)
    return read_csv(path, name) if path.exists() else pd.DataFrame(columns=list(SCHEMAS[name]))


def behaviour(tables: RunPaths) -> pd.DataFrame:
    """Behaviour of projected variants over k, of both modes; edits, whose dials are no k, are left to their chapter."""
    kept, removed = _read(tables, "parallel_summary"), _read(tables, "orthogonal_summary")
    both = pd.concat([kept.assign(mode="parallel"), removed.assign(mode="orthogonal")], ignore_index=True)
    return both[both["measure"].isin(list(GRID_MEASURES)) & (both["subspace"] != "none")]


def overlaps_of_updates(staged: Staged) -> pd.DataFrame:
    """Overlaps of pairs over η: of all tensors, of each module, of each layer, and of each module of each layer.

    The last are made here from the tables of the seeds, by the function of the chapters.
    """
    selection = staged.selection
    found = _read(RunPaths(selection.study.name), "update_overlap_summary")
    layer = found["group"].astype(str).where(found["grouping"] == "layer", EVERY)
    module = found["group"].astype(str).where(found["grouping"] == "module", EVERY)
    parts = [found.assign(layer=layer, module=module)]
    folders = [*selection.runs, RunPaths(selection.study.name)]
    paths = [path for folder in folders if (path := folder.table("update_overlap")).exists()]
    if paths:
        seeds = pd.concat([read_csv(path, "update_overlap") for path in paths], ignore_index=True)
        cells = overlaps_over_seeds(seeds, ["layer", "module", "a", "b", "eta"], selection.study.confidence)
        parts.append(cells.assign(layer=cells["layer"].astype(str)))
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(pair=joined["a"] + "-" + joined["b"])


def overlaps_of_activations(tables: RunPaths) -> pd.DataFrame:
    """Overlaps of activations by layer: of the models, and of requests of one form, centred."""
    matched = _read(tables, "matched_activations_summary").assign(model=CENTRED)
    return pd.concat([_read(tables, "activation_overlap_summary"), matched], ignore_index=True)


def array(frame: pd.DataFrame, axes: list[str]) -> dict | None:
    """A table as a dense array: its axes with their places, and its columns in that order, the last axis fastest.

    Raises ValueError if two rows are of the same place.
    """
    if frame.empty:
        return None
    places = {axis: _places(frame[axis]) for axis in axes}
    columns = ["mean", "low", "high", "seeds", *(["random"] if "random" in frame else [])]
    index = pd.MultiIndex.from_product(places.values(), names=axes)
    dense = frame.set_index(axes)[columns].reindex(index)
    known = {column: thousandths(dense[column]) for column in columns if column != "seeds"}
    number = sorted({int(seeds) for seeds in dense["seeds"].dropna()})
    seeds = number[0] if len(number) == 1 else [None if math.isnan(one) else int(one) for one in dense["seeds"]]
    return {"axes": places, "seeds": seeds, **known}


def _places(column: pd.Series) -> list:
    """The different values of a column: numbers from the least on, names in the order in which they come."""
    values = [value.item() if hasattr(value, "item") else value for value in dict.fromkeys(column)]
    return values if any(isinstance(value, str) for value in values) else sorted(values)


def thousandths(column: pd.Series) -> list[int | None]:
    """Numbers rounded to three decimals as the pages of the report round them, in thousandths; None for NaN."""
    return [None if math.isnan(value) else round(float(f"{value:.3f}") * 1000) for value in column]


def as_script(name: str, data: Mapping) -> str:
    """The data of a study as a script that hands them to the page: JSON, deflated (RFC 1951) and in base64."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(json.dumps(data, separators=(",", ":")).encode()) + packer.flush()
    return f'(window.explored ??= {{}})[{json.dumps(name)}] = "{base64.b64encode(packed).decode()}";\n'
