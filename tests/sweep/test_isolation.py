"""A run that raises, exits or is killed costs only itself. Real runs, in real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path, PosixPath
from typing import Any

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, silent
from dapa_exp.record.folder import open_run
from dapa_exp.sweep.isolation import Task, next_message, run_isolated
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

    run_isolated(tasks, [None], report)
    assert [task.folder.name for task in tasks if (task.folder / "record.json").is_file()] == ["good"]
    assert "nonsense" in error(tmp_path / "raises")["message"]
    assert error(tmp_path / "exits")["message"] == "the process of this run exited with code 7"
    how = "was killed by SIGKILL, as the system does where memory runs out"
    assert error(tmp_path / "killed")["message"] == f"the process of this run {how}"
    assert heard[0] == Progress("runs", 0, 4)
    assert heard[-1].done == heard[-1].total == 4
    assert not multiprocessing.active_children()


def test_a_run_in_other_hands_is_told_and_left_alone(tmp_path: Path) -> None:
    config = quick_config(BASE)
    with open_run(tmp_path, config):
        with pytest.raises(DapaError, match="another process is working on this run"):
            run_isolated([Task(config, tmp_path)], [None] * 2, silent)
        assert not (tmp_path / "error.json").exists()


def test_an_error_of_an_earlier_attempt_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    config = quick_config(BASE)
    damaged, exits = tmp_path / "damaged", ExitingFolder(tmp_path / "exits")
    for folder in (damaged, exits):
        folder.mkdir()
        (folder / "error.json").write_text('{"kind": "DapaError", "message": "earlier", "stage": "load"}')
    (damaged / "identity.json").write_text("{")  # found out before the folder is taken
    with pytest.raises(DapaError, match=r"identity\.json: damaged"):
        run_isolated([Task(config, damaged), Task(config, exits)], [None] * 2, silent)
    assert error(exits)["message"] == "the process of this run exited with code 7"


def test_a_child_killed_in_the_middle_of_a_message_has_ended() -> None:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    sending.send(Progress("search", 1))
    os.write(sending.fileno(), struct.pack("!i", 100) + b"half of it")
    sending.close()
    assert next_message(receiving) == Progress("search", 1)
    assert next_message(receiving) is None


def test_an_interrupt_ends_the_children(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.task != "runs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated([Task(quick_config(BASE), tmp_path)], [None] * 2, interrupt)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "error.json").exists()


def server() -> int | None:
    """The process that starts runs."""
    found: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return found


@contextmanager
def server_killed(times: int) -> Iterator[list[int]]:
    """A fork server killed so many times as soon as there is one: in the seconds in which it imports."""
    killed: list[int] = []
    if (running := server()) is not None:  # another test's, which has imported all
        with suppress(ProcessLookupError):
            os.kill(running, signal.SIGKILL)
        time.sleep(0.1)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2) and len(killed) < times:
            found = server()
            if found is not None and found not in (running, *killed):
                os.kill(found, signal.SIGKILL)
                killed.append(found)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def test_a_fork_server_killed_while_it_imports_costs_nothing(tmp_path: Path) -> None:
    with server_killed(1) as killed:
        run_isolated([Task(quick_config(BASE), tmp_path / "a")], [None], silent)
    assert len(killed) == 1
    assert (tmp_path / "a" / "record.json").is_file()
    assert not (tmp_path / "a" / "error.json").exists()


def test_a_fork_server_killed_again_and_again_is_told_with_the_runs_it_did_not_begin(tmp_path: Path) -> None:
    tasks = [Task(quick_config(BASE), tmp_path / name) for name in "ab"]
    with (
        server_killed(100),
        pytest.raises(DapaError, match=r"2 runs were not begun.* was killed 3 times \(out of memory\?\): a, b"),
    ):
        run_isolated(tasks, [None], silent)
    assert not list(tmp_path.iterdir())


def test_runs_that_outlive_the_fork_server_are_not_failed(tmp_path: Path) -> None:
    def kill_server(progress: Progress) -> None:
        if progress.task.endswith("search") and not killed:
            killed.append(server())
            os.kill(killed[0], signal.SIGKILL)  # type: ignore[arg-type]

    killed: list[int | None] = []
    run_isolated([Task(quick_config(BASE), tmp_path / name) for name in "ab"], [None], kill_server)
    assert killed
    assert [(tmp_path / name / "record.json").is_file() for name in "ab"] == [True, True]
    assert not list(tmp_path.glob("*/error.json"))


def test_a_run_killed_with_the_fork_server_says_so(tmp_path: Path) -> None:
    def kill_both(progress: Progress) -> None:
        if progress.task.endswith("search"):
            (child,) = multiprocessing.active_children()
            os.kill(server(), signal.SIGKILL)  # type: ignore[arg-type]
            os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]

    run_isolated([Task(quick_config(BASE), tmp_path / "a")], [None], kill_both)
    message = "the process of this run was killed together with the process that had started it (out of memory?)"
    assert error(tmp_path / "a")["message"] == message
    log = (tmp_path / "a" / "run.log").read_text()
    assert "search: begins" in log.splitlines()[-1] or "units, DSR" in log.splitlines()[-1]
