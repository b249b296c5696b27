"""The two kinds of algorithm: searches, and controls, which test sets that are named in advance.

An algorithm is one file that registers it, of `dapa_exp/search/algorithms` or of the user's own (`--config-dir`):

    ALGORITHMS.register("mine", Reduction(my_function, title="What it does in one line."))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dapa_exp.config.registries import ALGORITHMS, Algorithm, Queries
from dapa_exp.config.search import Search
from dapa_exp.search.problem import Reducer
from dapa_exp.search.query import Settings, Unit

__all__ = ["ALGORITHMS", "Candidates", "Control", "Queries", "Reduction"]

Candidates = list[frozenset[Unit]]


@dataclass(frozen=True)
class Reduction(Algorithm):
    """An algorithm that looks for a smallest set that passes."""

    reduce: Reducer
    cost: tuple[float, float] | None = None
    """(c, p): a search among n units takes about c · n^p queries on average. None if this was not measured.

    The values here are fitted by least squares on logarithms to four kinds of planted oracles
    (tests/benchmarks/planted.py) with n = 8 to 120 (greedy: to 40), without a prior. They are within 14 % of each mean.
    A single search can take half or twice as many queries."""

    def queries(self, search: Search, units: int) -> Queries | None:
        if self.cost is None:
            return None
        factor, power = self.cost
        return Queries(min(round(factor * units**power), 2**units), "about")


@dataclass(frozen=True)
class Control(Algorithm):
    """A control: it asks for sets that are named in advance. A search is compared with them."""

    control: ClassVar[bool] = True
    candidates: Callable[[Sequence[Unit], Settings], Candidates]
    """The sets to ask for. The first of them is the answer, whether it passes or not."""
    count: Callable[[Search, int], int] = lambda search, units: 1
    """The number of these sets, from the settings and the number of units. The two baselines are not counted."""
    whole_scores: bool = field(default=True, kw_only=True)
    by_prior: bool = field(default=False, kw_only=True)
    """Whether the sets depend on `search.prior`, which is computed only then."""

    def queries(self, search: Search, units: int) -> Queries:
        return Queries(2 + self.count(search, units), "exactly")
