"""Builds the zoo's missing models in parallel processes. A model is built after the model that it is fine-tuned from.

The main process sends model names to worker processes over pipes, and never imports torch. A worker imports torch
once, then builds one model after another.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.fetch.store import fetch
from dapa_exp.zoo import store
from dapa_exp.zoo.recipe import PAIRED, find
from dapa_exp.zoo.worker import Done, Failed, work


@dataclass
class Worker:
    """A child process, our end of its pipe, and the name of the model that it is building."""

    process: BaseProcess
    pipe: Connection
    name: str | None = None


def build(names: Iterable[str] | None, report: Report, processes: int = 2) -> None:
    """Build the named models and their parents, if they are missing or broken. None means all models of the 17 pairs.

    Several builds may run at the same time: a build locks each model while it builds it, and another build waits.
    Raises DapaError if a model cannot be built.
    """
    wanted = _with_parents(PAIRED if names is None else names)
    missing = [name for name in wanted if not store.is_built(name)]
    fetch((fetched for name in missing for fetched in find(name).sets), report)
    total = len(wanted)
    report(Progress("zoo", total - len(missing), total))
    with _workers(min(processes, len(missing))) as workers:
        todo, left = list(missing), set(missing)
        while left:
            _hand_out(todo, left, workers)
            for message in _messages(workers):
                if isinstance(message, Failed):
                    raise DapaError(f"The zoo's model '{message.name}' could not be built: {message.reason}")
                if isinstance(message, Done):
                    left.remove(message.name)
                    report(Progress("zoo", total - len(left), total, message.name))
                else:
                    report(message)


def _with_parents(names: Iterable[str]) -> list[str]:
    """The names and those of all their parents, without duplicates. Each name comes after its parent's."""
    found: dict[str, None] = {}
    for name in names:
        parent = find(name).parent
        found |= dict.fromkeys([*(_with_parents([parent]) if parent else []), name])
    return list(found)


def _hand_out(todo: list[str], left: set[str], workers: list[Worker]) -> None:
    """Give each idle worker the next model whose parent is built already."""
    for worker in workers:
        ready = next((name for name in todo if find(name).parent not in left), None)
        if worker.name is None and ready is not None:
            todo.remove(ready)
            worker.name = ready
            worker.pipe.send(ready)


def _messages(workers: list[Worker]) -> Iterator[Progress | Done | Failed]:
    """Wait for messages of the workers and yield them. Raises DapaError if a worker's process was killed."""
    ready = wait([worker.pipe for worker in workers])
    for worker in workers:
        if worker.pipe not in ready:
            continue
        try:
            message = worker.pipe.recv()
        except EOFError:
            worker.process.join()
            raise DapaError(
                f"The process that was to build the zoo's model '{worker.name}' was ended from outside "
                f"(exit code {worker.process.exitcode}; out of memory?). Run it again: what is built stays built."
            ) from None
        if not isinstance(message, Progress):
            worker.name = None
        yield message


@contextmanager
def _workers(count: int) -> Iterator[list[Worker]]:
    """Start worker processes, and end them when the block ends or raises."""
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        for _ in range(count):
            pipe, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            workers.append(Worker(process, pipe))
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
