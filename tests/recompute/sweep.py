"""A whole sweep: its runs, then its tables."""

from __future__ import annotations

import json
from pathlib import Path

from tests.recompute.ask import check_models
from tests.recompute.run import Run, check_run
from tests.recompute.tables import check_tables, read_records
from tests.recompute.tally import Tally


def run_folders(sweep: Path) -> list[Path]:
    """The folders of the finished runs, in the order of the sweep's list."""
    listed = [sweep / run["folder"] for run in _listed(sweep)]
    if not (done := [folder for folder in listed if (folder / "record.json").is_file()]):
        raise SystemExit(f"{sweep}: no finished run")
    return done


def _listed(sweep: Path) -> list[dict[str, str]]:
    return list(json.loads((sweep / "sweep.json").read_text())["runs"])


def recompute(sweep: Path, *, models: bool = True) -> Tally:
    """Everything that a sweep's files say, compared; with `models`, the models are asked again too."""
    tally = Tally()
    for folder in run_folders(sweep):
        check_run(Run(folder), tally)
        if models:
            check_models(Run(folder), tally)
    check_sweep(sweep, tally)
    return tally


def check_sweep(sweep: Path, tally: Tally) -> None:
    """Compare the sweep's list of runs and its tables with the records."""
    listed = {run["folder"]: run["identity"] for run in _listed(sweep)}
    found = run_folders(sweep)
    records = read_records(found)
    for folder, record in zip(found, records, strict=True):
        tally.equal("sweep.json", folder.name, listed[folder.name], record["identity"])
        tally.equal("sweep.json", f"{folder.name} ends with", folder.name.rsplit("-", 1)[1], record["identity"][:8])
    check_tables(sweep / "report", records, tally)
