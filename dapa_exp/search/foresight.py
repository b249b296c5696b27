"""What a search will ask next, if what is being asked comes out one way or the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from dapa_exp.search.query import Outcome, SearchResult, Test, Unit

Known = Mapping[frozenset[Unit], Outcome]
"""What was found out of each candidate."""

Foresee = Callable[[Known], frozenset[Unit] | None]
"""The candidate that comes after these outcomes; None where the search would end."""


class Hunt(Protocol):
    """A search, all settled but for the test."""

    def __call__(self, test: Test, *, known: Known) -> SearchResult: ...


class _AskedError(Exception):
    def __init__(self, units: frozenset[Unit]) -> None:
        super().__init__(units)
        self.units = units


def next_query(hunt: Hunt, known: Known) -> frozenset[Unit] | None:
    """Run the search again with these outcomes, up to the first candidate that they do not cover.

    Algorithms are deterministic, and take no time but for what they ask. So this needs no help from them.
    """

    def ask(units: frozenset[Unit]) -> Outcome:
        raise _AskedError(units)

    try:
        hunt(ask, known=known)
    except _AskedError as asked:
        return asked.units
    return None
