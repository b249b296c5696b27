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
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config

PRELOAD = ["dapa_exp.execute"]


@dataclass(frozen=True)
class Task:
    """A run to carry out in its folder."""

    config: Config
    folder: Path


@dataclass
class Running:
    """A task, the process that is at it, and why it failed, where the process could say so."""

    task: Task
    child: context.ForkServerProcess
    old_error: int | None
    """When an earlier attempt left its `error.json`."""
    reason: str | None = None


def run_isolated(tasks: Sequence[Task], processes: int, report: Report) -> None:
    """Carry out every task, at most `processes` at a time. Failures are left in `error.json` files.

    Raises DapaError, when all is done, naming each failure that its folder could not hold: the disk is
    full, or the folder is another run's or in another process's hands.
    """
    forkserver = get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOAD)
    _start_server()
    waiting = deque(tasks)
    running: dict[Connection, Running] = {}
    untold: list[str] = []
    done = 0
    report(Progress("runs", 0, len(tasks)))
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                task = waiting.popleft()
                receiving, sending = forkserver.Pipe(duplex=False)
                old_error = _left_error(task.folder)
                child = forkserver.Process(target=_child, args=(task, sending), daemon=True)
                child.start()
                sending.close()
                running[receiving] = Running(task, child, old_error)
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                message = received(pipe)
                if isinstance(message, Progress):
                    report(message)
                elif message is not None:
                    running[pipe].reason = message
                else:
                    ended = running.pop(pipe)
                    pipe.close()
                    ended.child.join()
                    untold += _note_failure(ended)
                    done += 1
                    report(Progress("runs", done, len(tasks), ended.task.config.label))
    finally:
        for run in running.values():
            run.child.terminate()
        for run in running.values():
            run.child.join()
    if untold:
        raise DapaError("\n".join(untold))


def _start_server() -> None:
    """Start the fork server such that Ctrl-C does not reach it in the seconds of importing either."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a process that is started now inherits
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, heeded)


def received(pipe: Connection) -> Progress | str | None:
    """What a child says, how it failed, or None where it has ended, perhaps in the middle of a message."""
    try:
        message: Progress | str = pipe.recv()
    except (EOFError, OSError):
        return None
    return message


def _child(task: Task, sending: Connection) -> None:
    # Ctrl-C reaches parent and children alike; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    logging.raiseExceptions = False  # a full disk cannot hold the log either
    from dapa_exp.execute import execute

    def tell(message: Progress | str) -> None:
        try:
            sending.send(message)
        except OSError:
            os._exit(1)  # the sweep was killed; that is no failure of this run

    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(filename=task.folder / "run.log", level=logging.INFO, format="%(asctime)s %(message)s")
        execute(task.config, task.folder, tell)
    except (DapaError, OSError) as error:
        logging.error("%s", error)
        tell(str(error))
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


def _left_error(folder: Path) -> int | None:
    """When an error was left in a folder, if there is one."""
    try:
        return (folder / "error.json").stat().st_mtime_ns
    except OSError:
        return None


def _note_failure(ended: Running) -> list[str]:
    """Leave a reason where the child could not leave one itself; return it where that is not possible."""
    folder, code = ended.task.folder, ended.child.exitcode
    if code == 0 or _left_error(folder) not in (None, ended.old_error):
        return []
    if ended.reason is not None:
        return [ended.reason]
    killed = code is not None and code < 0
    how = f"was killed by {signal.Signals(-code).name}" if killed else f"exited with code {code}"  # type: ignore[operator]
    body = {
        "kind": "killed" if killed else "exited",
        "message": f"the process of this run {how}",
        "stage": "unknown",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        write_atomically(folder / "error.json", json.dumps(body, indent=1))
    except OSError as error:
        return [f"{folder}: {body['message']} ({error})"]
    return []
