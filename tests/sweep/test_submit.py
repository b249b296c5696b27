"""Runs that were submitted to a cluster: whose job lives is not submitted again, and is told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dapa_exp.base.claim import process_start
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.record.layout import SubmittedJob
from dapa_exp.record.status import status
from dapa_exp.sweep.isolation import Task
from dapa_exp.sweep.submit import mark_waiting, run_submitted
from tests.analysis.factory import name_of, record, write_sweep
from tests.settings import quick_config

OURS = SubmittedJob(cluster="local", id=str(os.getpid()), started=process_start(os.getpid()), log="a.log")
DEAD = OURS.model_copy(update={"started": "1"})


def submitted(folder: Path, job: SubmittedJob) -> Path:
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(job.model_dump_json())
    return folder


def test_a_run_whose_job_lives_is_not_submitted_again(tmp_path: Path) -> None:
    task = Task(quick_config("pair=mini-llama-small-base"), submitted(tmp_path / "run", OURS))
    run_submitted([task], "local", {}, wait=False, report=silent)
    assert [path.name for path in task.folder.iterdir()] == ["job.json"]


def test_a_job_that_has_not_begun_waits_and_one_that_ended_does_not(tmp_path: Path) -> None:
    waits, ended = record("a"), record("b")
    sweep = write_sweep(tmp_path, [], [waits, ended])
    for run, job in ((waits, OURS), (ended, DEAD)):
        submitted(sweep / name_of(run), job)
    assert [(run.state, run.reason) for run in mark_waiting(status(sweep))] == [
        ("waiting", f"job {os.getpid()} has not begun"),
        ("missing", "stopped before the search"),
    ]


def test_a_job_that_slurm_lets_wait_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 7_0 PartitionTimeLimit\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    run = record("a")
    sweep = write_sweep(tmp_path / "sweep", [], [run])
    submitted(sweep / name_of(run), SubmittedJob(cluster="slurm", id="7_0", started=None, log="a.log"))
    (found,) = mark_waiting(status(sweep))
    assert (found.state, found.reason) == ("waiting", "job 7_0 has not begun (SLURM: PartitionTimeLimit)")


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    task = Task(quick_config("pair=mini-llama-small-base"), tmp_path / "run")
    with pytest.raises(DapaError, match=r"cannot be submitted: .*srun"):
        run_submitted([task], "slurm", {"submitit_folder": str(tmp_path / "jobs")}, wait=True, report=silent)
