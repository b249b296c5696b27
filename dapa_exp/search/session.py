"""One search in progress: cache, budget, trace and best-so-far, shared by every algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from dapa_exp.search.query import Budget, Certificate, Outcome, Query, Test, Unit


class BudgetExhaustedError(Exception):
    """Ends an algorithm whose budget has run out. The session holds what was found so far."""


class Session:
    """Calls the test, once for each set.

    Algorithms are deterministic. So an interrupted search is resumed by running it again with its earlier outcomes as
    `known`: they enter the trace in the same order as before, without a call of the test.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        test: Test,
        *,
        budget: Budget,
        known: Mapping[frozenset[Unit], Outcome],
        on_query: Callable[[Query], None] | None,
        weights: Mapping[Unit, float] | None = None,
    ) -> None:
        self.units = tuple(units)
        self.queries: list[Query] = []
        self.cache_hits = 0
        self.best: Query | None = None
        self.stopped_by: Literal["queries", "seconds"] | None = None
        self._test = test
        self._budget = budget
        self._known = known
        self._on_query = on_query
        self._weights = weights or dict.fromkeys(units, 1.0)
        self._asked: dict[frozenset[Unit], Query] = {}
        self._started = time.monotonic()

    def ask(self, units: Iterable[Unit], label: str) -> Outcome:
        """The outcome of a candidate. It comes from the cache if it was asked before."""
        candidate = frozenset(units)
        if candidate in self._asked:
            self.cache_hits += 1
            return self._asked[candidate].outcome
        self._spend("queries", len(self.queries), self._budget.queries)
        outcome = self._known.get(candidate)
        if outcome is not None:
            return self._enter(candidate, label, outcome).outcome
        self._spend("seconds", time.monotonic() - self._started, self._budget.seconds)
        query = self._enter(candidate, label, self._test(candidate, label))
        if self._on_query is not None:
            self._on_query(query)
        return query.outcome

    def query(self, units: Iterable[Unit]) -> Query | None:
        """The query that asked for exactly these units. None if there was none."""
        return self._asked.get(frozenset(units))

    def certificate(self, units: Iterable[Unit]) -> Certificate | None:
        """The proof that a set is 1-minimal. None if the trace has no such proof."""
        answer = frozenset(units)
        whole = self.query(answer)
        if whole is None or not whole.outcome.passed:
            return None
        failing: dict[Unit, int] = {}
        for unit in self.in_order(answer):
            without = self.query(answer - {unit})
            if without is None or without.outcome.passed:
                return None
            failing[unit] = without.index
        return Certificate(whole.index, failing)

    def in_order(self, units: Iterable[Unit]) -> tuple[Unit, ...]:
        """The units, in the order in which they were given to the search."""
        chosen = frozenset(units)
        return tuple(unit for unit in self.units if unit in chosen)

    def _spend(self, name: Literal["queries", "seconds"], spent: float, limit: float | None) -> None:
        if limit is not None and spent >= limit:
            self.stopped_by = name
            raise BudgetExhaustedError

    def _enter(self, candidate: frozenset[Unit], label: str, outcome: Outcome) -> Query:
        query = Query(len(self.queries), label, self.in_order(candidate), outcome)
        self.queries.append(query)
        self._asked[candidate] = query
        if outcome.passed and (self.best is None or self._rank(query) < self._rank(self.best)):
            self.best = query
        return query

    def _rank(self, query: Query) -> tuple[float, float]:
        """Lighter sets first, then higher scores; the earlier query wins a tie."""
        return sum(self._weights[unit] for unit in query.units), -query.outcome.score
