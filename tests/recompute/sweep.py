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
    listed = [sweep / run["folder"] for run in json.loads((sweep / "sweep.json").read_text())["runs"]]
    return [folder for folder in listed if (folder / "record.json").is_file()]


def recompute(sweep: Path, *, models: bool = True) -> Tally:
    """Everything that a sweep's files say, compared; with `models`, the models are asked again too."""
    tally, folders = Tally(), run_folders(sweep)
    if not folders:
        raise SystemExit(f"{sweep}: no finished run")
    for folder in folders:
        check_run(Run(folder), tally)
        if models:
            check_models(Run(folder), tally)
    listed = {run["folder"]: run["identity"] for run in json.loads((sweep / "sweep.json").read_text())["runs"]}
    records = read_records(folders)
    for folder, record in zip(folders, records, strict=True):
        tally.equal("sweep.json", folder.name, listed[folder.name], record["identity"])
        tally.equal("sweep.json", f"{folder.name} ends with", folder.name.rsplit("-", 1)[1], record["identity"][:8])
    check_tables(sweep / "report", records, tally)
    return tally
