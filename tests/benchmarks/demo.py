"""The README's first command, timed by stage: on a fresh clone with an empty cache, then with the zoo cached.

Needs the package registry, for the installation. Seconds depend on the machine; the bounds are those
promised for two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.targets import conclude, target
from tests.settings import quick

REPOSITORY = Path(__file__).resolve().parents[2]
COLD_BOUND_SECONDS = 720.0
WARM_BOUND_SECONDS = 300.0
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--python", default="python3", help="the interpreter that makes the environment")
    parser.add_argument("--smoke", action="store_true", help="one pair, by this interpreter: does it run?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = smoke(Path(scratch)) if arguments.smoke else measure(Path(scratch), arguments.python)
    cold = sum(row["cold"] for row in rows)
    warm = sum(row["warm"] for row in rows)
    table = Table("stage", "cold, s", "warm, s", title="make demo")
    for row in [*rows, {"stage": "all", "cold": cold, "warm": warm}]:
        table.add_row(row["stage"], f"{row['cold']:.0f}", f"{row['warm']:.0f}")
    Console().print(table)
    targets = [
        target("cold demo, seconds", cold, COLD_BOUND_SECONDS),
        target("warm demo, seconds", warm, WARM_BOUND_SECONDS),
    ]
    conclude(rows, targets, arguments.json)


def measure(scratch: Path, python: str) -> list[Row]:
    """Seconds of each stage, cold and then warm. Warm: installed, zoo cached, no result yet."""
    clone = scratch / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    stages = {
        "install": ["make", "install", f"PYTHON={python}"],
        "zoo": [".venv/bin/dapa", "zoo", "build"],
        "sweep": [".venv/bin/dapa", "run", "-m", "+experiment=miniature", "record.dir=results"],
    }
    environment = os.environ | {"DAPA_CACHE": str(scratch / "cache")}
    seconds: dict[str, list[float]] = {stage: [] for stage in stages}
    for _ in ("cold", "warm"):
        subprocess.run(["rm", "-rf", str(clone / "results")], check=True)
        for stage, command in stages.items():
            started = time.monotonic()
            subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds[stage].append(time.monotonic() - started)
    return [{"stage": stage, "cold": cold, "warm": warm} for stage, (cold, warm) in seconds.items()]


def smoke(scratch: Path) -> list[Row]:
    """The demo's last two stages, each once, for one pair and on few rows."""
    stages = {
        "zoo": ["zoo", "build", "llama-small-style"],
        "sweep": [*quick("-m", "pair=mini-llama-small-style"), f"record.dir={scratch / 'results'}"],
    }
    rows: list[Row] = []
    for stage, words in stages.items():
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "dapa_exp", *words], check=True, stdout=subprocess.DEVNULL)
        rows.append({"stage": stage, "cold": time.monotonic() - started, "warm": 0.0})
    return rows


if __name__ == "__main__":
    main()
