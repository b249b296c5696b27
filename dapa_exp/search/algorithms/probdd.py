"""Probabilistic delta debugging: every item has a chance to be needed, learned from failures.

G. Wang et al.: Probabilistic Delta Debugging. ESEC/FSE 2021, section 3 (`probdd`).
M. Zhang et al.: Deep Dive into Probabilistic Delta Debugging. arXiv 2408.04735, section 4 (`cdd`): the
chances matter only through the sizes of the chunks they lead to, which can be computed beforehand.
Neither returns a 1-minimal set by itself, so `minimise` follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from math import e, floor, log, prod
from operator import mul

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.minimise import minimise
from dapa_exp.search.problem import Problem

Passes = Callable[[Iterable[str], str], bool]
INITIAL_CHANCE = 0.1  # that an item is needed; both papers' choice


def probdd(problem: Problem) -> frozenset[str]:
    """Remove the items least likely to be needed, as many as have the largest expected gain. O(n) queries."""
    order = problem.ascending(problem.items)
    remove_unlikely(dict.fromkeys(order, INITIAL_CHANCE), problem.passes)
    return minimise(problem)


def remove_unlikely(chance: dict[str, float], passes: Passes) -> None:
    """Remove items until each remaining item is needed with probability 1. `chance`: initial probabilities, by item."""
    while any(value < 1.0 for value in chance.values()):
        order = sorted(chance, key=chance.__getitem__)
        removed = order[: _gainful([chance[item] for item in order])]
        if passes(chance.keys() - set(removed), f"remove {len(removed)}"):
            for item in removed:
                del chance[item]
        else:
            none_needed = prod(1.0 - chance[item] for item in removed)
            for item in removed:
                chance[item] = 1.0 if len(removed) == 1 else min(1.0, chance[item] / (1.0 - none_needed))


def cdd(problem: Problem) -> frozenset[str]:
    """Remove chunks whose size depends only on the round, down to one item. About 1.6 n queries at worst.

    The sizes are those of the authors' artifact: 9, 5, 3, 1.
    """
    kept = problem.ascending(problem.best)
    size, chunk = round(-1.0 / log(1.0 - INITIAL_CHANCE)), len(kept)
    while kept and chunk > 1:
        chunk = max(1, min(size, len(kept)))
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + chunk :]
            if problem.passes(rest, f"size {chunk} at {start}"):
                kept = rest
            else:
                start += chunk
        size = floor(size * (1.0 - 1.0 / e))
    return minimise(problem)


def _gainful(chances: list[float]) -> int:
    """How many items to remove: the size with the largest product of size and probability that none is needed."""
    survival = accumulate((1.0 - chance for chance in chances), mul)
    gains = [size * alive for size, alive in enumerate(survival, start=1)]
    return 1 + gains.index(max(gains))


ALGORITHMS.register(
    "probdd",
    Reduction(
        probdd,
        title="Probabilistic delta debugging (Wang et al., FSE 2021), finished to 1-minimality.",
        cost=(4.17, 0.57),
    ),
)
ALGORITHMS.register(
    "cdd",
    Reduction(
        cdd,
        title="Counter-based delta debugging (Zhang et al., arXiv 2408.04735), finished to 1-minimality.",
        cost=(3.69, 0.57),
    ),
)
