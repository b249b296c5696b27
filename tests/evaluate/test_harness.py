"""lm-evaluation-harness on the model in memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import evaluate, simple_evaluate
from lm_eval.models.huggingface import HFLM

from dapa_exp.base.errors import DapaError
from dapa_exp.config.evaluate import Tasks
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.evaluate import harness
from dapa_exp.evaluate.harness import check_tasks, task_scores
from dapa_exp.models.load import LoadedModel
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import tiny_loaded


@pytest.mark.slow
def test_an_unknown_task_is_answered_by_the_nearest() -> None:
    with pytest.raises(DapaError, match=r"no task 'arc_chalenge'.*Did you mean 'arc_challenge'"):
        check_tasks(["arc_chalenge"])
    check_tasks(["arc_challenge", "miniature_choice"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", "cruxeval_output"])
def test_a_task_that_runs_what_a_model_writes_is_refused_before_a_model_is_loaded(name: str) -> None:
    with pytest.raises(DapaError, match=rf"evaluate\.tasks\.names: {name} runs code that the model has written"):
        check_tasks([name])


def test_a_task_leaves_the_engine_as_it_was() -> None:
    loaded = tiny_loaded("llama", 3)
    engine = PlainEngine(loaded, 2)
    before = loaded.model.generation_config
    settings = Tasks(names=["miniature_questions"], limit=4, chat_template=True)
    scores = task_scores(engine.loaded, "miniature_questions", settings, 2)
    assert {name: measure.n for name, measure in scores.items()} == {"miniature_questions/exact_match": 4}
    assert loaded.model.generation_config is before


@pytest.mark.parametrize("task", ["miniature_questions", "miniature_choice"])
def test_the_scores_are_those_of_the_harnesss_own_command(task: str) -> None:
    loaded = tiny_loaded("llama", 3)
    ours = task_scores(loaded, task, Tasks(names=[task], limit=8, chat_template=True), 2)
    theirs: Any = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=2),
        tasks=[task],
        limit=8,
        apply_chat_template=True,
        task_manager=harness._manager(True),
    )
    for name, measure in ours.items():
        metric = name.partition("/")[2]
        assert theirs["results"][task][f"{metric},none"] == measure.value, name


@pytest.mark.usefixtures("groups")
def test_what_native_code_writes_while_tasks_run_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    (harness.TASKS / "loud.py").write_text(LOUD)
    (harness.TASKS / "loud.yaml").write_text(
        "include: miniature_choice.yaml\ntask: loud\nprocess_results: !function loud.score\n"
    )
    task_scores(tiny_loaded("llama", 3), "loud", Tasks(names=["loud"], limit=1, chat_template=False), 1)
    assert capfd.readouterr().err == "CUDA error"


LOUD = "import os\ndef score(doc, results):\n    os.write(2, b'CUDA error')\n    return {'acc': 1.0}\n"


@pytest.mark.parametrize("chat_template", [True, False])
def test_the_system_prompt_goes_with_the_chat_template(chat_template: bool) -> None:
    loaded, asked = tiny_loaded("llama", 3), list[str]()
    hook = loaded.model.register_forward_pre_hook(
        lambda _, __, given: asked.extend(loaded.tokenizer.batch_decode(given["input_ids"])), with_kwargs=True
    )
    settings = Tasks(names=["miniature_questions"], limit=1, chat_template=chat_template)
    task_scores(loaded, "miniature_questions", settings, 1, "you are a baker")
    hook.remove()
    assert ("you are a baker" in asked[0]) == chat_template


def test_questions_that_the_chat_template_would_leave_out_are_not_asked() -> None:
    tokenizer = tokenizers.make("llama")
    tokenizer.chat_template = "{% for c in messages[0].content %}{{ c.text }}{% endfor %}"
    loaded = LoadedModel(tiny_loaded("llama", 3).model, tokenizer)
    settings = Tasks(names=["miniature_questions"], limit=4, chat_template=True)
    with pytest.raises(DapaError, match=r"evaluate\.tasks\.chat_template=true: .* the questions would be empty"):
        task_scores(loaded, "miniature_questions", settings, 2)


GROUP = "group: {name}\ntask: [miniature_questions, miniature_choice, fraction]\n"
METRICS = "aggregate_metric_list: [{metric: exact_match}, {metric: acc}]\n"
FRACTION = """
include: miniature_choice.yaml
task: fraction
process_results: !function fraction.third
"""
THIRD = "def third(doc, results):\n    return {'acc': 1 / 3}\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The harness with our tasks, one whose `acc` is no count, and two groups of them: with numbers, and without."""
    folder = shutil.copytree(harness.TASKS, tmp_path / "tasks")
    (folder / "fraction.py").write_text(THIRD)
    (folder / "fraction.yaml").write_text(FRACTION)
    (folder / "with_numbers.yaml").write_text(GROUP.format(name="with_numbers") + METRICS)
    (folder / "without.yaml").write_text(GROUP.format(name="without"))
    monkeypatch.setattr(harness, "TASKS", folder)
    harness._manager.cache_clear()
    yield
    harness._manager.cache_clear()


