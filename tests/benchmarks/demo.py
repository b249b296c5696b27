"""The README's first command, timed by stage: on a fresh clone with an empty cache, then with the zoo cached.

Needs the package registry, for the installation. Seconds depend on the machine; the bounds are those
promised for two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
COLD_BOUND_SECONDS = 720.0
WARM_BOUND_SECONDS = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--python", default="python3", help="the interpreter that makes the environment")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(Path(scratch), arguments.python)
    cold = sum(row["cold"] for row in rows)
    warm = sum(row["warm"] for row in rows)
    table = Table("stage", "cold, s", "warm, s", title="make demo")
    for row in [*rows, {"stage": "all", "cold": cold, "warm": warm}]:
        table.add_row(row["stage"], f"{row['cold']:.0f}", f"{row['warm']:.0f}")
    Console().print(table)
    if arguments.json:
        targets = [
            {"name": "cold demo, seconds", "measured": cold, "bound": COLD_BOUND_SECONDS, "better": "lower"},
            {"name": "warm demo, seconds", "measured": warm, "bound": WARM_BOUND_SECONDS, "better": "lower"},
        ]
        arguments.json.write_text(json.dumps({"rows": rows, "targets": targets}, indent=1))


def measure(scratch: Path, python: str) -> list[dict[str, float | str]]:
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


if __name__ == "__main__":
    main()
