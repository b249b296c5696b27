"""Noise in a trace and agreement between answers."""

from __future__ import annotations

import pytest

from dapa_exp.search import Outcome, Query, jaccard, non_monotone_pairs, stability


def query(index: int, units: str, passed: bool) -> Query:
    return Query(index, "", tuple(units), Outcome(passed, float(passed)))


def test_a_passing_set_with_a_failing_superset_is_reported() -> None:
    trace = [
        query(0, "abcd", True),
        query(1, "abc", False),
        query(2, "ab", True),
        query(3, "cd", False),
        query(4, "a", True),
    ]
    assert [(small.index, large.index) for small, large in non_monotone_pairs(trace)] == [(2, 1), (4, 1)]


def test_a_monotone_trace_has_no_such_pair() -> None:
    assert non_monotone_pairs([query(0, "abc", True), query(1, "ab", True), query(2, "a", False)]) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"), [("ab", "bc", 1 / 3), ("ab", "ab", 1.0), ("a", "b", 0.0), ("", "", 1.0)]
)
def test_jaccard(left: str, right: str, expected: float) -> None:
    assert jaccard(left, right) == pytest.approx(expected)


def test_stability_is_the_mean_over_pairs() -> None:
    assert stability(["ab", "ab", "bc"]) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert stability(["ab"]) == 1.0
