"""Pairs without a file: what a pair's file would say is found out from the two models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.config.problems import ConfigError
from dapa_exp.models.pair import open_pair
from tests.settings import problems
from tests.tiny import tiny_checkpoint, tiny_loaded


def own(teacher: Path | str, student: Path | str, *words: str) -> tuple[str, ...]:
    return ("pair=own", f"family.teacher.id={teacher}", f"pair.student.id={student}", *words)


def checkpoint(folder: Path, family: str, seed: int, template: bool = True) -> Path:
    tokenizer = tiny_loaded(family, seed).tokenizer
    tiny_checkpoint(folder, family, seed, vocab_size=len(tokenizer))
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["mistral", "qwen3", "mixtral"])
def test_two_folders_are_a_pair(tmp_path: Path, family: str) -> None:
    safe, tuned = (checkpoint(tmp_path / name, family, seed) for seed, name in enumerate(("safe", "tuned")))
    (job,) = jobs(own(safe, tuned))
    pair = open_pair(job.config)
    assert (pair.model_type, pair.num_layers, pair.chat_template) == (family, 3, "own")
    assert job.config.pair.name == f"{tmp_path.name}--tuned+{tmp_path.name}--safe"
    assert job.folder.name.startswith(job.config.pair.name)
    assert not job.config.family.made_here


def test_a_student_without_a_template_gets_the_teachers(tmp_path: Path) -> None:
    teacher = checkpoint(tmp_path / "teacher", "llama", 1)
    student = checkpoint(tmp_path / "student", "llama", 2, template=False)
    assert open_pair(jobs(own(teacher, student))[0].config).chat_template == "teacher"
    assert open_pair(jobs(own(student, teacher))[0].config).chat_template == "own"


def test_a_sweep_over_students_tells_them_apart() -> None:
    students = "zoo:llama-small-style,someone/tuned,another/tuned"
    found = jobs(["-m", *own("zoo:llama-small-chat", students)])
    names = [job.config.pair.name for job in found]
    assert names == [f"{name}+llama-small-chat" for name in ("llama-small-style", "someone--tuned", "another--tuned")]
    assert len({job.folder for job in found}) == 3
    assert all(job.config.family.made_here for job in found)


def test_only_the_missing_ids_are_asked_for() -> None:
    assert problems("pair=own") == [
        "conf/pair/own.yaml: pair.student.id: a value is needed: pair.student.id=…",
        "conf/family/own.yaml: family.teacher.id: a value is needed: family.teacher.id=…",
    ]


def test_the_papers_range_needs_to_be_told() -> None:
    with pytest.raises(ConfigError, match=r"fixed needs family\.paper_layers"):
        jobs(own("a/b", "c/d", "search=fixed"))
    (job,) = jobs(own("a/b", "c/d", "search=fixed", "family.paper_layers=[2,3]", "family.num_layers=8"))
    assert json.loads(job.config.model_dump_json())["family"]["paper_layers"] == [2, 3]


def test_a_list_of_pairs_is_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("student,teacher,base\na/tuned,b/safe,\nzoo:llama-small-style,zoo:llama-small-chat,c/base\n")
    found = jobs(["-m", f"+pairs={file}", "granularity=mlp,layer", "transplant=task_vector", "search.seed=3"])
    assert [(job.config.pair.name, job.config.granularity.name) for job in found] == [
        ("a--tuned+b--safe", "mlp"),
        ("a--tuned+b--safe", "layer"),
        ("llama-small-style+llama-small-chat", "mlp"),
        ("llama-small-style+llama-small-chat", "layer"),
    ]
    assert [job.config.transplant.model_dump()["base"] is None for job in found] == [True, True, False, False]
    assert len({job.identity for job in found}) == 4


def test_every_bad_row_of_a_list_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(f"student,teacher\na/b,c/d\n,c/d\n{tmp_path}/nowhere,c/d\na/b,c/d\n")
    with pytest.raises(DapaError) as caught:
        jobs(["-m", f"+pairs={file}"])
    assert str(caught.value).splitlines() == [
        f"{file}:",
        "  row 2: student is empty",
        f"  row 3: student: no such folder {tmp_path}/nowhere",
        "  row 4: the same as row 1",
    ]
    with pytest.raises(DapaError, match="a list of pairs is a sweep"):
        jobs([f"+pairs={file}"])
    file.write_text("student,tutor\na/b,c/d\n")
    with pytest.raises(DapaError, match="no column teacher; it has: student, tutor"):
        jobs(["-m", f"+pairs={file}"])
