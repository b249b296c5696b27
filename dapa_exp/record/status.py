"""The status of every run of a sweep: done, running, failed, interrupted or missing. Only run folders are read.

"searched" is the state of a run that `record.until` has ended. "waiting" is the state of a submitted run whose job has
not begun. Only the cluster knows (`dapa_exp.sweep.submit`).
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from dapa_exp.base.claim import Owner, owners
from dapa_exp.base.errors import DapaError
from dapa_exp.record.identity import IDENTITY_VERSION
from dapa_exp.record.layout import RunLayout, SweepLayout
from dapa_exp.record.schema import Record

State = Literal["done", "searched", "running", "failed", "interrupted", "waiting", "missing"]

SAID_BY_MESSAGE = ("DapaError", "killed", "exited")
ASKED = ("identity", "pair", "family", "granularity", "search", "dataset")


@dataclass(frozen=True)
class Work:
    """How far an unfinished run has come."""

    stage: str
    queries: int
    tokens_per_second: float | None
    """Of the latest queries of the search; None before the search."""
    seconds: float
    """What the run has taken so far."""


@dataclass(frozen=True)
class RunStatus:
    """The status of one run, asked for or found. A field is empty if the folder does not tell it."""

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
    work: Work | None = None
    """How far the run has come, if a process works on it."""
    record: Record | None = field(default=None, repr=False, compare=False)
    owner: Owner | None = None
    """The process that works on the run; None if there is none."""
    unsent: str | None = None
    """Why the mirror of a finished run failed; None if it did not."""
    outdated: str | None = None
    """Why the same command begins this run anew; None if it goes on with it, or has nothing to do."""

    @property
    def files(self) -> RunLayout:
        return RunLayout(self.path)


class Siblings:
    """What finished runs took: those of the same granularity, search and family, else those of any family."""

    def __init__(self, runs: Sequence[RunStatus]) -> None:
        found = defaultdict[tuple[str, str, str], list[Record]](list)
        for run in runs:
            for family in (run.family, ""):
                if run.record:
                    found[run.granularity, run.search, family].append(run.record)
        self._seconds = {kind: mean(map(_seconds, records)) for kind, records in found.items()}
        self._queries = {kind: mean(record.search.ledger.queries for record in found[kind]) for kind in found}

    def seconds(self, run: RunStatus) -> float | None:
        """The mean seconds of a run's finished siblings; None if there is none."""
        return self._of(run, self._seconds)

    def queries(self, run: RunStatus) -> float | None:
        """The mean queries of a run's finished siblings; None if there is none."""
        return self._of(run, self._queries)

    @staticmethod
    def _of(run: RunStatus, means: dict[tuple[str, str, str], float]) -> float | None:
        return means.get((run.granularity, run.search, run.family), means.get((run.granularity, run.search, "")))


def _seconds(record: Record) -> float:
    return sum(stage.seconds for stage in record.cost.values())


def status(folder: Path) -> list[RunStatus]:
    """The status of every run of a sweep folder, or of the run of a run folder. Raises DapaError if there is no run."""
    if not folder.is_dir():
        raise DapaError(f"{folder}: no such folder")
    sweep, run = SweepLayout(folder), RunLayout(folder)
    asked = _asked(sweep)
    if not asked and run.is_run():
        return [run_status(folder)]
    known = {run.folder for run in asked}
    runs = asked + [RunStatus(path, path.name) for path in sweep.runs() if path.name not in known]
    if not runs:
        names = f"{sweep.listing.name}, and no folder with a {run.config.name} or {run.record.name}"
        raise DapaError(f"{folder}: holds no runs (no {names})")
    return read_all(runs)


def run_status(folder: Path) -> RunStatus:
    """The status of the run in a folder."""
    return read_all([RunStatus(folder, folder.resolve().name)])[0]


def search_name(algorithm: str, prior: str | None) -> str:
    """The name of a search in lists and tables: its algorithm, and its prior if it has one."""
    return f"{algorithm}+{prior}" if prior else algorithm


def _asked(sweep: SweepLayout) -> list[RunStatus]:
    """The runs that commands have asked for, from `sweep.json`. Their folders are not read yet."""
    try:
        return [as_listed(sweep.folder / run["folder"], run) for run in sweep.read_listing()]
    except KeyError as error:
        raise DapaError(f"{sweep.listing}: is not a list of runs: one has no {error}") from error


def as_listed(folder: Path, listed: Mapping[str, Any]) -> RunStatus:
    """A run that a sweep's list names. Its folder is not read yet."""
    return RunStatus(folder, listed["folder"], *(listed[name] for name in ASKED))


