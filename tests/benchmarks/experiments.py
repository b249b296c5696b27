"""All experiments on miniatures that docs/experiments.md shows, one after the other: do they fit into 45 minutes?

    python -m tests.benchmarks.experiments [--out FOLDER] [--json FILE]
    python -m tests.benchmarks.experiments --smoke --json FILE      # one experiment on few rows

The commands are read from the page. Models are built before the clock starts. The same command with the same `--out`
goes on from there, and then the minutes are those of what was left.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"
FEW_ROWS = ("pair=shadow-llama-large-task", "dataset.search.sample=8", "dataset.report.sample=8", "evaluate.metrics=[]")
MINUTES = 45.0


def main(argv: Sequence[str] | None = None) -> None:
    """Run the commands, print how long each took, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="the folder of the sweeps; default: a scratch folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args(argv)
    commands = list(commands_of(PAGE.read_text()))
    commands = [[*commands[0], *FEW_ROWS]] if asked.smoke else commands
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch)
        if not asked.smoke:
            subprocess.run([sys.executable, "-m", "dapa_exp", "zoo", "build"], check=True)
        rows = [carry_out(command, out) for command in commands]
    targets = [
        {"name": "minutes of all", "measured": total(rows, "seconds") / 60, "bound": MINUTES, "better": "lower"},
        {"name": "commands that failed", "measured": total(rows, "failed"), "bound": 0.0, "better": "lower"},
    ]
    show(rows, targets)
    if asked.json:
        asked.json.write_text(json.dumps({"rows": rows, "targets": targets}, indent=1))


def commands_of(page: str) -> Iterator[list[str]]:
    """The words of each command of the page that asks for miniatures, without `dapa`."""
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["dapa"] and any("experiment=miniature" in word for word in words):
                yield words[1:]


def carry_out(command: Sequence[str], out: Path) -> dict[str, Any]:
    """Run a command with its results in a folder."""
    words = [word for word in command if not word.startswith("record.dir=")]
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "dapa_exp", *words, f"record.dir={out}"], stdout=subprocess.DEVNULL)
    row = {"command": shlex.join(words), "seconds": time.monotonic() - started, "failed": int(done.returncode != 0)}
    print(f"{row['seconds']:.0f} s: dapa {row['command']}", flush=True)
    return row


def total(rows: Sequence[dict[str, Any]], key: str) -> float:
    """The sum of a key's values."""
    return float(sum(row[key] for row in rows))


def show(rows: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]]) -> None:
    """Print what was measured."""
    console = Console(width=150)
    table = Table("command", "seconds", "failed", title="experiments")
    for row in rows:
        table.add_row(f"dapa {row['command']}", f"{row['seconds']:.0f}", "yes" if row["failed"] else "")
    console.print(table)
    goals = Table("target", "measured", "bound", "better", title="targets")
    for target in targets:
        goals.add_row(target["name"], f"{target['measured']:.4g}", f"{target['bound']:g}", target["better"])
    console.print(goals)


if __name__ == "__main__":
    main()
