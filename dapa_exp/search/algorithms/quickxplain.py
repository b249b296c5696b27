"""QuickXplain: divide and conquer towards a preferred minimal set.

U. Junker: QuickXplain: Preferred Explanations and Relaxations for Over-Constrained Problems. AAAI 2004.
2k·log₂(n/k) + 2k queries for a set of k items, if the oracle is monotone. If it is not, the set that the recursion
returns may fail. So single deletions start from the smallest set that has passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.minimise import minimise
from dapa_exp.search.problem import Problem


def quickxplain(problem: Problem) -> frozenset[str]:
    """Prefer items in descending importance, or in their order where there is no prior."""
    preferred = problem.items if problem.prior is None else problem.ascending(problem.items)[::-1]
    problem.passes(_needed(problem, frozenset(), preferred, grown=False), "explained")
    return minimise(problem)


def _needed(problem: Problem, background: frozenset[str], items: Sequence[str], *, grown: bool) -> frozenset[str]:
    """The items that must be added to `background` for it to pass. `grown`: it has grown since it last failed."""
    if grown and problem.passes(background, f"background {len(background)}"):
        return frozenset()
    if len(items) == 1:
        return frozenset(items)
    half = len(items) // 2
    preferred, other = items[:half], items[half:]
    from_other = _needed(problem, background | set(preferred), other, grown=True)
    from_preferred = _needed(problem, background | from_other, preferred, grown=bool(from_other))
    return from_other | from_preferred


ALGORITHMS.register(
    "quickxplain",
    Reduction(quickxplain, title="QuickXplain (Junker 2004), finished to 1-minimality.", cost=(2.34, 0.80)),
)