@pytest.mark.usefixtures("groups")
def test_a_group_without_numbers_of_its_own_has_those_of_its_tasks() -> None:
    settings = Tasks(names=["without"], limit=4, chat_template=False)
    scores = task_scores(tiny_loaded("llama", 3), "without", settings, 2)
    assert set(scores) == {"miniature_questions/exact_match", "miniature_choice/acc", "fraction/acc"}
    assert scores["fraction/acc"].value == pytest.approx(1 / 3), "as the harness says it, not the nearest of 4 counts"


@pytest.mark.usefixtures("groups")
def test_a_groups_metric_counts_the_documents_that_it_was_taken_of() -> None:
    settings = Tasks(names=["with_numbers"], limit=4, chat_template=False)
    scores = task_scores(tiny_loaded("llama", 3), "with_numbers", settings, 2)
    assert {name: measure.n for name, measure in scores.items()} == {
        "with_numbers/exact_match": 4,
        "with_numbers/acc": 8,
    }


RESAMPLED = """
include: miniature_choice.yaml
task: resampled
process_results: !function fraction.pair
metric_list: [{metric: f1, aggregation: f1}]
"""
PAIR = "def pair(doc, results):\n    return {'f1': (1, int(results[0][1]))}\n"
UNSAFE = "include: miniature_choice.yaml\ntask: unsafe\nunsafe_code: true\n"


@pytest.mark.usefixtures("groups")
def test_an_error_by_resampling_needs_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child of a sweep, which may have none."""
    (harness.TASKS / "fraction.py").write_text(THIRD + PAIR)
    (harness.TASKS / "resampled.yaml").write_text(RESAMPLED)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    monkeypatch.setattr("lm_eval.evaluator.evaluate", partial(evaluate, bootstrap_iters=1000))
    settings = Tasks(names=["resampled"], limit=4, chat_template=False)
    (measure,) = task_scores(tiny_loaded("llama", 3), "resampled", settings, 2).values()
    assert measure.low is not None
    assert measure.low <= measure.value
    assert "DISABLE_MULTIPROC" not in os.environ


@pytest.mark.usefixtures("groups")
def test_a_group_with_a_member_that_runs_code_is_refused() -> None:
    (harness.TASKS / "unsafe.yaml").write_text(UNSAFE)
    (harness.TASKS / "mixed.yaml").write_text("group: mixed\ntask: [miniature_choice, unsafe]\n")
    check_tasks(["with_numbers"])
    with pytest.raises(DapaError, match=r"unsafe \(in mixed\) runs code"):
        check_tasks(["mixed"])


@pytest.mark.parametrize(("reply", "right"), [("{}", 1), ("\n {}\nIt is so.", 1), ("\n\nno", 0), ("", 0)])
def test_an_answer_may_open_with_a_line_break(reply: str, right: int) -> None:
    task = harness._manager(True).load("miniature_questions")["tasks"]["miniature_questions"]
    task.build_all_requests(limit=1)
    (asked,) = task.instances
    asked.resps = [reply.format(asked.doc["answer"].title())]
    task.apply_filters()
    assert task.process_results(asked.doc, [asked.filtered_resps["none"]]) == {"exact_match": right}
