"""Ground truth: nothing is left out that could be smaller."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from dapa_exp.search.problem import Problem

MOST_ITEMS = 12  # 4,096 subsets


def exhaustive(problem: Problem) -> frozenset[str]:
    """Try every subset of up to 12 items, else every contiguous range, by size; the best score of the smallest wins.

    2ⁿ or n(n+1)/2 queries at worst. A smallest subset is 1-minimal, a smallest range need not be.
    """
    n = len(problem.items)
    for size in range(n):
        for candidate in _subsets(problem, size) if n <= MOST_ITEMS else _ranges(problem, size):
            problem.ask(candidate, f"size {size}")
        if len(problem.best) == size:
            break
    return problem.best


def _subsets(problem: Problem, size: int) -> Iterable[tuple[str, ...]]:
    return combinations(problem.items, size)


def _ranges(problem: Problem, size: int) -> Iterable[tuple[str, ...]]:
    return (problem.items[start : start + size] for start in range(len(problem.items) - size + 1))
