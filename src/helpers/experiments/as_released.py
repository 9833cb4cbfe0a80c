"""What the defects of the released code change on the models of one seed, each switched on alone.

A switch gives numbers twice, as released and corrected, and where it touches them the tables of the seed both ways,
from which the statistics of the claims follow. ``helpers/claims/as_released.yml`` says what each defect is, and which
were not measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from helpers.claims.results import SeedResults
from helpers.claims.retabled import HALF, TABLED, TASK, Effect, Tables, effect_tables, energy_inside, vectors_alike
from helpers.evaluation.behaviour import answers_to, harm_per_prompt, measure
from helpers.evaluation.judges import build_judge
from helpers.evaluation.texts import until
from helpers.experiments.bases import Basis
from helpers.experiments.overlap import prompt_sets
from helpers.experiments.remade import REMADE, Seed, of_remade
from helpers.models.prompts import Side, padded, prompt_ids
from helpers.subspaces import Modes, energy_kept, mode_subspace_overlap, rank_for_fraction
from helpers.weights.edits import LiveUpdate, control_bases
from helpers.weights.names import module_of

DRAWS, MEASURED_DRAWS = 20, 5  # of Random-K: those whose energy is taken, and those whose behaviour is
CUT = 0.25  # share of the modes that the released code keeps of a large matrix, here of every one
BATCH = 16  # prompts that the released code pads to one length
PAIRS = [("useful", "harmful"), *((one, task) for one in ("alignment", "safety") for task in ("useful", "harmful"))]
STOPS = ("Instruction", "Response")
SWITCHES: dict[int, Callable[[Seed], Iterator[Effect]]] = {}


def switch(number: int) -> Callable:
    """Register the switch of a defect under its number."""
    return lambda function: SWITCHES.setdefault(number, function)


def released_tables(seed: Seed) -> Tables:
    """Tables ``as_released`` (numbers) and ``as_released_claims`` (statistics of the claims) of one seed."""
    remade = REMADE if seed.seed in seed.study.seeds[: seed.study.released.remade] else ()
    numbers = sorted({*SWITCHES, *remade, *TABLED})
    made = [seed.pieces.obtain(f"defect-{n}", partial(_tables, seed, n)) for n in numbers]
    return {name: pd.concat([tables[name] for tables in made], ignore_index=True) for name in made[0]}


def _tables(seed: Seed, number: int) -> Tables:
    if number in TABLED:
        effects = [TABLED[number](seed.study, seed.results, seed.modules)]
    else:
        effects = [of_remade(seed, number)] if number in REMADE else SWITCHES[number](seed)
    return effect_tables(number, effects, seed.study, seed.results)


@switch(6)
def printed_cosine(seed: Seed) -> Iterator[Effect]:
    """√⟨D_T, D_A⟩ / ‖D_A‖ in the place of the cosine, 0 where the product is negative."""
    alignment = seed.of_all("alignment")
    for task in ("useful", "harmful"):
        update = seed.of_all(task)
        product, norms = seed.products(update, alignment), [np.sqrt(seed.products(d, d)) for d in (update, alignment)]
        printed = np.sqrt(max(product, 0.0)) / norms[1]
        yield Effect(task, {"cosine": (float(printed), product / float(np.prod(norms)), 1.0)})


@switch(7)
def unseeded_random_k(seed: Seed) -> Iterator[Effect]:
    """Other draws of Random-K: how much its energy varies, and what the claims would be with each."""
    modes = {name: seed.modes("alignment", name) for name in seed.names}
    total, energies = seed.products(update := seed.of_all(TASK), update), np.zeros(DRAWS)
    for draw in range(DRAWS):
        for name, basis in control_bases(modes, "random-k", seed.seed, draw).items():
            kept, k = energy_kept(basis, update[name]), rank_for_fraction(seed.shape(name), HALF)
            energies[draw] += float(kept[min(k, len(kept)) - 1] * update[name].square().sum()) / total
    yield Effect("20-draws", {"energy_sd": (float(energies.std(ddof=1)), 0.0, 1.0)})
    bases = [Basis("alignment", "random-k", draw) for draw in range(1, MEASURED_DRAWS)]
    found = seed.measured(bases, {TASK: seed.checkpoints[TASK]}, MEASURED_DRAWS)["projection"]
    for draw, rows in found.groupby("draw"):
        yield Effect(f"draw-{draw}", {}, _with(seed.results, "random-k", rows))


def _with(results: SeedResults, control: str, rows: pd.DataFrame) -> SeedResults:
    """The tables with other rows of one control of the alignment subspace, contaminated update."""
    table = results.projection
    own = (table[["subspace", "control", "task"]] == ["alignment", control, TASK]).all(axis=1)
    return replace(results, projection=pd.concat([table[~own], rows], ignore_index=True))


@switch(8)
def spectrum_cut(seed: Seed) -> Iterator[Effect]:
    """A quarter of the modes of every matrix, and energy fractions of what they hold."""
    rows, etas = [], seed.study.update_overlap.energy_fractions
    for name in (name for name in seed.names if len(seed.shape(name)) == 2):
        modes = {label: _cut(seed.modes(label, name)) for label in {label for pair in PAIRS for label in pair}}
        for a, b in PAIRS:
            found = [(eta, mode_subspace_overlap(modes[a], modes[b], eta)) for eta in etas]
            rows += [{"tensor": name, "a": a, "b": b, "eta": eta, **vars(one)} for eta, one in found]
    own, table = seed.results.update_overlap, pd.DataFrame(rows)
    sides = [rows[(rows["a"] == "useful") & (rows["b"] == "harmful")] for rows in (table, own)]
    k = [float(rows.loc[rows["eta"] == rows["eta"].max(), "k_a"].mean()) for rows in sides]
    mso = [float((rows["mso"] - rows["random"]).mean()) for rows in sides]
    yield Effect(
        "all-matrices", {"modes": (*k, k[1]), "overlap": (*mso, 1.0)}, replace(seed.results, update_overlap=table)
    )


def _cut(modes: Modes) -> Modes:
    q = max(1, round(CUT * modes.vectors.shape[1]))
    return Modes(modes.vectors[:, :q], modes.singular_values[:q], min(modes.rank, q))


@switch(9)
def last_column(seed: Seed) -> Iterator[Effect]:
    """Activations at the last column of batches of 16, padded as the tokenizer does."""
    _, tokenizer = seed.loaded
    for name in ("useful", "harmful-a"):
        ids = prompt_ids(tokenizer, prompt_sets(seed.study, seed.seed)[name], seed.study.activation_overlap.style)
        yield Effect(name, {"pad_states": (at_padding(ids, tokenizer.padding_side), 0.0, 1.0)})


def at_padding(ids: list[list[int]], side: Side) -> float:
    """Share of prompts, in their order and in batches, whose last column is padding."""
    batches = [padded(ids[i : i + BATCH], side, "cpu") for i in range(0, len(ids), BATCH)]
    return sum(int((batch["attention_mask"][:, -1] == 0).sum()) for batch in batches) / len(ids)


@switch(10)
def first_comma(seed: Seed) -> Iterator[Effect]:
    """Prompts up to their first comma."""
    prompts = seed.sets.harm["prompt"]
    yield Effect("harmful-prompts", {"prompts_cut": (float(prompts.str.contains(",").mean()), 0.0, 1.0)})


@switch(14)
def stops_anywhere(seed: Seed) -> Iterator[Effect]:
    """Answers that end at "Instruction" or "Response", wherever they stand."""
    rows = seed.sets.harm
    answers = answers_to(*seed.model(TASK), rows["prompt"].tolist(), seed.study)
    cut = [until(answer, STOPS) for answer in answers]
    share = float(np.mean([one != other for one, other in zip(answers, cut, strict=True)]))
    verdicts = build_judge(seed.study).judge(rows["prompt"].tolist(), cut, rows["answer"].tolist())
    harm = float(np.nanmean([np.nan if v.score is None else v.score for v in verdicts]))
    yield Effect(TASK, {"answers_cut": (share, 0.0, 1.0)} | seed.behaviour(pd.Series({"harm": harm})))


@switch(15)
def last_prompt_lost(seed: Seed) -> Iterator[Effect]:
    """Means over all prompts but the last."""
    table, values = seed.results.behaviour, seed.results.behaviour["value"].copy()
    for name in ("aligned", "harmful", TASK):
        scores = harm_per_prompt(*seed.model(name), seed.sets.harm, seed.study)["harm"]
        values[(table["model"] == name) & (table["measure"] == "harm")] = float(np.nanmean(scores[:-1]))
    released = replace(seed.results, behaviour=table.assign(value=values))
    yield Effect(TASK, seed.behaviour(pd.Series({"harm": released.of_model(TASK, "harm")})), released)


@switch(16)
def fraction_of_one(seed: Seed) -> Iterator[Effect]:
    """A fraction of 1 as the best multiple of D_A in every tensor."""
    alignment, update = seed.of_all("alignment"), seed.of_all(TASK)
    fits = [float((update[n] * alignment[n]).sum()) ** 2 / float(alignment[n].square().sum()) for n in seed.names]
    whole = energy_inside(seed.results, 1.0)
    yield Effect(TASK, {"energy_at_one": (sum(fits) / seed.products(update, update), whole, 1.0)})


@switch(18)
def norms_under_random(seed: Seed) -> Iterator[Effect]:
    """Vectors projected on a random one under Random, as the project does too, against on D_A's own."""
    random, own = (_bases(seed, control) for control in ("random", "top-k"))
    vectors = {name: own[name] for name in own if len(seed.shape(name)) == 1}
    live = LiveUpdate(seed.loaded[0], seed.checkpoints["aligned"], seed.checkpoints[TASK])
    with live:
        margins = [next(_swept(seed, live, {n: bases[n] for n in vectors}, [HALF], "parallel"))["harm_margin"]
                   for bases in (random, own)]  # fmt: skip
        rows = [
            {"mode": mode, "task": TASK, "control": "random", "subspace": "alignment", "draw": 0, **row}
            for mode in ("parallel", "orthogonal")
            for row in _swept(seed, live, random | vectors, seed.study.projection.fractions, mode)
        ]
    modules = {module_of(name) for name in vectors}
    corrected = vectors_alike(_with(seed.results, "random", pd.DataFrame(rows)), seed.modules, modules)
    start, end = seed.ends["harm_margin"]
    yield Effect("vectors-alone", {"harm_margin_of_vectors": (*margins, abs(end - start))}, corrected=corrected)


