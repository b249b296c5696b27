"""What became of every run of a sweep: done, running, failed, interrupted or missing, by the run folders alone."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dapa_exp.errors import DapaError
from dapa_exp.progress import console
from dapa_exp.record.schema import Record, damage

State = Literal["done", "running", "failed", "interrupted", "missing"]

STYLES: dict[State, str] = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "missing": "dim",
}
SAID_BY_MESSAGE = ("DapaError", "killed", "exited")
ASKED = ("identity", "pair", "family", "granularity", "search", "dataset")
RUN_FILES = ("config.yaml", "search.jsonl", "record.json", "error.json")


@dataclass(frozen=True)
class RunStatus:
    """One run that was asked for or found. A field that nothing in the folder tells is empty."""

    path: Path
    folder: str
    identity: str = ""
    pair: str = ""
    family: str = ""
    granularity: str = ""
    search: str = ""
    dataset: str = ""
    state: State = "missing"
    reason: str | None = None
    record: Record | None = field(default=None, repr=False, compare=False)


def status(folder: Path) -> list[RunStatus]:
    """Every run of a sweep folder, or the one run of a run folder. Raises DapaError where there is none."""
    if not folder.is_dir():
        raise DapaError(f"{folder}: no such folder")
    asked = _asked(folder)
    if not asked and _is_run(folder):
        return [_read(RunStatus(folder, folder.resolve().name))]
    known = {run.folder for run in asked}
    found = [RunStatus(path, path.name) for path in sorted(folder.iterdir()) if _is_run(path)]
    runs = asked + [run for run in found if run.folder not in known]
    if not runs:
        raise DapaError(f"{folder}: holds no runs (no sweep.json, and no folder with a config.yaml or record.json)")
    return [_read(run) for run in runs]


def search_name(algorithm: str, prior: str | None) -> str:
    """A search as lists and tables name it: another prior is another search."""
    return f"{algorithm}+{prior}" if prior else algorithm


def is_running(folder: Path) -> bool:
    """Whether a process has a run's folder open. To look leaves nothing behind and needs no right to write."""
    try:
        with (folder / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: others may look at the same time
    except BlockingIOError:
        return True
    except OSError:  # no such file, or none that may be read
        pass
    return False


def status_command(words: list[str]) -> int:
    """`dapa status DIR`: 0 where all that was asked for is done, else 1."""
    if len(words) != 1:
        raise DapaError("dapa status needs one folder, such as multirun/miniature")
    statuses = status(Path(words[0]))
    show(statuses, console())
    return 0 if all(run.state == "done" for run in statuses) else 1


def show(statuses: list[RunStatus], shown_on: Console) -> None:
    """Print a line a run, with the settings that differ between them, and a count of each state.

    Where runs differ in other settings only, the folders' names tell them apart.
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
        table.add_row(*(Text(cell) for cell in cells), state, Text(run.reason or ""))
    shown_on.print(table)
    count = Counter(run.state for run in statuses)
    counts = ", ".join(f"{count[state]} {state}" for state in STYLES if count[state])
    shown_on.print(f"{len(statuses)} run{'s' if len(statuses) > 1 else ''}: {counts}", highlight=False)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in RUN_FILES)


def _asked(folder: Path) -> list[RunStatus]:
    """The runs that sweep.json says were asked for; none where there is no such file."""
    path = folder / "sweep.json"
    if not path.is_file():
        return []
    try:
        runs = json.loads(path.read_text())["runs"]
        return [RunStatus(folder / run["folder"], run["folder"], *(run[name] for name in ASKED)) for run in runs]
    except (ValueError, KeyError, TypeError) as error:
        raise DapaError(f"{path}: is not a list of runs ({type(error).__name__}: {error})") from error


def _read(run: RunStatus) -> RunStatus:
    running = is_running(run.path)  # first, since it may be done a moment later
    run = _from_config(run)
    if (run.path / "record.json").is_file():
        return _read_record(run)
    begun, so_far = (run.path / "search.jsonl").is_file(), "before the search"
    if begun:
        queries = (run.path / "search.jsonl").read_bytes().count(b"\n")
        so_far = f"after {queries} queries of the search"
    if running:
        return replace(run, state="running", reason=so_far)
    if (run.path / "error.json").is_file():
        return replace(run, state="failed", reason=_error(run.path / "error.json"))
    if not run.path.is_dir():
        return replace(run, state="missing", reason="not started")
    return replace(run, state="interrupted" if begun else "missing", reason=f"stopped {so_far}")


def _read_record(run: RunStatus) -> RunStatus:
    try:
        record = Record.model_validate_json((run.path / "record.json").read_bytes())
    except (ValidationError, OSError) as error:
        return replace(run, state="failed", reason=f"record.json is damaged: {damage(error)}")
    if run.identity and run.identity != record.identity:
        reason = f"record.json is of another run: identity {record.identity[:8]}, asked for {run.identity[:8]}"
        return replace(run, state="failed", reason=reason)
    search, prior = record.search.algorithm, record.search.prior
    return replace(
        run,
        identity=record.identity,
        pair=record.pair.name,
        family=record.pair.family,
        granularity=record.search.granularity,
        # where there was nothing to search for, only the config tells of a prior
        search=search_name(search, prior.name) if prior else run.search or search,
        dataset=record.dataset,
        state="done",
        record=record,
    )


def _from_config(run: RunStatus) -> RunStatus:
    """Fill in what sweep.json did not tell from the folder's config.yaml."""
    if run.pair:
        return run
    try:
        config = yaml.load((run.path / "config.yaml").read_text(), Loader=yaml.CSafeLoader)
        return replace(
            run,
            pair=config["pair"]["name"],
            family=config["family"]["name"],
            granularity=config["granularity"]["name"],
            search=search_name(config["search"]["algorithm"], config["search"]["prior"]),
            dataset=config["dataset"]["name"],
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return run  # the folder's name still says which run it is


def _error(path: Path) -> str:
    try:
        error: dict[str, Any] = json.loads(path.read_text())
        stage = "" if error["stage"] == "unknown" else error["stage"]
        kind = "" if error["kind"] in SAID_BY_MESSAGE else error["kind"]
        return ": ".join(part for part in (stage, kind, error["message"]) if part)
    except (ValueError, KeyError, TypeError):
        return "failed, and error.json is damaged"
