"""`dapa status DIR`: lists every run of a sweep: how far it is, who works on it, why it failed, and what to do next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import console
from dapa_exp.record.status import RunStatus, Siblings, State, last_words, status
from dapa_exp.sweep.submit import mark_waiting

STYLES: dict[State, str] = {
    "done": "green",
    "searched": "green",
    "running": "cyan",
    "waiting": "blue",
    "failed": "red",
    "interrupted": "yellow",
    "missing": "dim",
}
WATCH_SECONDS = 5.0


def unsent(run: RunStatus) -> str:
    """A sentence about a finished run whose mirror failed; an empty string for other runs."""
    return f"not mirrored: {run.unsent}; the record is safe, and `dapa mirror` tries again" if run.unsent else ""


def status_command(words: list[str]) -> int:
    """`dapa status [--watch] DIR`: print every run of a sweep, or a run, with its status.

    With --watch, look again every few seconds until no run is being worked on. The exit code is 0 if all runs are
    done, else 1.
    """
    folders = [word for word in words if word != "--watch"]
    if len(folders) != 1:
        raise DapaError("dapa status needs one folder, such as multirun/miniature")
    folder, shown_on = Path(folders[0]), console()
    runs = _watch(folder, shown_on) if "--watch" in words else mark_waiting(status(folder))
    if not (shown_on.is_terminal and "--watch" in words):
        show(runs, shown_on)
    return 0 if all(run.state == "done" for run in runs) else 1


def _watch(folder: Path, shown_on: Console) -> Sequence[RunStatus]:
    """Show a sweep until no run is being worked on: on a terminal all runs, else a line for each change."""
    said = ""
    screen = Live(console=shown_on, auto_refresh=False, vertical_overflow="visible")
    with screen if shown_on.is_terminal else nullcontext() as live:
        while True:
            runs = mark_waiting(status(folder))
            if live:
                live.update(_overview(runs), refresh=True)
            if not any(run.state in ("running", "waiting") for run in runs):
                return runs
            if not live and _counts(runs) != said:
                print(said := _counts(runs), flush=True)
            time.sleep(WATCH_SECONDS)


def show(runs: Sequence[RunStatus], shown_on: Console) -> None:
    """Print one line for each run, the number of runs in each state, and what to do next."""
    shown_on.print(_overview(runs), highlight=False)


def _overview(runs: Sequence[RunStatus]) -> RenderableType:
    siblings = Siblings(runs)
    lines = [f"{_counts(runs)}{_time_left(runs, siblings)}", *_next(runs)]
    return Group(_table(runs, siblings), *map(Text, lines))


def _counts(runs: Sequence[RunStatus]) -> str:
    """How many runs are in each state."""
    count = Counter(run.state for run in runs)
    counts = ", ".join(f"{count[state]} {state}" for state in STYLES if count[state])
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {counts}"


def _table(runs: Sequence[RunStatus], siblings: Siblings) -> Table:
    """A line for each run, with the settings in which runs differ; their folders, if the settings are all the same."""
    settings = [s for s in ("granularity", "search", "dataset") if len({getattr(run, s) for run in runs}) > 1]
    if len({tuple(getattr(run, s) for s in ("pair", *settings)) for run in runs}) < len(runs):
        settings.append("folder")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("pair", *settings, "state"):
        table.add_column(name, no_wrap=True)
    working = any(run.work for run in runs)
    for name in ("stage", "queries", "tokens/s", "left") if working else ():
        table.add_column(name, no_wrap=True, justify="left" if name == "stage" else "right")
    table.add_column("where or why", overflow="fold")
    for run in runs:
        cells = [run.pair or run.folder, *(getattr(run, s) for s in settings)]
        state = Text(run.state, style=STYLES[run.state])
        done = _work_cells(run, siblings) if working else ()
        table.add_row(*map(Text, cells), state, *done, Text(_where_or_why(run)))
    return table


def _work_cells(run: RunStatus, siblings: Siblings) -> tuple[str, str, str, str]:
    if run.work is None:
        return "", "", "", ""
    left = _seconds_left(run, siblings)
    pace = run.work.tokens_per_second
    return run.work.stage, str(run.work.queries), f"{pace:.0f}" if pace else "", duration(left) if left else ""


def _where_or_why(run: RunStatus) -> str:
    if run.owner:
        return str(run.owner)
    said = "; ".join(part for part in (run.reason, run.outdated) if part) or unsent(run)
    log = last_words(run) if run.state == "failed" else ""
    repeated = (log.partition(" failed: ")[2] or log) in said
    return said if repeated else f"{said}\n{run.files.log} ends: {log}"


def _seconds_left(run: RunStatus, siblings: Siblings) -> float | None:
    """What an unfinished run will probably still take, by its finished siblings; None if there is none."""
    whole = siblings.seconds(run)
    return None if whole is None else max(0.0, whole - (run.work.seconds if run.work else 0))


def _time_left(runs: Sequence[RunStatus], siblings: Siblings) -> str:
    """The estimated time until all runs are done, at as many at a time as now; an empty text if it is unknown."""
    left = [_seconds_left(run, siblings) for run in runs if run.state != "done"]
    at_once = sum(run.state == "running" for run in runs)
    known = [seconds for seconds in left if seconds is not None]
    if not known or not at_once:
        return ""
    about = "about" if len(known) == len(left) else "at least"
    return f"; {about} {duration(sum(known) / at_once)} left, {at_once} at a time"


def _next(runs: Sequence[RunStatus]) -> list[str]:
    """What a user can do now, one sentence a line."""
    state = Counter(run.state for run in runs)
    sweep = runs[0].path.parent
    if state["searched"] == len(runs):
        return ["next: the command without record.until=search goes on from here"]
    if state["done"] + state["searched"] == len(runs):
        return [f"next: dapa report {sweep}" if len(runs) > 1 else f"next: dapa report {runs[0].path}"]
    said = []
    if state["running"] or state["waiting"]:
        said.append(f"dapa status --watch {sweep} follows")
    elif state["failed"]:
        said.append("next: mend what failed (its log says more), then give the same command again")
    else:
        said.append("next: give the same command again; it goes on from here")
    return said


def duration(seconds: float) -> str:
    """Seconds as H:MM:SS."""
    return str(timedelta(seconds=round(seconds)))
