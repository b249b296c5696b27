"""`run.log`: what a run did and when, so that whoever finds it failed need not run it again to see where."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report

_EVENTS = logging.getLogger("dapa_exp.run_log")
_EVENTS.setLevel(logging.INFO)
_EVENTS.propagate = False  # the terminal has the progress
_HEARD = ("", "transformers")
"""Loggers whose warnings are written, too: the root, and one that hands nothing on to it."""


class _File(logging.FileHandler):
    """A log that never ends what it is the log of: a full disk cannot hold it either."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, its name in logging
        pass


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Write a run's events, and what libraries warn of meanwhile, to the end of its log. Times are UTC."""
    handler = _File(file, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    others = [logging.getLogger(name) for name in _HEARD]
    warnings = _Warnings(handler)
    _EVENTS.addHandler(handler)
    for other in others:
        other.addHandler(warnings)
    try:
        yield
    except DapaError as error:
        note(f"failed: {error}")
        raise
    except (KeyboardInterrupt, BrokenPipeError):
        note("interrupted")
        raise
    except BaseException as error:
        note("failed:", error)
        raise
    finally:
        for other in others:
            other.removeHandler(warnings)
        _EVENTS.removeHandler(handler)
        handler.close()


def note(message: str, error: BaseException | None = None) -> None:
    """Write a line; with an error, also where in the code it came from."""
    _EVENTS.info(message, exc_info=error)


def noted(report: Report) -> Report:
    """The same report of progress, written down where a task begins, ends, or says something new."""
    said: dict[str, str] = {}

    def both(progress: Progress) -> None:
        task, said_now = progress.task, progress.note
        if said.get(task) != said_now or progress.done == progress.total:
            of = "" if progress.total is None else f"/{progress.total}"
            note(f"{task}: {progress.done}{of}{'  ' if said_now else ''}{said_now}")
        said[task] = said_now
        report(progress)

    return both


def this_process() -> str:
    """Which process this is, and on which machine; on a cluster, of which job."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {platform.node()}{f', job {job}' if job else ''}"


class _Warnings(logging.Handler):
    """Hands warnings, and what is worse, to the log's own handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        self._handler.emit(record)
