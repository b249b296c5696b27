"""Loads run folders as one long DataFrame with a row for each number of each run. docs/data.md describes it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.entries import SUBJECTS, Entry, entries_of
from dapa_exp.base.errors import DapaError
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.status import RunStatus, status

RUN = [
    *("experiment", "folder", "identity", "run", "pair", "family", "teacher", "granularity", "search", "dataset"),
    *("made_here", "state", "reason"),
]
"""Columns that describe the run. They are the same in all rows of a run."""
PLACE = ["subject", "against", "set", "judge", "metric", "key", "headline"]
"""Columns that say what a row's number measures."""
NUMBER = ["value", "low", "high", "n", "text"]
FLAGS = ["made_here", "headline"]


@dataclass(frozen=True)
class Run:
    """A run's status, and the name of its sweep."""

    path: Path
    status: RunStatus
    sweep: str

    @property
    def identity(self) -> str:
        """The run's identity, or its folder if its identity is unknown."""
        return self.status.identity or str(self.path)


def load(folders: str | Path | Iterable[str | Path], only: Collection[Path] | None = None) -> pd.DataFrame:
    """All numbers and settings of the runs in these sweep or run folders, or only of the run folders in `only`.

    Runs with the same identity count once: the first that is done is taken. Of finished runs whose identities differ by
    their version alone, the latest counts. A run that is not done has rows for its settings and its state only.
    """
    return frame_of(find_runs(folders, only))


def find_runs(folders: str | Path | Iterable[str | Path], only: Collection[Path] | None = None) -> list[Run]:
    """The runs that `load` takes. Raises DapaError if two of one identity have other results."""
    given = [folders] if isinstance(folders, (str, Path)) else list(folders)
    wanted = None if only is None else {path.resolve() for path in only}
    statuses = {known.path.resolve(): known for folder in map(Path, given) for known in status(folder)}
    taken = {path: known for path, known in statuses.items() if wanted is None or path in wanted}
    sweeps = _sweep_names([path.parent for path in taken])
    found: dict[str, Run] = {}
    for path, known in taken.items():
        run = Run(path, known, sweeps[path.parent])
        kept = found.setdefault(run.identity, run)
        if (first := _results(kept)) and (second := _results(run)) and first != second:
            raise DapaError(
                f"{kept.path} and {run.path} are one run (identity {run.identity[:8]}) with other results: {first} and"
                f" {second}; report their folders apart, or move one of the two away"
            )
        if kept.status.state != "done" and known.state == "done":
            found[run.identity] = run
    return _latest(list(found.values()))


def _latest(runs: Collection[Run]) -> list[Run]:
    """The runs, without finished ones that were finished again by code of a later identity version."""
    if not any(run.status.outdated for run in runs):
        return list(runs)
    made_from = {run.path: run.status.files.essence() if run.status.state == "done" else {} for run in runs}
    versions = {path: essence.pop("version", 0) for path, essence in made_from.items()}
    rest = {path: json.dumps(essence, sort_keys=True) if essence else str(path) for path, essence in made_from.items()}
    last = {rest[path]: versions[path] for path in sorted(versions, key=versions.__getitem__)}
    return [run for run in runs if last[rest[run.path]] == versions[run.path]]


def _results(run: Run) -> str | None:
    """What a finished run found, in words. None if it is not finished."""
    if (record := run.status.record) is None:
        return None
    rates = ", ".join(f"{name} {100 * getattr(record.evaluate, name).dsr.value:.1f}" for name in SUBJECTS)
    return f"DSR {rates}, {len(record.search.units_found)} units found"


def frame_of(runs: Sequence[Run]) -> pd.DataFrame:
    """The numbers and settings of these runs, as `load` returns them."""
    columns: dict[str, list[object]] = {name: [] for name in Entry._fields}
    ends = []
    for run in runs:
        for name, numbers in zip(Entry._fields, zip(*_numbers(run), strict=True), strict=True):
            columns[name] += numbers
        ends.append(len(columns["metric"]))
    described = _typed(pd.DataFrame([_described(run) for run in runs], columns=RUN))
    of_rows = described.loc[np.repeat(described.index, np.diff(ends, prepend=0))].reset_index(drop=True)
    return pd.concat([of_rows, _typed(pd.DataFrame(columns)[[*PLACE, *NUMBER]])], axis=1)


def _sweep_names(folders: Iterable[Path]) -> dict[Path, str]:
    """The names of sweep folders, with as many parent folders as tell them apart."""
    names, parts = {folder: folder.name for folder in folders}, 1
    while len(set(names.values())) < len(names):
        parts += 1
        names = {folder: "/".join(folder.parts[-parts:]) for folder in names}
    return names


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = dict.fromkeys([*RUN, *PLACE], "category") | dict.fromkeys(FLAGS, "bool")
    kinds |= dict.fromkeys(("value", "low", "high"), "float64") | {"n": "Int64", "text": "string"}
    return frame.astype({name: kinds[name] for name in map(str, frame)})


def first_line(text: str) -> str:
    """The first line of a message. The lines after it may quote prompts and answers."""
    return text.strip().splitlines()[0] if text.strip() else ""


def _described(run: Run) -> tuple[object, ...]:
    """The columns that describe a run."""
    known = run.status
    record = known.record
    return (
        run.sweep,
        known.folder,
        run.identity,
        known.identity[:8] or known.folder,
        known.pair or known.folder,
        known.family,
        f"{record.pair.teacher.id}@{record.pair.teacher.revision or ''}".rstrip("@") if record else "",
        known.granularity,
        known.search,
        known.dataset,
        bool(record and record.pair.made_here),
        known.state,
        first_line(known.reason or ""),
    )


def _numbers(run: Run) -> Iterator[Entry]:
    """Yields everything that is known of a run."""
    yield Entry("state", text=run.status.state)
    yield from _settings(run.path)
    if record := run.status.record:
        yield from entries_of(record)
        yield from _queries(run.status)


def _settings(path: Path) -> Iterator[Entry]:
    """Yields the settings in the run's identity, with dotted keys; nothing if the run was never started."""
    for key, value in _flat(RunLayout(path).essence()):
        yield Entry("setting", key=key, text=str(value))


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested dicts with dotted keys."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)


def _queries(run: RunStatus) -> Iterator[Entry]:
    """The queries of a search; nothing if their file is damaged, which takes nothing from the record."""
    try:
        queries = run.files.read_queries()
    except DapaError:
        return
    for query in queries:
        key = str(query["index"])
        yield Entry("query_dsr", query["score"], n=query["prompts"], set="search", key=key)
        yield Entry("query_units", len(query["units"]), key=key)
