"""How often 95 % intervals hold the truth, on simulated rows that are alike within their groups.

    python -m tests.benchmarks.coverage [--json FILE] [--smoke]

For each number of rows, size of groups and rate: coverage of the interval of a rate, of a gain over a student, and the
calibration of P(DSR ≥ bar) (with the bar at the truth, it should be from .025 to .975 in 95 % of draws), by groups, and
by rows as if they were independent. Groups draw their rates from a beta distribution with the stated intra-class
correlation. The targets are those of the report: coverage of 93 to 97 %; more is too cautious, less is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from dapa_exp.evaluate.statistics import (
    clustered_probability_above,
    clustered_rate,
    difference_by_group,
    paired_difference,
    probability_above,
    rate,
)
from tests.benchmarks.targets import conclude, target

ROWS, RATES = (32, 128, 512), (0.02, 0.5, 0.98)
WORLDS = {"groups of 3": (3, 0.45), "groups of 8": (8, 0.25)}
"""Sizes of groups with an intra-class correlation, for design effects of 1.9 and 2.8, as on the miniatures."""
STUDENT = 0.1
LOW, HIGH = 0.93, 0.97


@dataclass(frozen=True)
class Cell:
    """Coverage in one cell of the simulation."""

    world: str
    rows: int
    rate: float
    what: str
    by_group: float
    by_row: float

    @property
    def met(self) -> bool:
        """Whether the coverage that is reported lies within the target."""
        return LOW <= self.by_group <= HIGH


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the figures and targets")
    parser.add_argument("--smoke", action="store_true", help="a few draws of one cell")
    arguments = parser.parse_args()
    cells = list(simulate(20 if arguments.smoke else 1000, ROWS[:1] if arguments.smoke else ROWS))
    for cell in cells:
        mark = "" if cell.met else "  missed"
        print(
            f"{cell.world}, n = {cell.rows:3}, rate {cell.rate:.2f}, {cell.what:12}:"
            f" by group {cell.by_group:.3f}, by row {cell.by_row:.3f}{mark}"
        )
    targets = [
        target(
            "share of cells with a coverage of 93 to 97 %", sum(cell.met for cell in cells) / len(cells), 1.0, "higher"
        ),
        target("lowest coverage of a cell", min(cell.by_group for cell in cells), LOW, "higher"),
    ]
    conclude([asdict(cell) for cell in cells], targets, arguments.json)


def simulate(draws: int, rows: tuple[int, ...] = ROWS) -> Iterator[Cell]:
    """Every cell, from the same seed."""
    for (world, (size, correlation)), n, share in product(WORLDS.items(), rows, RATES):
        rng = np.random.default_rng(0)
        groups = [i // size for i in range(n)]
        hits = np.array([_draw(rng, groups, share, correlation) for _ in range(draws)])
        for column, what in enumerate(("rate", "gain", "P(DSR ≥ bar)")):
            by_group, by_row = np.nanmean(hits[:, 2 * column : 2 * column + 2], axis=0)
            yield Cell(world, n, share, what, float(by_group), float(by_row))


def _draw(rng: np.random.Generator, groups: list[int], share: float, correlation: float) -> list[float]:
    """Whether the intervals of one draw hold the truth, each by group and by row."""
    hybrid, student = (_rows(rng, groups, rate_, correlation) for rate_ in (share, STUDENT))
    by_group, by_row = clustered_rate(hybrid, groups), rate(sum(hybrid), len(hybrid))
    gain, gain_by_row = difference_by_group(hybrid, student, groups), paired_difference(hybrid, student)
    assert by_group
    held = [
        _holds(share, by_group.low, by_group.high),
        _holds(share, by_row.low, by_row.high),
        _holds(share - STUDENT, gain.low, gain.high),
        _holds(share - STUDENT, gain_by_row.low, gain_by_row.high),
    ]
    above = clustered_probability_above(hybrid, groups, share), probability_above(sum(hybrid), len(hybrid), share)
    return [*held, *map(_calibrated, above)]


def _rows(rng: np.random.Generator, groups: list[int], share: float, correlation: float) -> list[bool]:
    spread = (1 - correlation) / correlation
    rates = rng.beta(share * spread, (1 - share) * spread, groups[-1] + 1)
    drawn: list[bool] = (rng.random(len(groups)) < rates[groups]).tolist()
    return drawn


def _holds(truth: float, low: float | None, high: float | None) -> float:
    return float(low is not None and high is not None and low - 1e-9 <= truth <= high + 1e-9)


def _calibrated(above: float | None) -> float:
    """Whether the central 95 % of the posterior for the rate holds the truth: the bar is put at the truth itself."""
    return float(above is not None and 0.025 <= above <= 0.975)


if __name__ == "__main__":
    main()
