"""`dapa plan` tells what runs will need, from configs alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import main
from dapa_exp.record.folder import claim_folder
from dapa_exp.record.schema import Stage
from tests.analysis.factory import record
from tests.transplant.finished import sharded

WITHOUT_TORCH = """
import socket, sys
socket.socket.connect = None  # whoever tries fails
from dapa_exp.cli.dispatch import main
code = main(["plan", "-m", "pair=llama2-7b-hf,gemma-2b-base", "dataset=advbench128", "runtime=gpu"])
assert code == 0, code
assert not {"torch", "transformers", "datasets", "huggingface_hub.hf_api", "numpy"} & sys.modules.keys()
"""


def test_it_needs_neither_torch_nor_a_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[1] for row in rows if row[0].startswith(("llama2", "gemma"))] == ["32", "18"]
    assert "to do: 2 runs: about" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+experiment=miniature"], "one run only: the experiment sweeps pair with -m\n"),
        (["+experiment=miniature", "pair=mini-mistral-mix"], ""),
        (["-m", "+experiment=miniature", "pair=mini-mistral-mix"], ""),
        (["pair=mini-mistral-mix"], ""),
    ],
)
def test_an_experiment_whose_sweep_is_not_asked_for_is_remarked(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 0
    assert capfd.readouterr().err == said


def test_units_queries_memory_and_disk_of_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = sharded(tmp_path / "student", "llama", 1)
    words = [f"pair.student.id={folder},nobody/knows", "search=all", "runtime.engine=plain", f"record.dir={tmp_path}"]
    assert main(["plan", "-m", *words, f"family.teacher.id={folder}"]) == 0
    said = capfd.readouterr().out
    known, unknown = (line.split() for line in said.splitlines() if line.split()[:1] and "-mlp-all-" in line)
    assert known[1:4] == ["3", "2", "0.6"]
    assert unknown[1:5] == ["unknown"] * 4
    assert "to do: 2 runs: at least 2 queries" in said
    assert "not counted, since nothing is known of them yet: nobody/knows" in said


def test_queries_and_time_are_estimated_by_finished_runs_of_the_family_else_of_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = ("mini-llama-small-base", "mini-gemma-small-base", "mini-llama-small-style", "mini-mistral-base")
    words = ["-m", f"pair={','.join(pairs)}", "search=ddmin", f"record.dir={tmp_path}"]
    planned = jobs(words)
    for job, queries, seconds in zip(planned[:2], (10, 30), (100.0, 300.0), strict=True):
        cost = {"search": Stage(seconds=seconds, tokens=1, peak_memory_bytes=1)}
        done = record(job.config.pair.name, job.config.family.name, identity=job.identity, queries=queries)
        job.folder.mkdir(parents=True)
        (job.folder / "record.json").write_text(done.model_copy(update={"cost": cost}).model_dump_json())
    assert main(["plan", *words]) == 0
    said = capfd.readouterr().out
    assert [line.split()[2] for line in said.splitlines() if line.strip().startswith(pairs[2:])] == ["~10", "~20"]
    assert "time: about 0:05:00 one after the other" in said  # 100 s like its family, and the mean of both


def test_what_is_done_or_being_done_is_not_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "search=none,fixed,all", f"record.dir={tmp_path}"]
    done, running, _ = jobs(words)
    for job in (done, running):
        job.folder.mkdir(parents=True)
    (done.folder / "record.json").write_text(record(identity=done.identity).model_dump_json())
    with claim_folder(running.folder):
        main(["plan", *words])
    said = capfd.readouterr().out
    assert [line.split()[-1] for line in said.splitlines() if "-mlp-" in line] == ["done", "running", "do"]
    assert "to do: 1 run: about 2 queries" in said
    assert "models to measure: 1, and 2 more whose numbers other runs share" in said


def test_each_teacher_and_student_is_counted_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        "-m",
        "granularity=mlp,layer",
        "pair=mini-llama-small-style,mini-llama-small-base",
        f"record.dir={tmp_path}",
    ]
    for more, measured in (
        ([], "7, and 5 more"),
        (["evaluate.max_new_tokens=8,9"], "14, and 10 more"),
        (["record.share=false"], "12 (student, hybrid and teacher)"),
    ):
        main(["plan", *words, *more])
        assert f"models to measure: {measured}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [("{}", "record.json is damaged"), (record(identity="f" * 64).model_dump_json(), "of another run: identity ffff")],
)
def test_a_damaged_record_is_not_called_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damaged: str, reason: str
) -> None:
    words = ["search=none", f"record.dir={tmp_path}"]
    (job,) = jobs(words)
    job.folder.mkdir(parents=True)
    (job.folder / "record.json").write_text(damaged)
    main(["plan", *words])
    said = " ".join(capfd.readouterr().out.split())
    assert f"failed: record.json is {reason.removeprefix('record.json is ')}" in said