def _bases(seed: Seed, control: str) -> dict[str, torch.Tensor]:
    modes = seed.once("modes", lambda: {name: seed.modes("alignment", name) for name in seed.names})
    return control_bases(modes, control, seed.seed)


def _swept(seed: Seed, live: LiveUpdate, bases: dict, fractions: list[float], mode: str) -> Iterator[dict]:
    for fraction in live.sweep(bases, fractions, mode):
        found = measure(*seed.loaded, seed.sets, seed.study, judged=False)
        means = {name: float(np.nanmean(values)) for name, values in found.items()}
        yield {"fraction": fraction, "energy_kept": live.energy_kept, **means}


@switch(19)
def end_hidden(seed: Seed) -> Iterator[Effect]:
    """Every end-of-sequence token hidden from attention: how likely the end of a right answer is then."""
    model, tokenizer = seed.model(TASK)
    rows, end, found = seed.sets.utility, tokenizer.eos_token_id, []
    contexts = prompt_ids(tokenizer, rows["prompt"].tolist(), seed.study.evaluation.style)
    answers = tokenizer(rows["answer"].tolist(), add_special_tokens=False)["input_ids"]
    batch = padded([c + a + [end] for c, a in zip(contexts, answers, strict=True)], "right", model.device)
    last = batch["attention_mask"].sum(1) - 2  # (prompts,) the token before the end
    for mask in (batch["attention_mask"] * (batch["input_ids"] != end), batch["attention_mask"]):
        with torch.inference_mode():
            logits = model(**batch | {"attention_mask": mask}).logits[torch.arange(len(last)), last]  # (prompts, words)
        found.append(float(logits.double().log_softmax(-1)[:, end].mean()))
    yield Effect(TASK, {"end_log_probability": (*found, 1.0)})
