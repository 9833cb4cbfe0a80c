"""Jobs of a killed run where SLURM cannot be asked; what is done with them is in ``test_slurm.py``."""

import pytest

from fault_table import assert_promised
from helpers.errors import StudyError
from helpers.files import write_text
from pipeline.runs import slurm


def test_nothing_is_asked_where_no_jobs_were_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.settle(tmp_path)


@pytest.mark.parametrize(
    ("squeue", "reason"),
    [
        (None, "the program is not here"),
        ("echo slurm_load_jobs error: Unable to contact >&2; exit 1", "slurm_load_jobs"),
    ],
)
def test_a_queue_that_cannot_be_asked_is_one_sentence(tmp_path, monkeypatch, squeue, reason):
    monkeypatch.setenv("PATH", str(tmp_path))
    if squeue:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{squeue}\n", encoding="utf-8")
        (tmp_path / "squeue").chmod(0o755)
    write_text(tmp_path / "study" / slurm.MARK, "")
    with pytest.raises(StudyError, match=f"squeue cannot be asked .*{reason}.* or delete .*{slurm.MARK}") as error:
        slurm.settle(tmp_path / "study")
    assert_promised("the queue of a cluster cannot be asked", error.value)
    assert "\n" not in str(error.value) and (tmp_path / "study" / slurm.MARK).exists()


def test_each_study_has_its_own_names(tmp_path):
    names = {slurm.name_of(tmp_path / study) for study in ("a", "b", "a/../a")}
    assert len(names) == 2 and all(name.replace("-", "").isalnum() and len(name) <= 50 for name in names)
