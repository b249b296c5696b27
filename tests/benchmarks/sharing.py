"""What a sweep over granularities saves by measuring each teacher and student once.

    python -m tests.benchmarks.sharing [--json FILE] [OVERRIDE …]
    python -m tests.benchmarks.sharing --before d8314b1         # as well, all at once, against an older commit
    python -m tests.benchmarks.sharing --smoke --json FILE      # one pair, two granularities, few rows

Three miniature pairs with six granularities each, pair by pair: first every run by itself (`record.share=false`), then
with sharing, so that both meet the same machine. The runs of a sweep are carried out one after the other in one
process, whose seconds are counted on the clock and on the processor. `d8314b1` is the last commit that shared nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.preflight.totals import models_of
from dapa_exp.record.schema import Record
from dapa_exp.zoo.build import build
from tests.benchmarks.targets import Target, conclude, target
from tests.settings import QUICK

Row = dict[str, Any]
MODELS = ("teacher", "student")


@dataclass(frozen=True)
class Settings:
    """What is swept."""

    pairs: tuple[str, ...] = ("mini-llama-small-style", "mini-mistral-style", "mini-gemma-small-style")
    granularities: str = "gate_proj,up_proj,down_proj,mlp,attention,layer"
    words: tuple[str, ...] = ()


SMOKE = Settings(("mini-llama-small-style",), "mlp,attention", QUICK)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--before", metavar="COMMIT", help="time the whole sweep at this commit of the clone too")
    parser.add_argument("overrides", nargs="*", help="of each run, such as evaluate.random_repeats=3")
    arguments = parser.parse_intermixed_args(argv)
    settings = SMOKE if arguments.smoke else Settings(words=tuple(arguments.overrides))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for pair in settings.pairs:
            rows.append(measure(pair, settings, Path(work)))
            print(rows[-1], flush=True)
        found = targets(rows)
        if arguments.before:
            found.append(since(arguments.before, settings, Path(work)))
    conclude(rows, found, arguments.json)


def measure(pair: str, settings: Settings, work: Path) -> Row:
    """One pair without sharing, then with it."""
    words = ["-m", f"pair={pair}", f"granularity={settings.granularities}", *settings.words]
    planned = jobs(words)
    build([model.id.removeprefix("zoo:") for model in models_of(planned[0].config)], silent)
    row: Row = {"pair": pair, "runs": len(planned)}
    records: dict[str, dict[str, Record]] = {}
    for name in ("alone", "shared"):
        share = f"record.share={str(name == 'shared').lower()}"
        row[f"{name}_seconds"], row[f"{name}_cpu_seconds"] = sweep([*words, share, f"record.dir={work / pair / name}"])
        files = (work / pair / name).glob("*/*/record.json")
        records[name] = {file.parent.name: Record.model_validate_json(file.read_bytes()) for file in files}
        row[f"{name}_evaluations"] = sum(
            record.cost[model].tokens > 0 for record in records[name].values() for model in MODELS
        )
    row["differ"] = sum(result(record) != result(records["shared"][run]) for run, record in records["alone"].items())
    return row


def since(commit: str, settings: Settings, work: Path) -> Target:
    """The seconds of all pairs in one sweep, now and with the code of an older commit."""
    older = work / "older"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", older, commit], check=True)
    try:
        words = ["-m", f"pair={','.join(settings.pairs)}", f"granularity={settings.granularities}", *settings.words]
        seconds = [
            sweep([*words, f"record.dir={work / f'swept{i}'}"], code)[0] for i, code in enumerate((older, Path()))
        ]
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", older], check=True)
    print({"commit": commit, "seconds": seconds}, flush=True)
    return target(f"seconds of the whole sweep, of those at {commit}", seconds[1] / seconds[0], 0.65)


def sweep(words: Sequence[str], code: Path = Path()) -> tuple[float, float]:
    """Seconds that a sweep takes, on the clock and on the processor; with the code of another folder if given."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "dapa_exp", "run", "hydra/launcher=basic", *words],
        cwd=code,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(code.absolute())},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def result(record: Record) -> str:
    """All of a record but what it cost, and when."""
    return record.model_dump_json(
        exclude={"cost": True, "provenance": {"created", "git"}, "search": {"ledger": {"seconds", "work"}}}
    )


def targets(rows: Sequence[Row]) -> list[Target]:
    """What must hold of all pairs together."""

    def total(key: str) -> float:
        return sum(row[key] for row in rows)

    return [
        target("evaluations of a teacher or student a pair", total("shared_evaluations") / len(rows), 2.0),
        target("records that differ in more than cost", total("differ"), 0.0),
        target("seconds, of those without sharing", total("shared_seconds") / total("alone_seconds"), 0.65),
        target("seconds on the processor", total("shared_cpu_seconds") / total("alone_cpu_seconds"), 0.65),
    ]


if __name__ == "__main__":
    main()