def read_all(runs: Sequence[RunStatus]) -> list[RunStatus]:
    """The same runs with what their folders say."""
    working = owners([run.files.claim for run in runs])  # before reading records: a run that ends in between is done
    return [_read_one(replace(run, owner=owner)) for run, owner in zip(runs, working, strict=True)]


def _read_one(run: RunStatus) -> RunStatus:
    run = replace(_from_config(run), outdated=_outdated(run.files))
    if run.files.record.is_file():
        return _read_record(run)
    queries = run.files.count_queries()
    if run.files.found.is_file():
        so_far = "after the search"
    else:
        so_far = "before the search" if queries is None else f"after {queries} queries of the search"
    if run.owner:
        return replace(run, state="running", reason=so_far, work=_work(run.files, queries or 0))
    if run.files.error.is_file():
        return replace(run, state="failed", reason=_error(run.files.error))
    if not run.path.is_dir():
        return replace(run, state="missing", reason="not started")
    if run.files.found.is_file() and _ends_early(run.files):
        return replace(run, state="searched", reason="record.until=search ended it; without this key it goes on")
    return replace(run, state="missing" if queries is None else "interrupted", reason=f"stopped {so_far}")


def _work(files: RunLayout, queries: int) -> Work:
    spent = sum(line["seconds"] for line in _lines(files.cost))
    latest = _lines(files.queries)
    seconds = sum(line["seconds"] for line in latest)
    begun = re.findall(r"^\S+ (\w+): begins$", _tail(files.log), re.MULTILINE)
    stage = begun[-1] if begun else "load"
    return Work(
        stage=stage,
        queries=queries,
        tokens_per_second=sum(line["tokens"] for line in latest) / seconds if seconds else None,
        seconds=spent + (seconds if stage == "search" else 0),
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    """The last complete lines of a journal, up to 64 kB; those that cannot be read are left out."""
    found = []
    for line in _tail(file, 1 << 16).splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _tail(file: Path, size: int = 1 << 12) -> str:
    """The end of a text file; an empty text if it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(run: RunStatus) -> str:
    """The last line of a run's log."""
    return (_tail(run.files.log).splitlines() or [""])[-1]


def _read_record(run: RunStatus) -> RunStatus:
    name = run.files.record.name
    try:
        record = run.files.read_record()
    except DapaError as error:
        said = str(error).removeprefix(f"{run.files.record}: not a valid record: ")
        return replace(run, state="failed", reason=f"{name} is damaged: {said}")
    if run.identity and run.identity != record.identity:
        reason = f"{name} is of another run: identity {record.identity[:8]}, asked for {run.identity[:8]}"
        return replace(run, state="failed", reason=reason)
    search, prior = record.search.algorithm, record.search.prior
    return replace(
        run,
        identity=record.identity,
        pair=record.pair.name,
        family=record.pair.family,
        granularity=record.search.granularity,
        # if there was nothing to search for, the record has no prior, but the config has
        search=search_name(search, prior.name) if prior else run.search or search,
        dataset=record.dataset,
        state="done",
        record=record,
        unsent=_message(run.files.mirror_failure) if run.files.mirror_failure.is_file() else None,
    )


def _from_config(run: RunStatus) -> RunStatus:
    """Fill in the fields that `sweep.json` did not tell, from the run's config."""
    if run.pair:
        return run
    try:
        config = run.files.config_as_written()
        return replace(
            run,
            pair=config["pair"]["name"],
            family=config["family"]["name"],
            granularity=config["granularity"]["name"],
            search=search_name(config["search"]["algorithm"], config["search"]["prior"]),
            dataset=config["dataset"]["name"],
        )
    except (DapaError, KeyError, TypeError):
        return run  # the folder's name remains to tell the run


def _outdated(files: RunLayout) -> str | None:
    version = files.essence().get("version", IDENTITY_VERSION)
    if version == IDENTITY_VERSION:
        return None
    return f"by code that finds other results (identity version {version}, now {IDENTITY_VERSION}); not gone on with"


def _ends_early(files: RunLayout) -> bool:
    """Whether the process that last worked on the run was to stop after its search."""
    try:
        return files.config_as_written()["record"].get("until") == "search"
    except (DapaError, KeyError, TypeError, AttributeError):
        return False


def _error(path: Path) -> str:
    try:
        error: dict[str, Any] = json.loads(path.read_bytes())
        stage = "" if error["stage"] == "unknown" else error["stage"]
        kind = "" if error["kind"] in SAID_BY_MESSAGE else error["kind"]
        return ": ".join(part for part in (stage, kind, error["message"]) if part)
    except (OSError, ValueError, KeyError, TypeError):
        return f"failed, and {path.name} is damaged"


def _message(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.name} is damaged"
