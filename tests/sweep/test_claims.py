"""Several processes start the same runs at the same time: each run is carried out once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.sweep.isolation import PRELOAD, Task
from dapa_exp.zoo.build import build
from tests.settings import quick_config


def start_all(tasks: Sequence[Task], seed: int) -> None:
    """Carry out all tasks in an order of one's own, and come back to those that others work on."""
    from dapa_exp.execute import execute

    left = list(tasks)
    random.Random(seed).shuffle(left)
    while left:
        task = left.pop(0)
        try:
            execute(task.config, task.folder, silent)
        except DapaError as error:
            if "another process is working on this run: process " not in str(error):
                raise
            left.append(task)


@pytest.mark.slow
def test_four_starters_do_each_run_once_though_one_is_killed(tmp_path: Path) -> None:
    build(["llama-small-base", "llama-small-chat"], silent)
    seeds = range(1, 7)
    tasks = [Task(quick_config("pair=mini-llama-small-base", f"search.seed={i}"), tmp_path / f"{i}") for i in seeds]
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    starters = [server.Process(target=start_all, args=(tasks, seed)) for seed in range(4)]
    for starter in starters:
        starter.start()
    while not list(tmp_path.glob("*/search.jsonl")):
        time.sleep(0.01)
    claim = json.loads(next(tmp_path.glob("*/.claim-*")).read_text())
    os.kill(claim["pid"], signal.SIGKILL)
    for starter in starters:
        starter.join(120)
    assert sorted(starter.exitcode or 0 for starter in starters) == [-9, 0, 0, 0]
    opened = 0
    for task in tasks:
        queries = [json.loads(line) for line in (task.folder / "search.jsonl").read_text().splitlines()]
        assert len({frozenset(query["units"]) for query in queries}) == len(queries)
        assert not list(task.folder.glob(".*"))
        log = (task.folder / "run.log").read_text()
        assert log.count("the run is done") == 1
        opened += log.count("search: begins")
    assert opened in (len(tasks), len(tasks) + 1)
