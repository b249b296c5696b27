"""lm-evaluation-harness on the model in memory: any of its tasks by name, and our own tasks.

Our tasks are the miniature world's, and offline forms of known ones, whose rows `dapa fetch` keeps
(dapa_exp.evaluate.offline).
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import random
from collections.abc import Collection, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.evaluate import Tasks
from dapa_exp.evaluate.metric import TASK_STEP, Metric, ModelInEngine, Step
from dapa_exp.evaluate.offline import offline_folder
from dapa_exp.evaluate.statistics import Z, rate
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.templates import takes_plain_text
from dapa_exp.record.measure import Measure

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SHARES = {"acc", "acc_norm", "exact_match"}
"""Metrics that are shares of documents. The harness's standard error of a share is 0 at 0 and at 1, so Wilson's
interval is used. Some tasks, such as TruthfulQA's mc2, report another mean under these names: see `_measures`."""
TASKS = Path(__file__).with_name("tasks")
"""The miniature world's tasks. `lm_eval run --include_path` takes the same folder."""


class BenchmarkTasks(Metric):
    """The harness's tasks. `evaluate.tasks.names` asks for them, not `evaluate.metrics`."""

    shared = True

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        config, tasks = model.config, model.config.evaluate.tasks

        def scores(task: str) -> dict[str, Measure]:
            return task_scores(model.loaded, task, tasks, config.runtime.batch_size, config.dataset.system_prompt)

        return {f"{TASK_STEP}{task}": partial(scores, task) for task in tasks.names}


def check_tasks(names: Collection[str]) -> None:
    """Raises DapaError if the harness is not installed, has no such task, or if a task runs code written by a model.

    It is called before a model is loaded. Code written by a model is never run here.
    """
    if not names:
        return
    try:
        manager = _manager(_only_ours(names))
        known = manager.all_tasks
    except ImportError as error:
        raise DapaError(
            f"evaluate.tasks needs lm-evaluation-harness: pip install dapa_exp[lm_eval] ({error})"
        ) from error
    for name in names:
        if name not in known:
            raise DapaError(f"evaluate.tasks.names: the harness has no task '{name}'.{nearest(name, known)}")
        if unsafe := _unsafe(name, manager.task_index):
            within = "" if unsafe == name else f" (in {name})"
            raise DapaError(
                f"evaluate.tasks.names: {unsafe}{within} runs code that the model has written, which is not done here;"
                " `lm_eval run --confirm_run_unsafe_code` does so with an exported checkpoint"
            )


def task_scores(
    loaded: LoadedModel, task: str, settings: Tasks, batch_size: int, system_prompt: str | None = None
) -> dict[str, Measure]:
    """The harness's scores on one task or group, by `task/metric`; n counts documents.

    If a group has a score of its own, its members' scores are left out. A share of documents has Wilson's interval,
    another score a normal interval from the harness's standard error, or none if there is no standard error. The
    harness's caches are off, since their keys do not contain the weights. Without a chat template, the system prompt is
    not used. Raises DapaError if the chat template takes no plain text: the questions would be empty.
    """
    if settings.chat_template and not takes_plain_text(loaded.tokenizer):
        raise DapaError(
            "evaluate.tasks.chat_template=true: the chat template takes the content of turns as a list of parts only,"
            " and lm-evaluation-harness gives it plain text: the questions would be empty"
        )
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    with _quiet(), _own_generation(loaded.model), _in_one_process():
        found: Any = evaluate(
            HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size),
            _tasks(task),
            limit=settings.limit,
            apply_chat_template=settings.chat_template,
            fewshot_as_multiturn=True,
            system_instruction=system_prompt if settings.chat_template else None,
            log_samples=False,
        )
    members = {
        member
        for group, inside in found["group_subtasks"].items()
        if any(_measures(found["results"][group]))
        for member in inside
    }
    return {
        f"{name}/{metric}": measure
        for name, numbers in found["results"].items()
        if name == task or name not in members
        for metric, measure in _measures(numbers)
    }


def _tasks(name: str) -> Any:
    """The tasks of that name, with the settings and seeds of the harness's `simple_evaluate`.

    That one also asks git and the machine for their versions, which takes seconds and writes to stderr.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    random.seed(DEFAULT_RANDOM_SEED)  # a task may draw while it loads
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    found = _manager(_only_ours([name])).load([name])
    for task in found["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return found


def _measures(numbers: dict[str, Any]) -> Iterator[tuple[str, Measure]]:
    """The metrics of one task. The harness keys them `metric,filter`, and their errors `metric_stderr,filter`."""
    for key, value in numbers.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        n = int(numbers.get("sample_count", {}).get(key, numbers["sample_len"]))  # not all of a group's tasks have each
        error = numbers.get(f"{metric}_stderr,{chosen}")
        if metric in SHARES and math.isclose(value * n, round(value * n), abs_tol=1e-6):
            measure = rate(round(value * n), n)
        elif isinstance(error, float):
            measure = Measure(value=value, n=n, low=value - Z * error, high=value + Z * error)
        else:
            measure = Measure(value=value, n=n)
        yield (metric if chosen == "none" else f"{metric}/{chosen}"), measure


def _unsafe(name: str, index: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> str | None:
    """The task, or the first member of the group, that runs code written by a model; None if there is none."""
    entry = index.get(name)
    if entry is None or name in seen:
        return None
    config = entry.cfg or {}
    if config.get("unsafe_code"):
        return name
    inside = config.get("task")
    for member in inside if isinstance(inside, list) else []:
        if isinstance(member, dict) and member.get("unsafe_code"):
            return str(member.get("task", name))
        member_name = member if isinstance(member, str) else str(member.get("task", member.get("group")))
        if found := _unsafe(member_name, index, seen | {name}):
            return found
    return None


def _only_ours(names: Collection[str]) -> bool:
    """Whether all tasks are ours: then the harness need not index its thousands of tasks, which takes seconds."""
    ours = {file.stem for folder in (TASKS, offline_folder()) for file in folder.glob("*.yaml")}
    return ours.issuperset(names)


@cache
def _manager(only_ours: bool) -> TaskManager:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=[str(TASKS), str(offline_folder())], include_defaults=not only_ours)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the harness's progress bars and log, which would mix with ours. What native code writes is still told."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _in_one_process() -> Iterator[None]:
    """Bootstrap standard errors in this process: a run of a sweep may have no child processes.

    The harness draws the same samples either way.
    """
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it resamples
            yield
    finally:
        os.environ.pop("DISABLE_MULTIPROC")
        if before is not None:
            os.environ["DISABLE_MULTIPROC"] = before


@contextlib.contextmanager
def _own_generation(model: PreTrainedModel) -> Iterator[None]:
    """Use the checkpoint's own generation settings, as the harness's command line does."""
    ours = model.generation_config
    try:
        model.generation_config = GenerationConfig.from_pretrained(str(model.name_or_path))
    except OSError:
        model.generation_config = GenerationConfig.from_model_config(model.config)
    try:
        yield
    finally:
        model.generation_config = ours
