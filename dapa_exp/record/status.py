"""What became of every run of a sweep: done, running, failed, interrupted or missing, by the run folders alone."""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.record.schema import Record, damage

State = Literal["done", "running", "failed", "interrupted", "missing"]

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
