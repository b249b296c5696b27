"""Checks a run's settings against this machine: judges' keys and packages, devices, benchmark tasks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

from dapa_exp.base.errors import DapaError
from dapa_exp.base.packages import need_vllm
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config


def setting_problems(config: Config) -> Iterator[str]:
    """Every problem with a run's settings, one sentence each. Models and prompt sets are not looked at."""
    yield from _judge_problems(config)
    yield from _device_problems(config)
    yield from _engine_problems(config)
    yield from _task_problems(config)


def may_need_the_hub(config: Config) -> bool:
    """Whether a run names a model or prompt set that is not of the zoo, of `dapa fetch` or in a folder."""
    models = [config.family.teacher, *config.pair.students, getattr(config.transplant, "base", None)]
    models += [judge.needs().model for judge in judges_of(config)]
    far = any(isinstance(model, Model) and not (model.zoo_name or model.folder) for model in models)
    return far or any(not rows.source.startswith(("zoo:", "fetched:")) for rows in config.dataset.sets().values())


def judges_of(config: Config) -> list[JudgeSettings]:
    """All judges of a run, its own first."""
    return [config.judge, *config.judges.values()]


def is_here(device: str) -> bool:
    """Whether torch finds this device on this machine."""
    if device == "cpu":
        return True
    import torch  # imported here: it takes seconds, and a CPU run need not wait for it

    kind, _, number = device.partition(":")
    if kind == "cuda":
        return int(number or 0) < torch.cuda.device_count()
    return kind != "mps" or torch.backends.mps.is_available()


def _judge_problems(config: Config) -> Iterator[str]:
    for judge in judges_of(config):
        needs = judge.needs()
        if needs.key and not os.environ.get(needs.key):
            yield f"judge {judge.name}: the environment variable {needs.key}, which is to hold the key, is not set"
        if needs.package and not importlib.util.find_spec(needs.package):
            yield f"judge {judge.name}: it is not installed; pip install 'dapa_exp[{needs.extra}]'"


def _device_problems(config: Config) -> Iterator[str]:
    if not is_here(device := config.runtime.device):
        yield f"runtime.device={device}: there is no such device here; runtime=cpu computes without one"
    for judge in judges_of(config):
        if (needed := judge.needs().device) and not is_here(needed):
            yield f"judge {judge.name}: device={needed}: there is no such device here"


def _engine_problems(config: Config) -> Iterator[str]:
    if config.runtime.engine == "vllm":
        try:
            need_vllm()
        except DapaError as error:
            yield str(error)


def _task_problems(config: Config) -> Iterator[str]:
    if not config.evaluate.tasks.names:
        return
    from dapa_exp.evaluate.harness import check_tasks

    for task in config.evaluate.tasks.names:
        try:
            check_tasks([task])
        except DapaError as error:
            yield str(error)
