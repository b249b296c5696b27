"""Measures how far a search can be trusted: was the oracle monotone, and do repeated searches agree?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from statistics import fmean

from dapa_exp.search.query import Query, Unit


def non_monotone_pairs(queries: Iterable[Query]) -> list[tuple[Query, Query]]:
    """All pairs of a passing query and a failing query that asked for a superset.

    If there is none, the oracle may still not be monotone: algorithms that assume it make few queries of this kind.
    """
    sets = [(query, frozenset(query.units)) for query in queries]
    passing = [(query, units) for query, units in sets if query.outcome.passed]
    failing = [(query, units) for query, units in sets if not query.outcome.passed]
    return [(small, large) for small, units in passing for large, more in failing if units < more]


def jaccard(left: Iterable[Unit], right: Iterable[Unit]) -> float:
    """The Jaccard index of two sets: common units over all units. It is 1 for two empty sets."""
    one, other = frozenset(left), frozenset(right)
    return len(one & other) / len(one | other) if one | other else 1.0


def stability(answers: Sequence[Collection[Unit]]) -> float:
    """The mean Jaccard index over all pairs of answers. It is 1 for a single answer."""
    return fmean(jaccard(left, right) for left, right in combinations(answers, 2)) if len(answers) > 1 else 1.0
