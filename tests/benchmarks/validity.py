"""Whether the numbers of a sweep are right, and what its certificates are worth on rows that no search has seen.

    python -m tests.benchmarks.validity [--json FILE] [--smoke] [--sweep FOLDER]

Sweeps the 17 miniature pairs, or takes a finished sweep, and recomputes every number by other code
(`python -m tests.recompute`). A certificate says of each unit that the set fails without it, on search rows: here each
of these sets answers the report rows too, and the share of them that fail there is stated, without a bound, since no
certificate promises it. Then the coverage of 95 % intervals on simulated rows of alike groups, and the queries of
`auto` over those of the cheapest certified peer, by where the teacher learnt to refuse (`tests.benchmarks.teachers`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import teachers
from tests.benchmarks.coverage import LOW, ROWS, Cell, simulate
from tests.benchmarks.targets import conclude, target
from tests.recompute.ask import check_models
from tests.recompute.models import Measured
from tests.recompute.rows import refuses
from tests.recompute.run import Run, check_run, folders
from tests.recompute.sweep import check_sweep, run_folders
from tests.recompute.tally import Tally
from tests.settings import quick

BEGINNING = 8
"""Tokens of an answer that show whether a miniature refuses."""
DRAWS = 1000

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--smoke", action="store_true", help="one pair on few rows, and few draws")
    parser.add_argument("--sweep", type=Path, help="a finished miniature sweep, instead of a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sweep = arguments.sweep or _sweep(Path(scratch), arguments.smoke)
        rows, tally = measure(sweep)
    cells = list(simulate(20, ROWS[:1]) if arguments.smoke else simulate(DRAWS))
    witnesses, confirmed = (sum(row[name] for row in rows) for name in ("witnesses", "confirmed"))
    print(f"{len(rows)} runs, {tally.compared} figures compared, {len(tally.differences)} differ")
    print(*tally.differences, sep="\n")
    print(f"{confirmed} of {witnesses} witnesses fail on held-out rows too")
    share = confirmed / max(1, witnesses)
    targets = [
        target("figures that differ from their recomputation", len(tally.differences), 0),
        target("share of witnesses that fail on held-out rows (no promise)", share, 0, "higher"),
        target("share of intervals that cover 93 % or more", _covering(cells), 1, "higher"),
        *teachers.make_targets(teachers.measure(arguments.smoke)),
    ]
    conclude(rows, targets, arguments.json)


def measure(sweep: Path) -> tuple[list[Row], Tally]:
    """Recompute each run, then the tables; and ask each certificate's failing sets the report rows."""
    tally, rows = Tally(), []
    for folder in run_folders(sweep):
        run, before = Run(folder), tally.compared
        check_run(run, tally)
        check_models(run, tally)
        held_out = _held_out(run)
        bar = run.record["search"]["threshold_dsr"]
        rows.append(
            {
                "pair": run.record["pair"]["name"],
                "compared": tally.compared - before,
                "witnesses": len(held_out),
                "confirmed": sum(dsr < bar for dsr in held_out),
            }
        )
    check_sweep(sweep, tally)
    return rows, tally


def _held_out(run: Run) -> list[float]:
    """The report DSR of the found set without each of its units, by the miniatures' own words of refusal."""
    places, found = folders(run), run.record["search"]["units_found"]
    if not places or run.record["search"]["status"] != "certified":
        return []
    student, teacher = places
    template = teacher if run.config["pair"]["chat_template"] == "teacher" else student
    texts = [row.text for row in run.rows("report")]
    return [
        float(np.mean([refuses(answer) for answer in model.beginnings(texts, BEGINNING)]))
        for unit in found
        if (model := Measured([other for other in found if other != unit], student, teacher, template))
    ]


def _covering(cells: Sequence[Cell]) -> float:
    return sum(cell.by_group >= LOW for cell in cells) / len(cells)


def _sweep(scratch: Path, smoke: bool) -> Path:
    words = (
        quick("-m", "pair=mini-llama-small-style")
        if smoke
        else ["run", "-m", "+experiment=miniature", "evaluate.confirm=0.05"]
    )
    command = [sys.executable, "-m", "dapa_exp", *words, f"record.dir={scratch}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(file.parent for file in scratch.glob("*/sweep.json"))


if __name__ == "__main__":
    main()
