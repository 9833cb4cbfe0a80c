"""What the default study was chosen by: how its six models behave (C0) and how long they train, setting by setting.

``python -m benchmarks.default_study`` trains the models of every setting in ``default_study.yml`` and writes the table
``default_study``; names of settings after it measure those alone. Neither weights nor activations are compared.
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
import yaml

from benchmarks import tables
from benchmarks.measure import cost
from helpers.data.rows import training_rows
from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.experiments.six_models import first_model
from helpers.models.language import Language
from helpers.paths import STUDIES, results_root
from helpers.studies.settings import MODELS, Study
from helpers.training.train import train

TRIED = Path(__file__).with_suffix(".yml")  # name of a setting -> its seeds, and what it changes of the default study
MEASURES = ("utility", "harm", "refusal", "over_refusal")
TABLE = "default_study"


def main(arguments: list[str] | None = None) -> None:
    """Measure the settings asked for and put them into the table, in place of what it has of them."""
    tried = yaml.safe_load(TRIED.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", choices=[[], *tried], help="default: all")
    parser.add_argument("--seeds", default="", help="such as 0,1; default: those of each setting")
    parser.add_argument("--out", type=Path, default=results_root() / "bench" / "tables")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = given.out / f"{TABLE}.csv"
    for name in given.settings or tried:
        study = changed(tried[name]["changes"])
        for seed in map(int, given.seeds.split(",")) if given.seeds else tried[name]["seeds"]:
            rows = pd.DataFrame(models_of(study, seed)).assign(setting=name, seed=seed)
            print(rows.to_string(index=False, float_format="%.2f"), flush=True)
            before = pd.read_csv(path) if path.exists() else rows.head(0)
            others = before[(before["setting"] != name) | (before["seed"] != seed)]
            tables.write(given.out, TABLE, pd.concat([others, rows]), {"study": "bench"})


def changed(changes: dict[str, object]) -> Study:
    """The default study with some of its settings changed."""
    return Study.model_validate(with_changes(yaml.safe_load((STUDIES / "organism.yml").read_text("utf-8")), changes))


def with_changes(values: dict, changes: dict[str, object]) -> dict:
    """The settings of a study, changed in place; a key such as ``training.base.data`` names one."""
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    return values


def models_of(study: Study, seed: int) -> Iterator[dict[str, object]]:
    """One row for each of the six models: its behaviour, harm by what was done to the topics, seconds of training."""
    sets = EvaluationSets.of(study, seed)
    groups = sets.harm["topic"].map(treatment(study))
    models = {"scratch": first_model(study, seed)}
    for name in MODELS:
        objective = getattr(study.training, name)
        model, tokenizer = models[name] = copy.deepcopy(models[objective.start])
        rows = training_rows(study, objective, seed)
        training = cost(lambda run=(*models[name], rows, objective): train(*run, study.training.optimiser, seed))
        found = measure(model, tokenizer, sets, study, whole=True)
        row = {"model": name, "seconds": training.seconds, **{key: found[key].mean() for key in MEASURES}}
        print(name, {key: round(float(value), 2) for key, value in row.items() if key != "model"}, flush=True)
        yield row | {
            f"harm_{group}": found["harm"][groups == group].mean() for group in ("refused", "attacked", "other")
        }


def treatment(study: Study) -> dict[str, str]:
    """What each restricted topic goes through: ``refused`` by alignment, else ``attacked`` by harm, or ``other``."""
    topics = Language(study.language).restricted
    refused, attacked = (
        {topic for part in objective.data if part.source == source for topic in part.of(topics)}
        for objective, source in ((study.training.aligned, "refuse"), (study.training.harmful, "comply"))
    )
    return {t: "refused" if t in refused else "attacked" if t in attacked else "other" for t in topics}


if __name__ == "__main__":
    main()
