"""How many queries each search algorithm needs, on planted oracles and on those of the miniature pairs.

    python -m tests.benchmarks.search_queries [--repeats 30] [--json FILE] [--smoke]

Every figure counts unique queries, those of the certificate among them. `lower bound` is what no certified
search can go below: one passing query and one failing query for each unit of a smallest answer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from dapa_exp.search import Unit, search
from tests.benchmarks.picire_reference import picire_ddmin
from tests.benchmarks.planted import HELD_OUT, KINDS, REDUCTIONS, Planted, layers, prior, projections, shuffled
from tests.benchmarks.recorded import Recorded, recorded
from tests.benchmarks.targets import Target, conclude, target

Prior = dict[Unit, float]
PRIORS: dict[str, Callable[[Planted, int], Prior]] = {
    "r=.7": lambda planted, seed: prior(planted, 0.7, seed),
    "r=.9": lambda planted, seed: prior(planted, 0.9, seed),
    "shuffled": lambda planted, seed: shuffled(prior(planted, 0.9, seed), seed),
    "r=-.5": lambda planted, seed: prior(planted, -0.5, seed),
}
WITH_PRIOR = ("auto", "prior", "hierarchical")
GROUPS = {
    "planted": [("layers", kind, n) for kind in KINDS for n in (18, 28, 32, 40)],
    "long": [("layers", kind, 96) for kind in KINDS],
    "projections": [("projections", kind, n) for kind in KINDS for n in (84, 96, 120)],
    "held out": [("layers", kind, 28) for kind in HELD_OUT],
}
REAL = [
    ("mini-llama-small-style", "mlp"),
    ("mini-llama-small-style", "projection"),
    ("mini-llama-large-base", "layer"),
    ("mini-mistral-style", "mlp"),
    ("mini-mistral-style", "layer"),
    ("mini-gemma-small-base", "mlp"),
    ("mini-gemma-small-base", "projection"),
]
"""Some of the miniature pairs, each family among them, such that the models can be asked within minutes."""
PEERS = [name for name in REDUCTIONS if name not in ("auto", "hierarchical")]  # the latter is auto on flat units
TOO_DEAR = ("exhaustive", "greedy")  # hundreds of queries a pair, each a second of a model
SHUFFLES = 3
MIN_GAIN = 0.1  # DSR gain of everything under which a search has nothing to find
EXHAUSTIVE_MOST = 40  # items; its ranges take minutes beyond
SLOW_SHARE = 4  # cells of more than 40 items run this many times less often
SMOKE_REPEATS, SMOKE_UNITS = 1, 18
SMOKE_ROWS = ("dataset.search.rows=[0,12]", "search.max_new_tokens=8")
FIRST_SEED = 10_000  # the constants of `auto` were chosen on seeds below 100


@dataclass(frozen=True)
class Row:
    """One algorithm on one kind and size of oracle, over all repetitions."""

    group: str
    cell: str
    algorithm: str
    queries: float
    p95: float
    size: float  # over the best known
    certified: float


def main() -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="small cells and one pair on few rows: does it run?")
    arguments = parser.parse_args()

    repeats = SMOKE_REPEATS if arguments.smoke else arguments.repeats
    cells = [(group, *cell, repeats) for group, members in GROUPS.items() for cell in members]
    pairs = [(*pair, False) for pair in REAL]
    if arguments.smoke:
        cells = [(group, level, kind, SMOKE_UNITS, repeats) for group, level, kind, *_ in cells]
        pairs = [(*REAL[0], True)]
    with ProcessPoolExecutor(arguments.processes) as pool:
        planted = pool.map(measure_cell, *zip(*dict.fromkeys(cells), strict=True))
        real = pool.map(measure_real, *zip(*pairs, strict=True))
        rows = [row for measured in (*planted, *real) for row in measured]
    for group in dict.fromkeys(row.group for row in rows):
        print_group(group, [row for row in rows if row.group == group])
    conclude([asdict(row) for row in rows], make_targets(rows), arguments.json)


def measure_cell(group: str, level: str, kind: str, n: int, repeats: int) -> list[Row]:
    """Run everything on the same oracles."""
    units = layers(n) if level == "layers" else projections(n // 3)
    plant = (KINDS | HELD_OUT)[kind]
    count = max(1, repeats if n <= EXHAUSTIVE_MOST else repeats // SLOW_SHARE)
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    oracles = [plant(units, seed) for seed in seeds]
    cell = f"{kind} {n}"

    def summary(algorithm: str, found: list[tuple[int, int, bool]]) -> Row:
        queries = sorted(asked for asked, _, _ in found)
        return Row(
            group,
            cell,
            algorithm,
            queries=fmean(queries),
            p95=queries[math.ceil(0.95 * len(queries)) - 1],
            size=fmean(size / oracle.best for (_, size, _), oracle in zip(found, oracles, strict=True)),
            certified=fmean(certified for _, _, certified in found),
        )

    rows = [
        summary("lower bound", [(oracle.best + 1, oracle.best, True) for oracle in oracles]),
        summary("picire ddmin", [run_picire(oracle) for oracle in oracles]),
    ]
    for algorithm in REDUCTIONS:
        if algorithm != "exhaustive" or n <= EXHAUSTIVE_MOST:
            rows.append(summary(algorithm, [run(algorithm, oracle, None) for oracle in oracles]))
    for algorithm in WITH_PRIOR:
        for name, make in PRIORS.items():
            hints = [make(oracle, seed + 1) for seed, oracle in zip(seeds, oracles, strict=True)]
            found = [run(algorithm, oracle, hint) for oracle, hint in zip(oracles, hints, strict=True)]
            rows.append(summary(f"{algorithm}, prior {name}", found))
    return rows


def measure_real(pair: str, granularity: str, smoke: bool = False) -> list[Row]:
    """Run everything on a real pair; the best known set is the smallest that any of them found."""
    with recorded(pair, granularity, *(SMOKE_ROWS if smoke else ())) as oracle:
        if not oracle.bar.gains(MIN_GAIN):
            return []
        found = {"picire ddmin": [run_picire(oracle)]}
        for algorithm in REDUCTIONS:
            if algorithm not in TOO_DEAR:
                found[algorithm] = [run(algorithm, oracle, None)]
        for algorithm in WITH_PRIOR:
            found[f"{algorithm}, prior attribution"] = [run(algorithm, oracle, oracle.prior)]
            hints = [shuffled(oracle.prior, seed) for seed in range(SHUFFLES)]
            found[f"{algorithm}, prior shuffled"] = [run(algorithm, oracle, hint) for hint in hints]
    best = min(size for runs in found.values() for _, size, _ in runs)
    found = {"lower bound": [(best + 1, best, True)], **found}
    cell = f"{pair.removeprefix('mini-')} {granularity}"
    return [
        Row(
            "real",
            cell,
            algorithm,
            queries=fmean(asked for asked, _, _ in runs),
            p95=max(asked for asked, _, _ in runs),
            size=fmean(size / best for _, size, _ in runs),
            certified=fmean(certified for _, _, certified in runs),
        )
        for algorithm, runs in found.items()
    ]


def run(algorithm: str, oracle: Planted | Recorded, hint: Prior | None) -> tuple[int, int, bool]:
    """Return the number of queries, the size of the answer, and whether it is certified."""
    result = search(algorithm, oracle.units, oracle.test, prior=hint)
    return len(result.queries), len(result.units), result.certificate is not None


def run_picire(oracle: Planted | Recorded) -> tuple[int, int, bool]:
    """The same for picire, whose last round is a certificate unless a single unit is left."""
    answer, asked = picire_ddmin(oracle.units, oracle.test)
    return len(asked), len(answer), all(answer - {unit} in asked for unit in answer)


def _queries(row: Row) -> float:
    return row.queries


def _size(row: Row) -> float:
    return row.size


def make_targets(rows: list[Row]) -> list[Target]:
    """Compare with the plain, cached ddmin of the same cell."""
    by_name = {(row.group, row.cell, row.algorithm): row for row in rows}

    def ratios(group: str, algorithm: str, of: Callable[[Row], float] = _queries) -> list[float]:
        mine = [row for row in rows if row.group == group and row.algorithm == algorithm]
        return [of(row) / of(by_name[group, row.cell, "ddmin"]) for row in mine]

    def worst(algorithm: str, hint: str) -> float:
        return max(ratio for group in (*GROUPS, "real") for ratio in ratios(group, f"{algorithm}, prior {hint}"))

    def over_best_peer(group: str) -> tuple[str, float]:
        """The cheapest other algorithm that certifies every answer, and auto's queries over its, mean over cells."""
        mean = {
            name: fmean(row.queries for row in mine)
            for name in PEERS
            if (mine := [row for row in rows if (row.group, row.algorithm) == (group, name)])
            and min(row.certified for row in mine) == 1.0
        }
        best = min(mean, key=mean.__getitem__)
        autos = [row for row in rows if (row.group, row.algorithm) == (group, "auto")]
        return best, fmean(row.queries / by_name[group, row.cell, best].queries for row in autos)

    sizes = ratios("planted", "auto", _size)
    real = [
        target(f"{algorithm}, real: {what} over ddmin, mean", fmean(found), bound)
        for algorithm, what, of, bound in (
            ("auto", "queries", _queries, 0.5),
            ("auto", "set size", _size, 1.0),
            ("auto, prior attribution", "queries", _queries, 0.35),
            ("prior, prior attribution", "queries", _queries, 0.35),
        )
        if (found := ratios("real", algorithm, of))
    ]
    peers = {
        group: over_best_peer(group)
        for group in ("planted", "held out", "projections", "real")
        if any(row.group == group for row in rows)
    }
    every = [row for row in rows if row.algorithm.startswith(("auto", "hierarchical"))]
    return [
        target("auto, no prior: queries over ddmin, mean", fmean(ratios("planted", "auto")), 0.5),
        target("auto, no prior: set size over ddmin, mean", fmean(sizes), 1.0),
        target("auto, prior r=.9: queries over ddmin, mean", fmean(ratios("planted", "auto, prior r=.9")), 0.35),
        target("auto, prior r=.7: queries over ddmin, mean", fmean(ratios("planted", "auto, prior r=.7")), 0.35),
        *(
            target(f"{algorithm}, prior {name}: queries over ddmin, worst", worst(algorithm, name), 1.1)
            for algorithm in WITH_PRIOR
            for name in ("shuffled", "r=-.5")
        ),
        *real,
        *(
            target(f"auto, {group}: queries over {best}, the cheapest certified peer", ratio, 1.0)
            for group, (best, ratio) in peers.items()
        ),
        target("auto, held out: queries over ddmin, mean", fmean(ratios("held out", "auto")), 0.5),
        target("projections: hierarchical queries over ddmin, mean", fmean(ratios("projections", "hierarchical")), 0.4),
        target("auto and hierarchical: share certified, least", min(row.certified for row in every), 1.0, "higher"),
    ]


def print_group(group: str, rows: list[Row]) -> None:
    """One line an algorithm, one column a cell: mean queries, p95, set size over best, share certified."""
    table = Table(title=f"{group}: queries (p95) size certified %")
    table.add_column("algorithm")
    cells = list(dict.fromkeys(row.cell for row in rows))
    for cell in cells:
        table.add_column(cell, justify="right")
    for algorithm in dict.fromkeys(row.algorithm for row in rows):
        found = {row.cell: row for row in rows if row.algorithm == algorithm}
        table.add_row(algorithm, *(show(found[cell]) if cell in found else "" for cell in cells))
    Console(width=max(110, 30 + 25 * len(cells))).print(table)


def show(row: Row) -> str:
    """One cell of the printed table."""
    return f"{row.queries:.1f} ({row.p95:.0f}) {row.size:.2f} {100 * row.certified:.0f}%"


if __name__ == "__main__":
    main()
