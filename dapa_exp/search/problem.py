"""The input of a search algorithm: the items to choose from, the test, and perhaps a prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dapa_exp.search.query import Outcome

Ask = Callable[[Iterable[str], str], Outcome]
"""Asks for a set of items, under a label such as "r3/c2"."""


class Problem:
    """Items that pass together, in order, and the best set found among them so far.

    Items are units, or groups of units in a hierarchical search. `prior` maps each item to its supposed importance
    (higher is more important). It may be wrong, and it may be None.
    """

    def __init__(self, items: Sequence[str], ask: Ask, prior: Mapping[str, float] | None = None) -> None:
        self.items = tuple(items)
        self.prior = prior
        self.best = frozenset(items)
        self.seen: dict[frozenset[str], Outcome] = {}
        self._best_score = 0.0
        self._ask = ask

    def ask(self, items: Iterable[str], label: str) -> Outcome:
        """Test a set of items. Among passing sets, a smaller one is better; of equal sizes, the higher score."""
        candidate = frozenset(items)
        outcome = self.seen[candidate] = self._ask(candidate, label)
        if outcome.passed and (-len(candidate), outcome.score) > (-len(self.best), self._best_score):
            self.best, self._best_score = candidate, outcome.score
        return outcome

    def passes(self, items: Iterable[str], label: str) -> bool:
        """Test a set of items. Returns only whether it passes."""
        return self.ask(items, label).passed

    def remaining(self) -> list[str]:
        """The best set so far, in order."""
        return [item for item in self.items if item in self.best]

    def surely_fails(self, items: Iterable[str]) -> bool:
        """Whether a superset has failed. If the oracle is monotone, the set then fails, too."""
        candidate = frozenset(items)
        return any(candidate <= other for other, outcome in self.seen.items() if not outcome.passed)

    def ascending(self, items: Iterable[str]) -> list[str]:
        """The items, the least important by the prior first. Without a prior, in order of position."""
        chosen = frozenset(items)
        in_order = [item for item in self.items if item in chosen]
        return in_order if self.prior is None else sorted(in_order, key=self.prior.__getitem__)


Reducer = Callable[[Problem], frozenset[str]]
"""Returns the smallest set of items that it saw pass."""
