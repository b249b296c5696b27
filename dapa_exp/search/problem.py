"""What a reducing algorithm is given: items to choose from, a question to ask, perhaps a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dapa_exp.search.query import Outcome

Ask = Callable[[Iterable[str], str], Outcome]
"""Asks for a set of items, under a label such as "r3/c2"."""


class Problem:
    """Items in order, all of which together are known to pass, and the best set found among them.

    Items are units, or groups of units where a search descends a hierarchy. `prior` maps an item to
    its supposed importance (higher is more important); it may be wrong, and it may be missing.
    """

    def __init__(self, items: Sequence[str], ask: Ask, prior: Mapping[str, float] | None = None) -> None:
        self.items = tuple(items)
        self.prior = prior
        self.best = frozenset(items)
        self.seen: dict[frozenset[str], Outcome] = {}
        self._best_score = 0.0
        self._ask = ask

    def ask(self, items: Iterable[str], label: str) -> Outcome:
        """Ask for a set of items; smaller passing sets are better, then higher scores."""
        candidate = frozenset(items)
        outcome = self.seen[candidate] = self._ask(candidate, label)
        if outcome.passed and (-len(candidate), outcome.score) > (-len(self.best), self._best_score):
            self.best, self._best_score = candidate, outcome.score
        return outcome

    def passes(self, items: Iterable[str], label: str) -> bool:
        """Ask, where only the verdict matters."""
        return self.ask(items, label).passed

    def remaining(self) -> list[str]:
        """Return the best set so far, in order."""
        return [item for item in self.items if item in self.best]

    def surely_fails(self, items: Iterable[str]) -> bool:
        """Whether a superset was seen to fail: all there is to know, if the oracle is monotone."""
        candidate = frozenset(items)
        return any(candidate <= other for other, outcome in self.seen.items() if not outcome.passed)

    def ascending(self, items: Iterable[str]) -> list[str]:
        """Order items by the prior, the least important first; by position where there is none."""
        chosen = frozenset(items)
        in_order = [item for item in self.items if item in chosen]
        return in_order if self.prior is None else sorted(in_order, key=self.prior.__getitem__)


Reducer = Callable[[Problem], frozenset[str]]
"""Returns the smallest set of items that it saw pass."""
