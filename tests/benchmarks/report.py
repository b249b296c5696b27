"""How long `dapa report` takes on many records.

    python -m tests.benchmarks.report [--json FILE] [--smoke] [--records N]

Writes records of an ablation (pairs by granularities, with planted numbers), and reports them in a process of its own.
The bound is on the process's CPU seconds: other work on the machine lengthens the wall-clock seconds more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import monotonic

from tests.analysis.factory import record, write_settings, write_sweep
from tests.benchmarks.targets import conclude, target
from tests.settings import quick_config

GRANULARITIES = ["gate_proj", "up_proj", "down_proj", "mlp", "attention", "layer"]
BOUND = 10.0
"""CPU seconds for 2,000 records."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--smoke", action="store_true", help="12 records")
    parser.add_argument("--records", type=int, default=2000)
    arguments = parser.parse_args()
    count = 12 if arguments.smoke else arguments.records
    with tempfile.TemporaryDirectory() as scratch:
        sweep = write_records(Path(scratch) / "many", count)
        before, began = _cpu(), monotonic()
        command = [sys.executable, "-m", "dapa_exp", "report", str(sweep)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        row = {"records": count, "cpu_seconds": _cpu() - before, "seconds": monotonic() - began}
    print(f"{count} records: {row['cpu_seconds']:.1f} CPU seconds, {row['seconds']:.1f} by the clock")
    conclude([row], [target(f"CPU seconds of a report of {count} records", row["cpu_seconds"], BOUND)], arguments.json)


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


def _cpu() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
