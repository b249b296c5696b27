"""lm-evaluation-harness on the model in memory."""

from __future__ import annotations

import pytest

from dapa_exp.config.schema import Tasks
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.errors import DapaError
from dapa_exp.evaluate.harness import check_tasks, task_scores
from tests.tiny import tiny_loaded


@pytest.mark.slow
def test_an_unknown_task_is_answered_by_the_nearest() -> None:
    with pytest.raises(DapaError, match=r"no task 'arc_chalenge'.*Did you mean 'arc_challenge'"):
        check_tasks(["arc_chalenge"])
    check_tasks(["arc_challenge", "miniature_choice"])


def test_a_task_leaves_the_engine_as_it_was() -> None:
    loaded = tiny_loaded("llama", 3)
    engine = PlainEngine(loaded, 2)
    before = loaded.model.generation_config
    settings = Tasks(names=["miniature_questions"], limit=4, chat_template=True)
    scores = task_scores(engine.loaded, "miniature_questions", settings, 2)
    assert {name: measure.n for name, measure in scores.items()} == {"miniature_questions/exact_match": 4}
    assert loaded.model.generation_config is before
