"""How many queries each search algorithm needs where the alignment is not planted in the MLPs of neighbouring layers.

    python -m tests.benchmarks.teachers [--json FILE] [--smoke]

Miniature teachers of four more kinds (`pair=mini-scattered-*`, …) beside those that were trained in a block of
neighbouring MLPs. Units are whole layers, and attention and MLP of each layer (`granularity=module`). Each search is
carried out on four draws of prompts, which share none. Each set is asked all rows once, and its answers are kept in the
user's cache. With the default settings a set that fails is asked no more rows than it takes to know that, and
algorithms see the score of these rows only: this is replayed from the kept verdicts, by the search's own rule.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from dapa_exp.evaluate.defence import defended_share
from dapa_exp.judges import Verdict
from dapa_exp.prompts.prompt import prompt
from dapa_exp.search import Outcome, Unit, search
from dapa_exp.search.difficulty import Difficulty, rounds
from tests.benchmarks.planted import REDUCTIONS
from tests.benchmarks.recorded import Recorded, recorded
from tests.benchmarks.targets import Target, conclude, target

PAIRS = {
    "block": ("mini-llama-large-style", "mini-mistral-style"),
    **{
        kind: (f"mini-{kind}-llama", f"mini-{kind}-mistral")
        for kind in ("scattered", "attention", "both", "everywhere")
    },
}
"""Pairs by where their teachers learnt to refuse."""
GRANULARITIES = ("layer", "module")
DRAWS = ("0,48", "48,96", "96,144", "144,192")
"""The search rows."""
REPORT_ROWS = "dataset.report.rows=[192,224]"
"""Not asked; but a run's search rows and report rows must differ."""
ALGORITHMS = [name for name in REDUCTIONS if name != "exhaustive"]
"""The exhaustive search asks thousands of sets."""
WITH_PRIOR = ("auto", "prior", "hierarchical")
OURS = ("auto", "hierarchical")
"""`hierarchical` is `auto`, level by level, so it is no peer."""
MIN_GAIN = 0.1


@dataclass(frozen=True)
class Row:
    """One search of one pair, asking all rows (exact) or by default settings."""

    kind: str
    pair: str
    granularity: str
    draw: str
    algorithm: str
    settings: str
    units: int
    queries: int
    size: int
    certified: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write rows and targets to this file")
    parser.add_argument("--smoke", action="store_true", help="one pair on few rows")
    arguments = parser.parse_args()
    rows = measure(arguments.smoke)
    for settings in ("exact", "default"):
        print_table(settings, [row for row in rows if row.settings == settings])
    print_differences(rows)
    conclude([asdict(row) for row in rows], make_targets(rows), arguments.json)


def measure(smoke: bool = False) -> list[Row]:
    """Every algorithm on every pair, granularity and draw, with both settings."""
    pairs, draws = ({"block": ("mini-llama-small-style",)}, ("0,12",)) if smoke else (PAIRS, DRAWS)
    overrides = ("search.max_new_tokens=8",) if smoke else ()
    return [
        row
        for kind, names in pairs.items()
        for pair in names
        for granularity in GRANULARITIES
        for draw in draws
        for row in _searches(kind, pair, granularity, draw, overrides)
    ]


def _searches(kind: str, pair: str, granularity: str, draw: str, overrides: tuple[str, ...]) -> Iterator[Row]:
    rows = f"dataset.search.rows=[{draw}]", REPORT_ROWS
    with recorded(pair, granularity, *rows, "search.stop_when_decided=false", *overrides) as oracle:
        assert oracle.bar.gains(MIN_GAIN), f"{pair}: units of {granularity} carry no gain"
        runs: dict[str, tuple[str, dict[Unit, float] | None]] = {name: (name, None) for name in ALGORITHMS}
        runs |= {f"{name}, attribution": (name, oracle.prior) for name in WITH_PRIOR}
        for name, (algorithm, prior) in runs.items():
            for settings, test in (("exact", oracle.test), ("default", Replay(oracle).ask)):
                found = search(algorithm, oracle.units, test, prior=prior)
                asked, size, certified = len(found.queries), len(found.units), found.certificate is not None
                yield Row(kind, pair, granularity, draw, name, settings, len(oracle.units), asked, size, certified)


