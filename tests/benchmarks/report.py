"""How long the parts of `dapa report` take on many records.

    python -m tests.benchmarks.report [--json FILE] [--smoke] [--records N]

Writes records of an ablation (pairs by granularities, with planted numbers), and makes their tables, figures and page.
The bounds are on CPU seconds: other work on the machine lengthens the seconds by the clock more.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time

from rich.console import Console

from analysis import drawing
from analysis.frame import find_runs, frame_of
from analysis.page.page import page
from analysis.report import figures_of, tables_of, write_table
from tests.analysis.factory import record, write_settings, write_sweep
from tests.benchmarks.targets import conclude, target
from tests.settings import quick_config

GRANULARITIES = ["gate_proj", "up_proj", "down_proj", "mlp", "attention", "layer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--smoke", action="store_true", help="12 records")
    parser.add_argument("--records", type=int, default=2000)
    arguments = parser.parse_args()
    count = 12 if arguments.smoke else arguments.records
    with tempfile.TemporaryDirectory() as scratch:
        seconds, megabytes = measure(write_records(Path(scratch) / "many", count), Path(scratch))
    print(f"{count} records:", ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items()))
    targets = [
        target("CPU seconds: records to tables", seconds["load"] + seconds["tables"], 10),
        target("CPU seconds: records to page, with tables and figures", sum(seconds.values()), 60),
        target("megabytes of the page", megabytes, 15),
    ]
    conclude([{"records": count, **seconds}], targets, arguments.json)


def measure(sweep: Path, out: Path) -> tuple[dict[str, float], float]:
    """The CPU seconds of each part of a report, and the megabytes of its page."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        began = process_time()
        yield
        seconds[part] = process_time() - began

    with timed("load"):
        runs = find_runs([sweep])
        frame = frame_of(runs)
    with timed("tables"):
        tables = tables_of(frame)
        for table in tables:
            table.print(Console(file=io.StringIO(), width=100))
            write_table(table, out)
    with timed("figures"):
        figures = figures_of(frame)
        for name, figure in figures.items():
            drawing.save(figure, out, name)
    with timed("page"):
        text = page(frame, runs, tables, figures, answers=False)
    return seconds, len(text.encode()) / 1e6


def write_records(sweep: Path, count: int) -> Path:
    """Write a sweep of so many runs, each with all settings of a real one."""
    runs = [
        record(f"p{i // 6}", f"family {i // 6 % 8}", granularity=GRANULARITIES[i % 6], hybrid=0.5 + i % 50 / 100)
        for i in range(count)
    ]
    write_sweep(sweep, runs)
    essence = quick_config("pair=mini-llama-small-style").model_dump(mode="json")
    for run in runs:
        write_settings(sweep, run, essence)
    return sweep


if __name__ == "__main__":
    main()
