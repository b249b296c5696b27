"""How far a search can be believed: was the oracle monotone, and do repeated searches agree?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from statistics import fmean

from dapa_exp.search.query import Query, Unit


def non_monotone_pairs(queries: Iterable[Query]) -> list[tuple[Query, Query]]:
    """Return every passing query with each failing query that asked for more: (passing, failing superset).

    None seen does not prove an oracle monotone; algorithms that assume it ask for few such pairs.
    """
    sets = [(query, frozenset(query.units)) for query in queries]
    passing = [(query, units) for query, units in sets if query.outcome.passed]
    failing = [(query, units) for query, units in sets if not query.outcome.passed]
    return [(small, large) for small, units in passing for large, more in failing if units < more]


def jaccard(left: Iterable[Unit], right: Iterable[Unit]) -> float:
    """Return the share of units in common among those in either; two empty sets agree."""
    one, other = frozenset(left), frozenset(right)
    return len(one & other) / len(one | other) if one | other else 1.0


def stability(answers: Sequence[Collection[Unit]]) -> float:
    """Return the mean Jaccard index over all pairs of answers; a single answer agrees with itself."""
    return fmean(jaccard(left, right) for left, right in combinations(answers, 2)) if len(answers) > 1 else 1.0
