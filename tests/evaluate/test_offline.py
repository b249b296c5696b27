"""Offline tasks are the harness's own, with rows from the cache."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.config.evaluate import Tasks
from dapa_exp.evaluate import harness
from dapa_exp.evaluate.offline import offline_folder, offline_sets
from dapa_exp.evaluate.tasks import rows
from tests.tiny import tiny_loaded


def test_the_sets_that_tasks_need() -> None:
    tasks = ["mmlu", "fetched_arc_easy", "fetched_mmlu_anatomy", "fetched_mmlu", "fetched_mistyped"]
    assert offline_sets(tasks) == ["arc_easy", "mmlu", "mmlu"]


@pytest.mark.slow
def test_an_offline_task_differs_from_the_harnesss_in_its_rows_only() -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    index = TaskManager(include_path=str(offline_folder())).task_index
    for name in ("arc_challenge", "hellaswag", "winogrande", "mmlu_anatomy"):
        ours, theirs = (load_yaml(index[task].yaml_path, resolve_func=False) for task in (f"fetched_{name}", name))
        changed = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
        assert changed <= {"task", "tag", "training_split", "test_split", "dataset_kwargs", "custom_dataset"}


def test_its_rows_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {"id": "1", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
    datasets.Dataset.from_list([question] * 3).save_to_disk(tmp_path / "validation")
    monkeypatch.setattr(rows, "fetched_folder", lambda name: {"arc_easy": tmp_path}[name])
    settings = Tasks(names=["fetched_arc_easy"], limit=None, chat_template=False)
    scores = harness.task_scores(tiny_loaded("llama", 3), "fetched_arc_easy", settings, 2)
    assert {name: measure.n for name, measure in scores.items()} == {
        "fetched_arc_easy/acc": 3,
        "fetched_arc_easy/acc_norm": 3,
    }


def test_a_task_that_changes_its_rows_leaves_the_fetched_ones_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"ind": 1, "activity_label": "Baking", "ctx": "a b", "ctx_a": "a", "ctx_b": "b", "endings": ["c", "d"]}
    row |= {"source_id": "s", "split": "val", "split_type": "x", "label": "1"}
    datasets.Dataset.from_list([row] * 3).save_to_disk(tmp_path / "validation")
    before = {file.name for file in (tmp_path / "validation").iterdir()}
    monkeypatch.setattr(rows, "fetched_folder", lambda name: {"hellaswag": tmp_path}[name])
    settings = Tasks(names=["fetched_hellaswag"], limit=None, chat_template=False)
    harness.task_scores(tiny_loaded("llama", 3), "fetched_hellaswag", settings, 2)
    assert {file.name for file in (tmp_path / "validation").iterdir()} == before


def test_a_set_that_is_not_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    with pytest.raises(DapaError, match="dapa fetch hellaswag"):
        rows.fetched("hellaswag")
