"""Carries out each run of a sweep in a child process. A run that raises, exits or is killed does not affect the others.

The children are forked from a server process that has imported torch and transformers, which takes seconds. Each child
reports through its own pipe. A shared queue would need a lock, and a killed child could hold that lock forever.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
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
from dapa_exp.sweep.slots import VISIBLE, Slot

PRELOAD = ["dapa_exp.execute"]
ATTEMPTS = 3
"""How often to start a run's process if the fork server is killed meanwhile."""
GRACE_SECONDS = 5.0
"""How long a child may take to stop before it is killed."""
UNKNOWN = 255
"""The exit code of a child whose fork server was killed. Only the server knows its children's true exit codes."""


@dataclass(frozen=True)
class Task:
    """A run to carry out, and its folder."""

    config: Config
    folder: Path


@dataclass(frozen=True)
class Finished:
    """A child's last message, if its run succeeded."""


Message = Progress | str | Finished
"""A child's message: its progress, the reason of its failure, or its success."""


@dataclass
class Running:
    """A task, its child process, and the reason of a failure if the child has reported one."""

    task: Task
    slot: Slot
    child: context.ForkServerProcess
    old_error: int | None
    """Modification time of the `error.json` that an earlier attempt left; None if there is none."""
    reason: str | None = None
    finished: bool = False


def run_isolated(tasks: Sequence[Task], slots: Sequence[Slot], report: Report) -> None:
    """Carry out every task, one at a time in each slot. A failed run has an `error.json` in its folder.

    After all tasks, raises DapaError if some failure could not be written to its run's folder, because the disk is
    full, or the folder belongs to another run or is locked by another process; or if some runs could not be started.
    """
    waiting = deque(tasks)
    running: dict[Connection, Running] = {}
    untold: list[str] = []
    free = list(slots)
    done = 0
    report(Progress("runs", 0, len(tasks)))
    try:
        while waiting or running:
            while waiting and free:
                if (begun := _begin(waiting[0], free[0])) is None:
                    untold.append(_not_begun(waiting))
                    waiting.clear()
                else:
                    waiting.popleft()
                    free.pop(0)
                    running |= [begun]
            for pipe in wait(list(running)) if running else ():
                assert isinstance(pipe, Connection)
                message = next_message(pipe)
                if message is None:
                    ended = running.pop(pipe)
                    free.append(ended.slot)
                    pipe.close()
                    ended.child.join()
                    untold += _note_failure(ended)
                    done += 1
                    report(Progress("runs", done, len(tasks), ended.task.config.label))
                else:
                    _handle_message(message, running[pipe], report)
    finally:
        _end([run.child for run in running.values()])
    if untold:
        raise DapaError("\n".join(untold))


def _begin(task: Task, slot: Slot) -> tuple[Connection, Running] | None:
    """Start a task's child process. None if the fork server was killed ATTEMPTS times."""
    forkserver = get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOAD)
    for attempt in range(ATTEMPTS):
        time.sleep(attempt)  # seconds, after a failure: a killed server can still look alive for a moment
        receiving, sending = forkserver.Pipe(duplex=False)
        old_error = _left_error(task.folder)
        child = forkserver.Process(target=_child, args=(task, slot, sending), daemon=True)
        try:
            _start_server()
            child.start()
        except (EOFError, ConnectionError):  # the server was killed, perhaps while it was importing
            receiving.close()
        else:
            return receiving, Running(task, slot, child, old_error)
        finally:
            sending.close()
    return None


def _not_begun(waiting: Sequence[Task]) -> str:
    names = ", ".join(task.folder.name for task in waiting)
    return (
        f"{len(waiting)} runs were not begun, since the process that starts them was killed {ATTEMPTS} times (out of"
        f" memory?): {names}"
    )


def _handle_message(message: Message, run: Running, report: Report) -> None:
    match message:
        case Progress():
            report(message)
        case Finished():
            run.finished = True
        case str():
            run.reason = message


def _start_server() -> None:
    """Start the fork server with Ctrl-C ignored, also during the seconds in which it imports."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the new process inherits this
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, heeded)


def next_message(pipe: Connection) -> Message | None:
    """The next message of a child; None if the child has ended, perhaps in the middle of a message."""
    try:
        message: Message = pipe.recv()
    except (EOFError, OSError):
        return None
    return message


def _end(children: Sequence[context.ForkServerProcess]) -> None:
    """End child processes: they stop by themselves after SIGTERM, or are killed GRACE_SECONDS later."""
    for child in children:
        child.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for child in children:
        child.join(max(0.0, end - time.monotonic()))
        child.kill()
        child.join()


def _child(task: Task, slot: Slot, sending: Connection) -> None:
    # Ctrl-C reaches parent and children. Only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # In a job of submitit, SLURM sends SIGTERM to all processes as a warning, and kills and requeues the job later.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "SUBMITIT_EXECUTOR" in os.environ else _interrupt)
    if slot is not None:
        os.environ[VISIBLE] = slot
    threading.Thread(target=_die_with_parent, daemon=True).start()
    logging.raiseExceptions = False  # no tracebacks if a library cannot write its log (a full disk)
    from dapa_exp.execute import execute

    def tell(message: Message) -> None:
        try:
            sending.send(message)
        except OSError:
            os._exit(1)  # the sweep's process was killed: this run has not failed

    try:
        execute(task.config, task.folder, tell)
    except KeyboardInterrupt:  # the run is in order; now the process ends as SIGTERM ends others
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    except (DapaError, OSError) as error:
        tell(str(error))
        raise SystemExit(1) from None
    except Exception as error:  # its traceback is in run.log
        tell(f"{task.folder}: {type(error).__name__}: {error}")
        raise SystemExit(1) from None
    tell(Finished())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, so that it does not write to a run that is resumed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _left_error(folder: Path) -> int | None:
    """Modification time of a folder's `error.json` in nanoseconds; None if there is none."""
    try:
        return RunLayout(folder).error.stat().st_mtime_ns
    except OSError:
        return None


def _note_failure(ended: Running) -> list[str]:
    """Write `error.json` for a child that could not. Returns the reasons that could not be written either."""
    folder = ended.task.folder
    if ended.finished or _left_error(folder) not in (None, ended.old_error):
        return []
    if ended.reason is not None:
        return [ended.reason]
    if RunLayout(folder).record.is_file():  # the run was done; its process was killed later
        return []
    kind, how = _ending(ended.child.exitcode)
    message = f"the process of this run {how}"
    try:
        leave_error(folder, kind, message)
    except OSError as error:
        return [f"{folder}: {message} ({error})"]
    return []


def _ending(code: int | None) -> tuple[str, str]:
    """How a child ended that sent no reason: the kind of failure, and the end of a sentence."""
    if code is not None and code < 0:
        killed = signal.Signals(-code)
        hint = ", as the system does where memory runs out" if killed is signal.SIGKILL else ""
        return "killed", f"was killed by {killed.name}{hint}"
    if code == UNKNOWN:
        return "killed", "was killed together with the process that had started it (out of memory?)"
    return "exited", f"exited with code {code}"
