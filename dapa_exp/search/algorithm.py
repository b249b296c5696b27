"""The two kinds of algorithm: those that search, and controls that ask for sets named in advance.

An algorithm is one file that registers it, of `dapa_exp/search/algorithms` or of the user's own (`--config-dir`):

    ALGORITHMS.register("mine", Reduction(my_function, title="What it does in one line."))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dapa_exp.config.registries import ALGORITHMS, Algorithm, Queries
from dapa_exp.config.schema import Search
from dapa_exp.search.problem import Reducer
from dapa_exp.search.query import Settings, Unit

__all__ = ["ALGORITHMS", "Candidates", "Control", "Queries", "Reduction"]

Candidates = list[frozenset[Unit]]


@dataclass(frozen=True)
class Reduction(Algorithm):
    """Looks for a smallest set that passes."""

    reduce: Reducer
    cost: tuple[float, float] | None = None
    """Mean queries among n units: c · n^p, as (c, p); None where nobody has measured them.

    Ours are least squares on logarithms, over the four kinds of planted oracles (tests/benchmarks/planted.py) at n = 8
    to 120 (greedy: to 40), without a prior; within 14 % of each mean. One search can take half or twice as many."""

    def queries(self, search: Search, units: int) -> Queries | None:
        if self.cost is None:
            return None
        factor, power = self.cost
        return Queries(min(round(factor * units**power), 2**units), "about")


@dataclass(frozen=True)
class Control(Algorithm):
    """Asks for sets that are named rather than searched for. Without controls no claim about a search stands."""

    candidates: Callable[[Sequence[Unit], Settings], Candidates]
    """Which sets to ask for. The first of them is the answer, whether it passes or not."""
    count: Callable[[Search, int], int] = lambda search, units: 1
    """How many they are, by the settings and the number of units, the baselines apart."""
    whole_scores: bool = field(default=True, kw_only=True)

    def queries(self, search: Search, units: int) -> Queries:
        return Queries(2 + self.count(search, units), "exactly")
