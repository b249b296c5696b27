"""Run folders to one DataFrame: a row a run, whether it is done or not."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from dapa_exp.record.layout import RunLayout
from dapa_exp.record.mirror import Scalar, flatten
from dapa_exp.record.status import RunStatus, status


def load(folders: Iterable[Path], only: Collection[Path] | None = None) -> pd.DataFrame:
    """Every run of the sweep or run folders, or `only` those in these places; a folder given twice counts once.

    The columns are what is known of any run (experiment, folder, identity and its start, `run`, pair, family,
    granularity, search, dataset, state, reason), then the record's numbers under their own words,
    "evaluate/hybrid/dsr/value", empty where a run is not done or nothing was counted (n = 0), the names of the
    units found, and every setting that decides a result, as text, under its key: "search.threshold". Those are blank
    where a run has no such setting, or was never started.
    """
    runs = {run.path.resolve(): run for folder in folders for run in status(folder)}
    wanted = runs if only is None else {path.resolve() for path in only}
    found = {path: run for path, run in runs.items() if path in wanted}
    settings = pd.DataFrame([_settings(path) for path in found]).fillna("")  # methods have settings of their own
    return pd.concat([settings, pd.DataFrame([_row(path, run) for path, run in found.items()])], axis=1)


def _row(path: Path, run: RunStatus) -> dict[str, object]:
    known: dict[str, object] = {
        "experiment": path.parent.name,
        "folder": run.folder,
        "identity": run.identity,
        "run": run.identity[:8],
        "pair": run.pair or run.folder,
        "family": run.family,
        "granularity": run.granularity,
        "search": run.search,
        "dataset": run.dataset,
        "state": run.state,
        "reason": run.reason,
    }
    if run.record is None:
        return known
    return _counted(flatten(run.record)) | {"units": " ".join(run.record.search.units_found)} | known


def _settings(path: Path) -> dict[str, object]:
    """What the run's identity was made from, a dotted key each; nothing of a run that was never started."""
    try:
        essence = json.loads(RunLayout(path).identity.read_bytes())["essence"]
        return {str(key): str(value) for key, value in pd.json_normalize(essence).iloc[0].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _counted(numbers: dict[str, Scalar]) -> dict[str, Scalar]:
    """With no value and no interval where a measure rests on nothing, such as a rate of a judge that only failed."""
    nothing = {name.removesuffix("/n") for name, number in numbers.items() if name.endswith("/n") and not number}
    parts = {f"{measure}/{part}" for measure in nothing for part in ("value", "low", "high")}
    return {name: float("nan") if name in parts else number for name, number in numbers.items()}
