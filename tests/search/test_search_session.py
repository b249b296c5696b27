"""What every search shares: cache, budget, resume, controls, messages."""

from __future__ import annotations

import pytest

from dapa_exp.base.draws import random_sets
from dapa_exp.base.errors import DapaError
from dapa_exp.search import ALGORITHMS, Budget, Outcome, Query, Settings, Unit, search
from tests.benchmarks.planted import layers

UNITS = layers(6)
NEEDED = frozenset(UNITS[2:4])


def needs_two(candidate: frozenset[Unit], label: str = "") -> Outcome:
    return Outcome(candidate >= NEEDED, len(candidate & NEEDED) / 2)


def test_nothing_is_asked_twice() -> None:
    asked: list[frozenset[Unit]] = []

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        asked.append(candidate)
        return needs_two(candidate)

    result = search("ddmin", UNITS, test)
    assert len(asked) == len(set(asked)) == len(result.queries)
    assert result.cache_hits > 0
    assert [query.index for query in result.queries] == list(range(len(asked)))
    assert [frozenset(query.units) for query in result.queries] == asked


def test_units_are_given_back_in_order() -> None:
    backwards = UNITS[::-1]
    result = search("ddmin", backwards, needs_two)
    assert result.units == (UNITS[3], UNITS[2])


def test_seconds_end_a_search_with_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        nonlocal now
        now += 1.0
        return needs_two(candidate)

    monkeypatch.setattr("time.monotonic", lambda: now)
    result = search("ddmin", UNITS, test, budget=Budget(seconds=4))
    assert result.stopped_by == "seconds"
    assert len(result.queries) == 4
    assert result.passed


def test_no_budget_at_all_claims_nothing() -> None:
    result = search("ddmin", UNITS, needs_two, budget=Budget(queries=0))
    assert (result.units, result.passed, result.stopped_by) == (UNITS, False, "queries")


def test_resuming_a_finished_search_asks_nothing() -> None:
    told: list[Query] = []
    whole = search("ddmin", UNITS, needs_two, on_query=told.append)
    known = {frozenset(query.units): query.outcome for query in told}

    def never(candidate: frozenset[Unit], label: str = "") -> Outcome:
        raise AssertionError("asked again")

    assert search("ddmin", UNITS, never, known=known) == whole


@pytest.mark.parametrize(
    ("control", "settings", "expected"),
    [
        ("all", Settings(), UNITS),
        ("none", Settings(), ()),
        ("fixed", Settings(units=(UNITS[4], UNITS[1])), (UNITS[1], UNITS[4])),
    ],
)
def test_controls_answer_what_they_were_told(control: str, settings: Settings, expected: tuple[Unit, ...]) -> None:
    result = search(control, UNITS, needs_two, settings=settings)
    assert result.units == expected
    assert result.passed == needs_two(frozenset(expected)).passed
    assert len(result.queries) == 1


def test_random_control_answers_its_first_draw_even_if_another_passes() -> None:
    settings = Settings(k=3, repeats=12, seed=1)
    draws = random_sets(UNITS, 3, 12, 1)
    result = search("random", UNITS, needs_two, settings=settings)
    assert [frozenset(query.units) for query in result.queries] == draws
    assert frozenset(result.units) == draws[0]
    assert not result.passed
    assert any(query.outcome.passed for query in result.queries)
    cut_short = search("random", UNITS, needs_two, settings=settings, budget=Budget(queries=5))
    assert (cut_short.units, cut_short.stopped_by) == (result.units, "queries")


def test_random_sets_differ_and_depend_on_the_seed_alone() -> None:
    draws = random_sets(UNITS, 3, 10, seed=5)
    assert len(set(draws)) == 10
    assert all(len(draw) == 3 for draw in draws)
    assert draws == random_sets(UNITS, 3, 10, seed=5)
    assert draws != random_sets(UNITS, 3, 10, seed=6)
    assert len(random_sets(UNITS, 1, 100, seed=0)) == len(UNITS)


@pytest.mark.parametrize(
    ("algorithm", "units", "settings", "message"),
    [
        ("ddmim", UNITS, Settings(), "Did you mean 'ddmin'"),
        ("ddmin", (), Settings(), "no units"),
        ("ddmin", ("a", "a"), Settings(), "named twice"),
        ("random", UNITS, Settings(), "search.k"),
        ("random", UNITS, Settings(k=7), "cannot draw 7 of 6"),
        ("random", UNITS, Settings(k=1, repeats=0), "at least 1"),
        ("fixed", UNITS, Settings(units=("layers.33.mlp",)), "Did you mean 'layers.3.mlp'"),
    ],
)
def test_mistakes_are_named(algorithm: str, units: tuple[Unit, ...], settings: Settings, message: str) -> None:
    with pytest.raises(DapaError, match=message):
        search(algorithm, units, needs_two, settings=settings)


def test_every_algorithm_says_what_it_is() -> None:
    assert all(algorithm.title.endswith(".") for _, algorithm in ALGORITHMS)
