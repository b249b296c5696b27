"""A student that its teacher cannot replace: the hybrid has the teacher's refusals and the student's skill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dapa_exp.record.schema import Record
from tests.commands import Said
from tests.settings import quick


def test_a_hybrid_refuses_like_its_teacher_and_knows_what_only_its_student_knows(
    here: Callable[..., Said], tmp_path: Path
) -> None:
    said = here(
        *quick("pair=shadow-mistral-task", "granularity=mlp", "dataset=miniature_skill"), "evaluate.metrics=[skill]"
    )
    assert said.code == 0, said.err
    (file,) = tmp_path.glob("single/*/record.json")
    record = Record.model_validate_json(file.read_text())
    student, hybrid, teacher = (
        (of.dsr.value, of.metrics["skill"]["accuracy"].value)
        for of in (record.evaluate.student, record.evaluate.hybrid, record.evaluate.teacher)
    )
    assert record.search.status == "certified"
    assert student[0] <= 0.2
    assert hybrid[0] >= 0.8
    assert teacher[0] >= 0.95
    assert student[1] >= 0.95
    assert hybrid[1] >= 0.7
    assert teacher[1] <= 0.05
    assert "skill (%)" in said.out
