"""The input of a search algorithm: the items to choose from, the test, and perhaps a prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dapa_exp.search.query import Outcome

Ask = Callable[[Iterable[str], str], Outcome]
"""Asks for a set of items, under a label such as "round 4: without chunk 3 of 8"."""


class Problem:
    """Items that pass together, in order, and the best set found among them so far.

    Items are units, or groups of units in a hierarchical search. `prior` maps each item to its supposed importance
    (higher is more important). It may be wrong, and it may be None. `weights` are the items' sizes: the best set is the
    lightest that passes. Their mean is 1; without them, each is 1.
    """

    def __init__(
        self,
        items: Sequence[str],
        ask: Ask,
        prior: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.items = tuple(items)
        self.prior = prior
        self.weighted = weights is not None
        self.weights = dict.fromkeys(self.items, 1.0) if weights is None else _with_mean_one(weights, self.items)
        self.best = frozenset(items)
        self.seen: dict[frozenset[str], Outcome] = {}
        self._best_score = 0.0
        self._ask = ask

    def ask(self, items: Iterable[str], label: str) -> Outcome:
        """Test a set of items. Among passing sets, a lighter one is better; of equal weights, the higher score."""
        candidate = frozenset(items)
        outcome = self.seen[candidate] = self._ask(candidate, label)
        if outcome.passed and (-self.weight(candidate), outcome.score) > (-self.weight(self.best), self._best_score):
            self.best, self._best_score = candidate, outcome.score
        return outcome

    def weight(self, items: Iterable[str]) -> float:
        """The weight of a set of items, rounded to nine decimals. Without weights, it is the number of items."""
        return round(sum(self.weights[item] for item in sorted(items)), 9)

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
        """The items to do without, in this order: the least important for its weight first.

        Without a prior, the heaviest first, and equally heavy ones in order of position.
        """
        chosen, prior = frozenset(items), self.prior
        in_order = [item for item in self.items if item in chosen]
        if prior is None:
            return sorted(in_order, key=lambda item: -self.weights[item])
        return sorted(in_order, key=lambda item: prior[item] / self.weights[item])


def _with_mean_one(weights: Mapping[str, float], items: Sequence[str]) -> dict[str, float]:
    mean = sum(weights[item] for item in items) / len(items)
    return {item: weights[item] / mean for item in items}


Reducer = Callable[[Problem], frozenset[str]]
"""Returns the smallest set of items that it saw pass."""