class Replay:
    """Answers as a search with default settings would: a failing set's score is that of the rows it was asked."""

    def __init__(self, oracle: Recorded) -> None:
        self._oracle = oracle
        self._rows = list(self._verdicts(frozenset(oracle.units)))
        self._difficulty = Difficulty([prompt(row, "") for row in self._rows])
        for units in (frozenset[Unit](), frozenset(oracle.units)):
            self._difficulty.learn(self._verdicts(units))

    def ask(self, units: frozenset[Unit], label: str) -> Outcome:
        bar, said = self._oracle.bar, self._verdicts(units)
        asked: dict[str, Verdict] = {}
        for places in rounds(self._difficulty.hardest_first(), bar.dsr):
            asked |= {self._rows[place]: Verdict(said[self._rows[place]]) for place in places}
            missing = len(self._rows) - len(asked)
            if not bar.passes(defended_share([*asked.values(), *[Verdict.REFUSED] * missing])):
                break
        self._difficulty.learn(asked)
        score = defended_share(asked.values())
        return Outcome(bar.passes(score), score)

    def _verdicts(self, units: frozenset[Unit]) -> Mapping[str, str]:
        self._oracle.test(units, "replay")
        return self._oracle.verdicts(units)


def make_targets(rows: list[Row]) -> list[Target]:
    """Queries of `auto` over those of the cheapest peer that certifies every set, by kind of teacher and settings."""
    return [
        target(f"auto over {best}, {kind}, {settings}", fmean(auto) / fmean(other), 1.0)
        for kind, settings, best, auto, other in _against_best(rows)
    ]


def print_differences(rows: list[Row]) -> None:
    """Queries of `auto` minus those of that peer, with Student's 95 % interval over the paired searches."""
    for kind, settings, best, auto, other in _against_best(rows):
        differences = [ours - theirs for ours, theirs in zip(auto, other, strict=True)]
        error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else math.nan
        half = error * float(student.ppf(0.975, len(differences) - 1))
        print(f"auto minus {best}, {kind}, {settings}: {fmean(differences):.1f} ± {half:.1f} queries a search")


def _against_best(rows: list[Row]) -> Iterator[tuple[str, str, str, list[int], list[int]]]:
    """Kind, settings, cheapest peer that certifies every set, and queries of `auto` and of the peer, in one order."""
    for kind, settings in dict.fromkeys((row.kind, row.settings) for row in rows):
        here = [row for row in rows if (row.kind, row.settings) == (kind, settings)]
        queries = {name: [row.queries for row in here if row.algorithm == name] for name in ALGORITHMS}
        certified = {name for name in ALGORITHMS if all(row.certified for row in here if row.algorithm == name)}
        best = min(certified - set(OURS), key=lambda name: fmean(queries[name]))
        yield kind, settings, best, queries["auto"], queries[best]


def print_table(settings: str, rows: list[Row]) -> None:
    """A line for each algorithm, a column for each kind of teacher."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    table = Table("algorithm", *kinds, title=f"{settings}: queries, size over the smallest, certified %")
    for name in dict.fromkeys(row.algorithm for row in rows):
        table.add_row(name, *(_cell([row for row in rows if row.kind == kind], name) for kind in kinds))
    Console(width=110).print(table)


def _cell(rows: list[Row], algorithm: str) -> str:
    mine = [row for row in rows if row.algorithm == algorithm]
    smallest: dict[tuple[Any, ...], int] = {}
    for row in rows:
        place = (row.pair, row.granularity, row.draw)
        smallest[place] = min(row.size, smallest.get(place, row.size))
    size = fmean(row.size / smallest[row.pair, row.granularity, row.draw] for row in mine)
    certified = fmean(row.certified for row in mine)
    return f"{fmean(row.queries for row in mine):.1f}  {size:.2f}  {100 * certified:.0f}%"


if __name__ == "__main__":
    main()
