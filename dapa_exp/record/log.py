"""`run.log`: what a run did and when. It shows where a run failed, without running it again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Remark, Report

_EVENTS = logging.getLogger("dapa_exp.run_log")
_EVENTS.setLevel(logging.INFO)
_EVENTS.propagate = False  # these events are progress, which the terminal shows already
_HEARD = ("", "transformers")
"""Loggers whose warnings go to the log too: the root logger, and transformers', which does not propagate to it."""


class _File(logging.FileHandler):
    """A log file whose errors are ignored: a full disk must not stop the run because its log cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name in logging
        pass


@contextmanager
def run_log(file: Path) -> Iterator[None]:
    """Append a run's events and the warnings of libraries to `file` while the block runs. Times are UTC."""
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
    """Write one line to the open log; with an error, its traceback too."""
    _EVENTS.info(message, exc_info=error)


def log_progress(report: Report) -> Report:
    """A progress callable that calls `report`, and logs when a task begins, ends or has a new note."""
    said: dict[str, str] = {}

    def both(progress: Progress) -> None:
        task, said_now = progress.task, progress.note
        if isinstance(progress, Remark):
            note(str(progress))
        elif said.get(task) != said_now or progress.done == progress.total:
            of = "" if progress.total is None else f"/{progress.total}"
            note(f"{task}: {progress.done}{of}{'  ' if said_now else ''}{said_now}")
        said[task] = said_now
        report(progress)

    return both


class _Warnings(logging.Handler):
    """Passes warnings and errors on to the log's own handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        self._handler.emit(record)
