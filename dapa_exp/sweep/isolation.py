"""Runs in child processes, so that one that raises, exits or is killed costs only itself.

The children come from a fork server that has paid the seconds of importing torch and transformers
once. Each reports its progress through a pipe of its own: a lock shared between children could be
held for ever by one that is killed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import context, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from dapa_exp.config.schema import Config
from dapa_exp.progress import Progress, Report
from dapa_exp.record.folder import write_atomically

PRELOAD = ["dapa_exp.execute"]


@dataclass(frozen=True)
class Task:
    """A run to carry out in its folder."""

    config: Config
    folder: Path


def run_isolated(tasks: Sequence[Task], processes: int, report: Report) -> None:
    """Carry out every task, at most `processes` at a time. Failures are left in `error.json` files."""
    forkserver = get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOAD)
    waiting = deque(tasks)
    running: dict[Connection, tuple[Task, context.ForkServerProcess]] = {}
    done = 0
    report(Progress("runs", 0, len(tasks)))
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                task = waiting.popleft()
                receiving, sending = forkserver.Pipe(duplex=False)
                child = forkserver.Process(target=_child, args=(task, sending), daemon=True)
                child.start()
                sending.close()
                running[receiving] = task, child
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    report(pipe.recv())
                except EOFError:
                    task, child = running.pop(pipe)
                    pipe.close()
                    child.join()
                    _note_death(task, child.exitcode)
                    done += 1
                    report(Progress("runs", done, len(tasks), task.config.pair.name))
    finally:
        for _, child in running.values():
            child.terminate()
        for _, child in running.values():
            child.join()


def _child(task: Task, sending: Connection) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    from dapa_exp.errors import DapaError
    from dapa_exp.execute import execute

    task.folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=task.folder / "run.log", level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        execute(task.config, task.folder, sending.send)
    except DapaError as error:
        logging.error("%s", error)
        raise SystemExit(1) from None
    except Exception:
        logging.exception("the run failed")
        raise SystemExit(1) from None


def _die_with_parent() -> None:
    """A run whose sweep was killed must not go on writing where the next attempt will resume it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _note_death(task: Task, exitcode: int | None) -> None:
    """Leave a reason where the child could not leave one itself."""
    if exitcode == 0 or (task.folder / "error.json").is_file():
        return
    killed = exitcode is not None and exitcode < 0
    how = f"killed by {signal.Signals(-exitcode).name}" if killed else f"exited with code {exitcode}"  # type: ignore[operator]
    body = {
        "kind": "killed" if killed else "exited",
        "message": f"the process of this run {how}",
        "stage": "unknown",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(task.folder / "error.json", json.dumps(body, indent=1))
