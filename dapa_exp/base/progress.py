"""Progress of long work: rich bars on a terminal, plain lines elsewhere.

Work reports `Progress` values to a callable and knows nothing of how they are shown, so the same
code runs in this process, in a child that sends them through a queue, and in a test.
"""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bars,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL_SECONDS = 5.0
SHORTEST_PACE_SECONDS = 1.0
"""No pace is shown before this many seconds: it would be noise."""
TABLE_WIDTH = 200


@dataclass(frozen=True)
class Progress:
    """How far one task is. `total` is None if it is unknown. The task ends when `done` equals `total`."""

    task: str
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Remark(Progress):
    """Something about a task that a user should know. It is shown once, however often it is reported."""

    def __str__(self) -> str:
        return f"{self.task}: {self.note}"


Report = Callable[[Progress], None]


LOOK_ALIKES = str.maketrans(
    {"≥": ">=", "≤": "<=", "≈": "~", "–": "-", "−": "-", "→": "->", "×": "x", "†": "+", "‡": "++", "κ": "kappa"}
)
"""ASCII replacements for terminals whose encoding lacks these characters."""


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs`: the ASCII text that replaces the failed characters, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(LOOK_ALIKES)
    return text.encode("ascii", "replace").decode(), error.end


codecs.register_error("look_alike", _look_alike)


def console() -> Console:
    """The console for results: as wide as the terminal, or TABLE_WIDTH columns if the output is not a terminal.

    Characters that the terminal's encoding lacks, such as ≥ in Latin-1, are printed as similar ASCII characters.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="look_alike")
    shown = Console()
    return shown if shown.is_terminal else Console(width=TABLE_WIDTH)


def silent(_: Progress) -> None:
    """A `Report` that discards progress."""


@contextmanager
def display() -> Iterator[Report]:
    """Show progress on stderr while the block runs. Yields the callable that takes `Progress` values."""
    shown = Console(stderr=True)
    with _bars(shown) if shown.is_terminal else nullcontext(_Lines()) as report:
        said: set[Progress] = set()

        def show(progress: Progress) -> None:
            if not isinstance(progress, Remark):
                report(progress)
            elif progress not in said:
                said.add(progress)
                shown.print(str(progress), markup=False, highlight=False, soft_wrap=True)

        yield show


@contextmanager
def _bars(shown: Console) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Bars(*columns, console=shown) as bars:
        tasks: dict[str, TaskID] = {}

        def report(progress: Progress) -> None:
            if progress.task not in tasks:
                tasks[progress.task] = bars.add_task(progress.task, total=progress.total, note="")
            bars.update(
                tasks[progress.task],
                completed=progress.done,
                total=progress.total,
                note=progress.note,
            )

        yield report


class _Lines:
    """One line when a task starts and ends, and one every few seconds between."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}
        """By task: the time of its first report, and its `done` then, which is above 0 in a resumed run."""
        self._printed: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        started, found = self._started.setdefault(progress.task, (now, progress.done))
        due = now - self._printed.get(progress.task, -PLAIN_INTERVAL_SECONDS)
        if progress.done != progress.total and due < PLAIN_INTERVAL_SECONDS:
            return
        self._printed[progress.task] = now
        of = f"/{progress.total}" if progress.total is not None else ""
        seconds, made = now - started, progress.done - found
        pace = f" ({_pace(made / seconds, progress)})" if made and seconds >= SHORTEST_PACE_SECONDS else ""
        note = f"  {progress.note}" if progress.note else ""
        print(f"{progress.task}: {progress.done}{of}{pace}{note}", file=sys.stderr, flush=True)


def _pace(rate: float, progress: Progress) -> str:
    """A task's pace in words, from its rate in steps per second, and the estimated time left."""
    left = f", {(progress.total - progress.done) / rate:.0f} s left" if progress.total else ""
    return (f"{rate:.2g}/s" if rate < 100 else f"{rate:.0f}/s") + left
