"""A run that raises, exits or is killed costs only itself. Real runs, in real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
from pathlib import Path, PosixPath
from typing import Any

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, silent
from dapa_exp.record.folder import open_run
from dapa_exp.sweep.isolation import Task, received, run_isolated
from dapa_exp.zoo.build import build
from tests.settings import quick_config

BASE = "pair=mini-llama-small-base"


class ExitingFolder(PosixPath):
    """A folder that ends the child that begins to work in it."""

    def mkdir(self, *args: Any, **options: Any) -> None:
        if multiprocessing.parent_process() is not None:
            os._exit(7)
        super().mkdir(*args, **options)


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build(["llama-small-base", "llama-small-chat", "llama-small-style"], silent)


def error(folder: Path) -> dict[str, str]:
    return json.loads((folder / "error.json").read_text())


@pytest.mark.slow
def test_others_go_on_where_one_raises_exits_or_is_killed(tmp_path: Path) -> None:
    victim, good = quick_config("pair=mini-llama-small-style"), quick_config(BASE)
    tasks = [
        Task(quick_config(BASE, "dataset.search.column=nonsense"), tmp_path / "raises"),
        Task(good, ExitingFolder(tmp_path / "exits")),
        Task(victim, tmp_path / "killed"),
        Task(good, tmp_path / "good"),
    ]
    heard: list[Progress] = []

    def report(progress: Progress) -> None:
        heard.append(progress)
        if progress.task == f"{victim.label}: search":
            (child,) = multiprocessing.active_children()
            child.kill()

    run_isolated(tasks, 1, report)
    assert [task.folder.name for task in tasks if (task.folder / "record.json").is_file()] == ["good"]
    assert "nonsense" in error(tmp_path / "raises")["message"]
    assert error(tmp_path / "exits")["message"] == "the process of this run exited with code 7"
    assert error(tmp_path / "killed")["message"] == "the process of this run was killed by SIGKILL"
    assert heard[0] == Progress("runs", 0, 4)
    assert heard[-1].done == heard[-1].total == 4
    assert not multiprocessing.active_children()


def test_a_run_in_other_hands_is_told_and_left_alone(tmp_path: Path) -> None:
    config = quick_config(BASE)
    with open_run(tmp_path, config):
        with pytest.raises(DapaError, match="another process is working on this run"):
            run_isolated([Task(config, tmp_path)], 2, silent)
        assert not (tmp_path / "error.json").exists()


def test_an_error_of_an_earlier_attempt_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    config = quick_config(BASE)
    damaged, exits = tmp_path / "damaged", ExitingFolder(tmp_path / "exits")
    for folder in (damaged, exits):
        folder.mkdir()
        (folder / "error.json").write_text('{"kind": "DapaError", "message": "earlier", "stage": "load"}')
    (damaged / "identity.json").write_text("{")  # found out before the folder is taken
    with pytest.raises(DapaError, match=r"identity\.json: damaged"):
        run_isolated([Task(config, damaged), Task(config, exits)], 2, silent)
    assert error(exits)["message"] == "the process of this run exited with code 7"


def test_a_child_killed_in_the_middle_of_a_message_has_ended() -> None:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    sending.send(Progress("search", 1))
    os.write(sending.fileno(), struct.pack("!i", 100) + b"half of it")
    sending.close()
    assert received(receiving) == Progress("search", 1)
    assert received(receiving) is None


def test_an_interrupt_ends_the_children(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.task != "runs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated([Task(quick_config(BASE), tmp_path)], 2, interrupt)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "error.json").exists()
