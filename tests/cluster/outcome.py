"""What a disturbed sweep has found, compared with one that nobody disturbed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from dapa_exp.record.schema import Record
from tests.commands import DAPA

PATIENCE = 600.0
"""Seconds for a sweep on a busy machine."""


def finish(folder: Path, *words: str, attempts: int = 1) -> None:
    """Give a command until it is done, `attempts` times at most. Raises AssertionError if it is not done then."""
    for _ in range(attempts):
        done = subprocess.run(
            [*DAPA, *words, f"record.dir={folder}"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if done.returncode == 0:
            return
    raise AssertionError(done.stdout[-2000:] + done.stderr[-2000:])


def done(folder: Path) -> int:
    return len(list(folder.glob("single/*/record.json")))


def compare(ours: Path, theirs: Path) -> None:
    """Raise AssertionError unless two sweeps have the same queries, records and tables, and no query is repeated."""
    for file in sorted(theirs.glob("single/*/record.json")):
        run = Path("single") / file.parent.name
        found = [queries(folder / run / "search.jsonl") for folder in (ours, theirs)]
        assert found[0] == found[1], f"{run}: other queries"
        assert len({tuple(query["units"]) for query in found[0]}) == len(found[0]), f"{run}: a query was repeated"
        assert [query["index"] for query in found[0]] == list(range(len(found[0]))), f"{run}: a query was lost"
        assert result(ours / run) == result(theirs / run), f"{run}: another record"
    pd.testing.assert_frame_equal(table(ours), table(theirs))


def table(folder: Path) -> pd.DataFrame:
    """A sweep's main table, without times."""
    cells = pd.read_csv(folder / "single" / "report" / "main.csv")
    return cells[[name for name in cells if "seconds" not in str(name)]]


def queries(file: Path) -> list[dict[str, Any]]:
    """The queries of a run, without what differs between processes: the time, and the work that memory spared."""
    lines = map(json.loads, file.read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in ("seconds", "work")} for line in lines]


def result(run: Path) -> dict[str, Any]:
    """All of a record that is to be the same, however often the run was interrupted."""
    record = Record.model_validate_json((run / "record.json").read_bytes())
    return record.model_dump(
        exclude={"cost": True, "provenance": {"created"}, "search": {"ledger": {"seconds", "work"}}}
    )
