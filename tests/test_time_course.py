"""The time course: slopes on curves whose exponents are known, and what is measured against dense computations."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.activations import capture
from helpers.claims.time_course import slopes
from helpers.errors import StudyError
from helpers.experiments.time_course import measurement, subspaces, time_course
from helpers.methods.calibration import benign, matrices, refused
from helpers.methods.context import Context
from helpers.paths import RunPaths
from helpers.studies.measurements import Bench, TimeCourse
from helpers.studies.sections import Adapter
from helpers.studies.settings import load_study
from helpers.training.examples import collate, tokenised
from pipeline.results.tables import SCHEMAS
from pipeline.runs.stages import over_seeds
from trained import trained, uneven_rows


def curve(seed: int, quantity: str, of: str, exponent: float, start: float = 0.0) -> list[dict]:
    where = {"seed": seed, "task": "useful", "optimiser": "sgd", "quantity": quantity, "of": of, "layer": -1}
    steps = [0, 1, 2, 4, 8, 16, 32, 64]
    return [where | {"step": t, "value": start + 0.3 * t**exponent if t else start} for t in steps]


def test_slopes_are_the_exponents_of_time():
    rows = [row for seed in range(3) for row in [
        *curve(seed, "moved", "alignment", 2), *curve(seed, "moved", "random", 1 + seed / 10),
        *curve(seed, "refusal_loss", "all", 4, start=0.5),
    ]]  # fmt: skip
    table = pd.DataFrame(rows)
    fallen = (table["seed"] == 2) & (table["quantity"] == "refusal_loss") & (table["step"] == 32)
    found = slopes(table.assign(value=table["value"].where(~fallen, 0.4)), 0.95).set_index(["of", "steps"])
    assert {*found.reset_index().columns} == set(SCHEMAS["time_course_summary"])
    assert found.loc[("alignment", "all steps"), "mean"] == pytest.approx(2)
    assert found.loc[("random", "first 16 steps"), "mean"] == pytest.approx(1.1)
    assert found.loc[("refusal_loss", "first 16 steps"), ["mean", "seeds", "predicted"]].tolist() == pytest.approx(
        [4, 3, 4]
    )
    assert found.loc[("refusal_loss", "all steps"), "seeds"] == 2  # where it fell below its start there is no exponent


def test_a_chapter_of_published_results_is_there_once_its_table_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACES_PUBLISHED", str(tmp_path))
    table = RunPaths("organism-bench", 0, published=True).table("time_course")
    table.parent.mkdir(parents=True)
    study = load_study("organism-bench")
    assert "33_time_course_figures" in over_seeds(study)
    assert set(over_seeds(study, published=True)) == {"25_methods"}
    table.touch()
    assert set(over_seeds(study, published=True)) == {"25_methods", "33_time_course_figures"}
    with pytest.raises(StudyError, match="no time course was measured in these results: run notebooks/27"):
        slopes(pd.DataFrame(columns=["quantity"]), 0.95)


def test_what_is_looked_at_equals_dense_computations(context, tokenizer):
    model, _ = context.model("contaminated")
    found = pd.DataFrame(measurement(context)(4, model)).set_index(["quantity", "of", "layer"])["value"]
    now, start, bases = dict(model.named_parameters()), context.checkpoints["aligned"], subspaces(context)
    moved = {name: now[name].detach().cpu().double() - start.tensor(name).double() for name in matrices(context)}
    assert found["moved", "all", -1] == pytest.approx(np.sqrt(sum(float(d.square().sum()) for d in moved.values())))
    inside = 0.0
    for name, change in moved.items():
        u = torch.linalg.svd(context.update("alignment", name))[0][:, : max(1, round(0.1 * min(change.shape)))]
        inside += float((u @ u.T @ change).square().sum())
        assert all(basis[name].shape == u.shape for basis in bases.values())
    assert found["moved", "alignment", -1] == pytest.approx(np.sqrt(inside))
    directions = []
    for network in (context.model("aligned")[0], model):
        sets = [
            capture(network, tokenizer, context.calibration(kind(context))["prompt"].tolist()).double()
            for kind in (refused, benign)
        ]
        directions.append([sets[0][1, half::2].mean(0) - sets[1][1, half::2].mean(0) for half in (0, 1)])
    cosines = [torch.cosine_similarity(directions[1][half], directions[0][1 - half], dim=0) for half in (0, 1)]
    assert found["refusal_cosine", "all", 2] == pytest.approx(float(sum(cosines)) / 2)
    sizes = [float(sum(pair).norm()) for pair in directions]
    assert found["refusal_norm", "all", 2] == pytest.approx(sizes[1] / sizes[0])


def test_a_fine_tuning_is_followed_at_powers_of_two(context, study):
    settings = TimeCourse(tasks=["harmful"], steps=2, adamw=0.001, sgd=0.05)
    bench = study.model_copy(update={"bench": Bench(of="smoke", time_course=settings)})
    found = time_course(Context(bench, 0, context.checkpoints))
    assert {*found.columns, "seed"} == set(SCHEMAS["time_course"]) and not found["value"].isna().any()
    moved = found.query("quantity == 'moved' and of == 'all'").set_index(["optimiser", "step"])["value"]
    for optimiser in ("adamw", "sgd"):
        assert moved[optimiser].index.tolist() == [0, 1, 2] and moved[optimiser, 0] == 0
        assert moved[optimiser].is_monotonic_increasing
    assert moved["adamw", 1] != moved["sgd", 1]


def test_a_fine_tuning_of_an_adapter_is_not_followed(context, study):
    adapter = study.training.harmful.model_copy(update={"lora": Adapter(rank=2, alpha=4)})
    settings = TimeCourse(tasks=["harmful"], steps=2, adamw=0.001, sgd=0.05)
    training = study.training.model_copy(update={"harmful": adapter})
    changed = {"bench": Bench(of="smoke", time_course=settings), "training": training}
    with pytest.raises(StudyError, match="training.harmful without lora"):
        time_course(Context(study.model_copy(update=changed), 0, context.checkpoints))


def test_sgd_takes_the_step_of_gradient_descent(study, tokenizer):
    rows = uneven_rows(study).head(8)
    plain = {"method": "sgd", "schedule": "constant", "warmup_ratio": 0.0, "max_grad_norm": 1e6}
    start, _ = trained(study, tokenizer, rows, {"batch_size": 8, "learning_rate": 1e-9}, **plain)
    moved, _ = trained(study, tokenizer, rows, {"batch_size": 8, "learning_rate": 0.5}, **plain)
    inputs = collate(tokenised(rows, tokenizer, 64))
    start(**inputs).loss.backward()
    for name, parameter in moved.named_parameters():
        before = dict(start.named_parameters())[name]
        assert torch.allclose(parameter, before - 0.5 * before.grad, atol=1e-5), name
