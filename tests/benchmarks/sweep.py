"""What a sweep costs beside its runs: starting 200 runs that have nothing to do, a plan and a status of 1,000.

    python -m tests.benchmarks.sweep [--smoke] [--json FILE]

CPU seconds are compared with the bounds: on an idle machine they are the seconds that pass, on two cores for the runs.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing import forkserver
from pathlib import Path

from dapa_exp.base.progress import silent
from dapa_exp.cli.plan import plan_command
from dapa_exp.cli.status import status_command
from dapa_exp.sweep.isolation import Task, run_isolated
from dapa_exp.zoo.build import build
from tests.analysis.factory import record, write_sweep
from tests.benchmarks.targets import conclude, target
from tests.settings import quick_config

KINDS = ("mlp", "layer", "attention", "gate_proj", "up_proj", "down_proj")


def main() -> None:
    parser = argparse.ArgumentParser("sweep", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few runs only")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked = parser.parse_args()
    few = asked.smoke
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        starts = _cpu_seconds(_start_runs(place / "runs", 4 if few else 200))
        plans = _cpu_seconds(lambda: _plan(place / "plan", 1 if few else 10))
        looks = _cpu_seconds(_status(place / "status", 20 if few else 1000))
    runs = 4 if few else 200
    rows = [
        {"what": f"{runs} runs with nothing to do", "cpu_seconds": starts},
        {"what": f"plan of {102 * (1 if few else 10)} runs", "cpu_seconds": plans},
        {"what": f"status of {20 if few else 1000} runs", "cpu_seconds": looks},
    ]
    for row in rows:
        print(f"{row['what']}: {row['cpu_seconds']:.1f} CPU seconds")
    targets = [
        target("starting a run, on two cores (s)", starts / runs / 2, 0.3),
        target("plan of 1,000 runs (s)", plans, 20),
        target("status of 1,000 runs (s)", looks, 3),
    ]
    conclude(rows, targets, asked.json)


def _start_runs(place: Path, count: int) -> Callable[[], None]:
    """Child processes for finished runs, two at a time. The fork server's own start is not counted."""
    build(["llama-small-base", "llama-small-chat"], silent)
    config = quick_config("pair=mini-llama-small-base", "search=none", "runtime.wait=true")
    first = place / "0"
    run_isolated([Task(config, first)], [None], silent)
    folders = [first, *(place / str(number) for number in range(1, count))]
    for folder in folders[1:]:
        shutil.copytree(first, folder)
    return lambda: run_isolated([Task(config, folder) for folder in folders], [None, None], silent)


def _plan(place: Path, seeds: int) -> None:
    words = ["-m", "+experiment=miniature", f"granularity={','.join(KINDS)}", f"search.seed=range(0,{seeds})"]
    with redirect_stdout(io.StringIO()):
        plan_command([*words, f"record.dir={place}"])


def _status(place: Path, count: int) -> Callable[[], None]:
    """A sweep of which seven in ten runs are done."""
    runs = [record(f"p{number}", identity=f"{number:064d}") for number in range(count)]
    place.mkdir()
    sweep = write_sweep(place, runs[: count * 7 // 10], runs[count * 7 // 10 :])

    def look() -> None:
        with redirect_stdout(io.StringIO()):
            status_command([str(sweep)])

    return look


def _cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of the fork server with the runs that it has started."""
    before = _cpu_so_far()
    work()
    return _cpu_so_far() - before


def _cpu_so_far() -> float:
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    stat = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split() if server else ["0"] * 15
    return sum(os.times()[:2]) + sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
