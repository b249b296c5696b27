"""Exhaustive search: the ground truth that other algorithms are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from dapa_exp.config.registries import ALGORITHMS, Queries
from dapa_exp.config.search import Search
from dapa_exp.search.algorithm import Reduction
from dapa_exp.search.problem import Problem

MOST_ITEMS = 12  # 4,096 subsets


def exhaustive(problem: Problem) -> frozenset[str]:
    """Try all subsets of up to 12 items, or all ranges of more items, by size. Of the smallest, the best score wins.

    If items differ in weight, a larger set may be lighter, so all sets are tried. At worst 2ⁿ queries for subsets, and
    n(n+1)/2 for ranges. A smallest subset is 1-minimal; a smallest range need not be.
    """
    for size in range(len(problem.items)):
        for candidate in _candidates(problem.items, size):
            problem.ask(candidate, f"size {size}")
        if len(problem.best) == size and not problem.weighted:
            break
    return problem.best


def _candidates(items: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    """All subsets of this size, or of many items the contiguous ones."""
    if len(items) <= MOST_ITEMS:
        return combinations(items, size)
    return (items[start : start + size] for start in range(len(items) - size + 1))


@dataclass(frozen=True)
class Exhaustive(Reduction):
    """An upper bound of the queries is known; large sets come close to it."""

    def queries(self, search: Search, units: int) -> Queries:
        return Queries(2**units if units <= MOST_ITEMS else units * (units + 1) // 2 + 1, "at most")


ALGORITHMS.register(
    "exhaustive",
    Exhaustive(
        exhaustive, title="All ranges of units; all subsets of up to 12 units. The ground truth, at many queries."
    ),
)
