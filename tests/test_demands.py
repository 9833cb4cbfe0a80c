"""What notebooks ask of a scheduler: enough for what is planned, more for more, and grouped where small."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import ROOT
from helpers.studies.settings import OBJECTIVES, available, load_study
from pipeline.plan.demands import LEAST, asked, demand, divided, group, size_of, slow
from pipeline.plan.sizes import NUMBERS, near
from pipeline.plan.work import Work, needs, seconds
from pipeline.runs.stages import APART, CHAPTERS, PER_SEED, STAGES, of_study

BIG, MIDDLE, SMALL = "qwen2.5-7b", "llama-3.2-1b", "organism"
amounts = st.floats(0, 1e18)


@pytest.mark.parametrize("name", available())
def test_every_notebook_of_every_study_asks_for_something(name):
    study = load_study(name)
    for notebook in of_study(STAGES, study):
        for objective in study.objectives if notebook == "02_finetune" else [""]:
            asked = demand(notebook, study, objective)
            assert asked.mem_mb >= 1000 and asked.gpu >= 0 and asked.runtime >= LEAST and asked.threads >= 1, notebook


def test_memory_is_more_than_what_the_plan_says_a_process_needs():
    study = load_study(SMALL)
    found = needs(study, size_of(study))
    most = max(found.training, found.evaluation, found.projection)
    assert all(demand(name, study).mem_mb * 1e6 >= most for name in of_study(PER_SEED, study))


def test_a_bigger_model_asks_for_more():
    for name in of_study(PER_SEED, load_study(MIDDLE)):
        small, big = (demand(name, load_study(study)) for study in (MIDDLE, BIG))
        assert big.mem_mb > small.mem_mb and big.runtime >= small.runtime and big.gpu == small.gpu


def test_a_job_asks_without_torch_or_transformers():
    ask = (
        "import sys; from pipeline.plan.demands import demand; from helpers.studies.settings import load_study\n"
        f"demand('05_projection', load_study({MIDDLE!r}))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", ask], cwd=ROOT).returncode == 0


def test_the_organism_needs_no_gpu_and_one_thread():
    study = load_study(SMALL)
    asked = [demand(name, study) for name in of_study(STAGES, study)]
    assert {(one.gpu, one.threads) for one in asked} == {(0, 1)}


def test_fine_tuning_asks_for_the_gpus_that_it_trains_on():
    study = load_study(BIG)
    optimiser = study.training.optimiser.model_copy(update={"processes": 4})
    several = study.model_copy(update={"training": study.training.model_copy(update={"optimiser": optimiser})})
    assert demand("02_finetune", several, "useful").gpu == 4
    assert demand("05_projection", several).gpu == 1 and demand("04_update_overlap", several).gpu == 0
    assert demand("02_finetune", several, "useful").runtime < demand("02_finetune", study, "useful").runtime


@pytest.mark.parametrize("notebook", ["04_update_overlap", "05_projection"])
def test_a_part_asks_for_its_share_and_gathering_for_little(notebook):
    study = load_study(BIG)
    parts = divided(notebook, study)
    whole, part, rest = (demand(notebook, study, share=share) for share in (1, 1 / len(parts), 0))
    assert len(parts) > 5 and rest.runtime < part.runtime < whole.runtime / 3
    assert part.gpu == whole.gpu and part.mem_mb == whole.mem_mb and rest.gpu == 0


def test_each_objective_asks_for_its_own_time():
    study = load_study(BIG)
    minutes = {objective: demand("02_finetune", study, objective).runtime for objective in OBJECTIVES}
    assert minutes["contaminated"] > minutes["useful"] > minutes["harmful"]


def test_small_jobs_share_a_submission_and_big_ones_do_not():
    small, big = load_study(SMALL), load_study(BIG)
    assert {group(name, small) for name in of_study(PER_SEED, small)} == {"seed"}
    assert {group(name, big) for name in of_study(PER_SEED, big)} == {None}
    assert {group(name, big) for name in of_study(CHAPTERS | APART, big)} == {"chapters"}


@given(amounts, amounts, st.sampled_from(sorted(NUMBERS["models"])))
def test_more_work_takes_longer_and_more_hardware_less(algebra, tokens, name):
    model, less = near(NUMBERS["models"][name]), Work(float64=algebra, tokens=tokens)
    alone, wider, one, two = (slow(model, gpus, threads) for gpus, threads in ((0, 1), (0, 8), (1, 1), (2, 1)))
    assert seconds(less + less, alone) >= seconds(less, alone) >= seconds(less, wider)
    assert seconds(less, two) <= seconds(less, one) <= seconds(less, alone)


def test_what_is_not_needed_is_no_resource():
    """Schedulers such as SLURM take a resource of 0 GPUs for a wish; the GPUs of a job are those of one machine."""
    of_small, of_big = (asked("02_finetune", load_study(name), objective="useful") for name in (SMALL, BIG))
    assert not {"gpu", "nodes"} & set(of_small) and of_small["mem_mb"] > 0
    assert of_big["gpu"] == 1 and of_big["nodes"] == 1
