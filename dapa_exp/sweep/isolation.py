"""Runs in child processes, so that one that raises, exits or is killed costs only itself.

The children come from a fork server that has paid the seconds of importing torch and transformers
once. Each reports its progress through a pipe of its own: a lock shared between children could be
held for ever by one that is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import context, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config
from dapa_exp.record.folder import leave_error
from dapa_exp.record.layout import RunLayout

PRELOAD = ["dapa_exp.execute"]
ATTEMPTS = 3
"""How often the fork server may die before it has begun a run."""
UNKNOWN = 255
"""The exit code where the fork server died, which alone knows with which code its children ended."""


@dataclass(frozen=True)
class Task:
    """A run to carry out in its folder."""

    config: Config
    folder: Path


@dataclass(frozen=True)
class Finished:
    """What a child says last when its run went well."""


Message = Progress | str | Finished
"""What a child says: how far it is, why it failed, or that it is done."""


@dataclass
class Running:
    """A task, the process that is at it, and why it failed, where the process could say so."""

    task: Task
    child: context.ForkServerProcess
    old_error: int | None
    """When an earlier attempt left its error."""
    reason: str | None = None
    finished: bool = False


def run_isolated(tasks: Sequence[Task], processes: int, report: Report) -> None:
    """Carry out every task, at most `processes` at a time. Failures are left in the runs' folders.

    Raises DapaError, when all is done, naming each failure that its folder could not hold: the disk is
    full, or the folder is another run's or in another process's hands. So it does where runs could not be begun.
    """
    waiting = deque(tasks)
    running: dict[Connection, Running] = {}
    untold: list[str] = []
    done = 0
    report(Progress("runs", 0, len(tasks)))
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                if (begun := _begin(waiting[0])) is None:
                    untold.append(_not_begun(waiting))
                    waiting.clear()
                else:
                    waiting.popleft()
                    running |= [begun]
            for pipe in wait(list(running)) if running else ():
                assert isinstance(pipe, Connection)
                message = received(pipe)
                if message is None:
                    ended = running.pop(pipe)
                    pipe.close()
                    ended.child.join()
                    untold += _note_failure(ended)
                    done += 1
                    report(Progress("runs", done, len(tasks), ended.task.config.label))
                else:
                    _heed(message, running[pipe], report)
    finally:
        for run in running.values():
            run.child.terminate()
        for run in running.values():
            run.child.join()
    if untold:
        raise DapaError("\n".join(untold))


def _begin(task: Task) -> tuple[Connection, Running] | None:
    """Start a task's process; None where the server that is to start it died again and again."""
    forkserver = get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOAD)
    for _ in range(ATTEMPTS):
        receiving, sending = forkserver.Pipe(duplex=False)
        old_error = _left_error(task.folder)
        child = forkserver.Process(target=_child, args=(task, sending), daemon=True)
        try:
            _start_server()
            child.start()
        except (EOFError, ConnectionError):  # it was killed, perhaps while it was importing
            receiving.close()
        else:
            return receiving, Running(task, child, old_error)
        finally:
            sending.close()
    return None


def _not_begun(waiting: Sequence[Task]) -> str:
    names = ", ".join(task.folder.name for task in waiting)
    return (
        f"{len(waiting)} runs were not begun, since the process that starts them was killed {ATTEMPTS} times (out of"
        f" memory?): {names}"
    )


def _heed(message: Message, run: Running, report: Report) -> None:
    match message:
        case Progress():
            report(message)
        case Finished():
            run.finished = True
        case str():
            run.reason = message


def _start_server() -> None:
    """Start the fork server such that Ctrl-C does not reach it in the seconds of importing either."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a process that is started now inherits
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, heeded)


def received(pipe: Connection) -> Message | None:
    """What a child says, or None where it has ended, perhaps in the middle of a message."""
    try:
        message: Message = pipe.recv()
    except (EOFError, OSError):
        return None
    return message


def _child(task: Task, sending: Connection) -> None:
    # Ctrl-C reaches parent and children alike; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    logging.raiseExceptions = False  # of a library's own log, which a full disk cannot hold either
    from dapa_exp.execute import execute

    def tell(message: Message) -> None:
        try:
            sending.send(message)
        except OSError:
            os._exit(1)  # the sweep was killed; that is no failure of this run

    try:
        execute(task.config, task.folder, tell)
    except (DapaError, OSError) as error:
        tell(str(error))
        raise SystemExit(1) from None
    except Exception as error:  # the run's log has the traceback
        tell(f"{task.folder}: {type(error).__name__}: {error}")
        raise SystemExit(1) from None
    tell(Finished())


def _die_with_parent() -> None:
    """A run whose sweep was killed must not go on writing where the next attempt will resume it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _left_error(folder: Path) -> int | None:
    """When an error was left in a folder, if there is one."""
    try:
        return RunLayout(folder).error.stat().st_mtime_ns
    except OSError:
        return None


def _note_failure(ended: Running) -> list[str]:
    """Leave a reason where the child could not leave one itself; return it where that is not possible."""
    folder = ended.task.folder
    if ended.finished or _left_error(folder) not in (None, ended.old_error):
        return []
    if ended.reason is not None:
        return [ended.reason]
    if RunLayout(folder).record.is_file():  # it was killed in what follows a run
        return []
    kind, how = _ending(ended.child.exitcode)
    message = f"the process of this run {how}"
    try:
        leave_error(folder, kind, message)
    except OSError as error:
        return [f"{folder}: {message} ({error})"]
    return []


def _ending(code: int | None) -> tuple[str, str]:
    """How a process ended that said nothing: the kind of failure, and the end of a sentence."""
    if code is not None and code < 0:
        killed = signal.Signals(-code)
        hint = ", as the system does where memory runs out" if killed is signal.SIGKILL else ""
        return "killed", f"was killed by {killed.name}{hint}"
    if code == UNKNOWN:
        return "killed", "was killed together with the process that had started it (out of memory?)"
    return "exited", f"exited with code {code}"
