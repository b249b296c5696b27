"""`dapa status DIR`: lists the status of every run of a sweep."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import console
from dapa_exp.record.status import RunStatus, State, status

STYLES: dict[State, str] = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "missing": "dim",
}


def unsent(run: RunStatus) -> str:
    """A sentence about a finished run whose mirror failed; an empty string for other runs."""
    return f"not mirrored: {run.unsent}; the record is safe, and `dapa mirror` tries again" if run.unsent else ""


def status_command(words: list[str]) -> int:
    """`dapa status DIR`: print every run of a sweep with its status. The exit code is 0 if all are done, else 1."""
    if len(words) != 1:
        raise DapaError("dapa status needs one folder, such as multirun/miniature")
    statuses = status(Path(words[0]))
    show(statuses, console())
    return 0 if all(run.state == "done" for run in statuses) else 1


def show(statuses: list[RunStatus], shown_on: Console) -> None:
    """Print one line for each run with the settings in which runs differ, and the number of runs in each state.

    If the runs do not differ in the listed settings, their folder names are printed.
    """
    settings = [s for s in ("granularity", "search", "dataset") if len({getattr(run, s) for run in statuses}) > 1]
    if len({tuple(getattr(run, s) for s in ("pair", *settings)) for run in statuses}) < len(statuses):
        settings.append("folder")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("pair", *settings, "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for run in statuses:
        cells = [run.pair or run.folder, *(getattr(run, s) for s in settings)]
        state = Text(run.state, style=STYLES[run.state])
        table.add_row(*(Text(cell) for cell in cells), state, Text(run.reason or unsent(run)))
    shown_on.print(table)
    count = Counter(run.state for run in statuses)
    counts = ", ".join(f"{count[state]} {state}" for state in STYLES if count[state])
    shown_on.print(f"{len(statuses)} run{'s' if len(statuses) > 1 else ''}: {counts}", highlight=False)
