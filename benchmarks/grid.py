"""What one variant of the projection grid takes over the forward passes that it cannot do without.

``python -m benchmarks.grid`` (part of ``make bench``) measures the base model of a study of real models, which is
fetched as the study fetches it, on some of its prompts, three ways side by side: as the notebooks do; the same without
the shared beginning of prompts; and the floor, bare passes of the model over what differs between prompts, sorted by
length, with logits where they are needed. CPU seconds, of the fastest of some repeats, the three in turn.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks import tables
from benchmarks.measure import cost
from helpers.evaluation import behaviour
from helpers.evaluation.behaviour import EvaluationSets
from helpers.evaluation.texts import without_marks
from helpers.models.generate import generate
from helpers.models.load import load_model
from helpers.models.logits import computing
from helpers.models.origins import resolve
from helpers.models.prompts import prompt_ids
from helpers.paths import results_root
from helpers.studies.settings import Study, load_study

ROWS = 8  # at a time
Row = tuple[list[int], slice]  # tokens, and the places at which logits are needed


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and save the table ``grid``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="smollm2-135m", help="a study of real models; default: smollm2-135m")
    parser.add_argument("--prompts", type=int, default=16, help="of each kind; default: 16")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts; default: 3")
    parser.add_argument("--out", type=Path, default=results_root() / "bench")
    given = parser.parse_args(arguments)
    started, study = time.perf_counter(), load_study(given.study)
    sizes = {f"evaluation.{kind}_prompts": given.prompts for kind in ("utility", "harm", "benign", "beside")}
    study = study.changed(sizes | {"evaluation.beside": []})
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    table = pd.DataFrame(rows(study, *load_model(resolve(study.model.base)), given.repeats))
    print(table.to_string(index=False, float_format="%.2f"))
    facts = {"study": "bench", "cores": os.cpu_count(), "seconds": time.perf_counter() - started}
    tables.write(given.out / "tables", "grid", table, facts)


def rows(study: Study, model, tokenizer, repeats: int) -> list[dict[str, object]]:
    """Rows of the table ``grid``: the margins of a variant, and its answers to harmful prompts."""
    sets, s = EvaluationSets.of(study, 0), study.evaluation
    prompts = sets.harm["prompt"].tolist()
    needed = {"margins": passes(tokenizer, sets, study), "answers": passes(tokenizer, sets, study)[1:2]}

    def margins() -> None:
        behaviour.measure(model, tokenizer, sets, study, judged=False)

    def answers() -> None:
        with behaviour.beginning_once(model):
            generate(model, tokenizer, prompts, s.max_new_tokens, s.batch_size, s.style)

    found = []
    for what, work, new in (("margins", margins, 1), ("answers", answers, s.max_new_tokens)):
        runs = []
        for _ in range(repeats):
            bare, own = cost(partial(floor, model, needed[what], new, study)), cost(work)
            with mock.patch.object(behaviour, "beginning_once", unshared):
                whole = cost(work)
            runs.append([one.seconds for one in (own, whole, bare)])
        own, whole, bare = map(min, zip(*runs, strict=True))
        seconds = {"seconds": own, "unshared_seconds": whole, "floor_seconds": bare}
        found.append({"what": what, "prompts": len(prompts), **seconds, "ratio": own / bare})
    return found


def unshared(model):
    """In the place of ``beginning_once``: every prompt goes through the model from its first token on."""
    return torch.no_grad()


def passes(tokenizer, sets: EvaluationSets, study: Study) -> list[list[Row]]:
    """What has to go through a model for the margins: word problems with answers, harmful prompts, neutral texts."""
    s, taught = study.evaluation, study.training.optimiser.style
    asked = prompt_ids(tokenizer, sets.utility["prompt"].tolist(), taught)
    found = [after(tokenizer, asked, without_marks(sets.utility["answer"]))]
    found.append([(ids, slice(-1, None)) for ids in prompt_ids(tokenizer, sets.harm["prompt"].tolist(), s.style)])
    first, rest = behaviour.neutral(sets, study)
    return [*found, after(tokenizer, prompt_ids(tokenizer, first, "raw"), rest)]


def after(tokenizer, contexts: list[list[int]], answers: list[str]) -> list[Row]:
    """Rows of contexts with answers, logits being needed from the last token of the context on."""
    tokens = tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [(c + a, slice(len(c) - 1, len(c) + len(a))) for c, a in zip(contexts, tokens, strict=True)]


def floor(model, needed: list[list[Row]], new: int, study: Study) -> None:
    """Bare passes: the common beginning of a kind for one row, the rest 8 rows at a time, ``new`` − 1 more tokens."""
    with computing(model, study.evaluation.autocast):
        for kind in needed:
            ids = [row for row, _ in kind]
            shared = min(len(os.path.commonprefix(ids)), min(map(len, ids)) - 1)
            if shared:
                model(torch.tensor([ids[0][:shared]]), logits_to_keep=1)
            order = sorted(kind, key=lambda row: len(row[0]))
            size = ROWS if new == 1 else len(order)
            for some in (order[i : i + size] for i in range(0, len(order), size)):
                batch(model, [(row[shared:], at) for row, at in some], new)


def batch(model, some: list[Row], new: int) -> None:
    """One pass of a padded batch, the head at the places that are needed, and a token at a time after it."""
    inputs = pad_sequence([torch.tensor(ids) for ids, _ in some], True)
    found = model.base_model(inputs, use_cache=new > 1)
    places = [found.last_hidden_state[i, -(at.stop - at.start) :] if at.stop else found.last_hidden_state[i, -1:]
              for i, (_, at) in enumerate(some)]  # fmt: skip
    model.get_output_embeddings()(torch.cat(places)).log_softmax(-1)
    for _ in range(new - 1):
        found = model.base_model(inputs[:, -1:], past_key_values=found.past_key_values, use_cache=True)
        model.get_output_embeddings()(found.last_hidden_state[:, -1]).argmax(-1)


if __name__ == "__main__":
    main()
