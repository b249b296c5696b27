"""Runs a search algorithm or a control by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dapa_exp.base.errors import DapaError
from dapa_exp.search.algorithm import ALGORITHMS, Control, Reduction
from dapa_exp.search.problem import Problem, Reducer
from dapa_exp.search.query import Budget, Outcome, Query, SearchResult, Settings, Test, Unit
from dapa_exp.search.session import BudgetExhaustedError, Session


def search(
    algorithm: str,
    units: Sequence[Unit],
    test: Test,
    *,
    budget: Budget | None = None,
    known: Mapping[frozenset[Unit], Outcome] | None = None,
    on_query: Callable[[Query], None] | None = None,
    prior: Mapping[Unit, float] | None = None,
    weights: Mapping[Unit, float] | None = None,
    settings: Settings | None = None,
) -> SearchResult:
    """Look for a minimal set of units that passes. Raises DapaError if there are no units, or a unit is named twice.

    `known` has the outcomes of an interrupted run of the same search. `on_query` is called after every new query.
    `prior` maps units to their supposed importance; units that it does not name count as the least important.
    `weights` are the units' sizes: the lightest set is looked for. Without them, the set of the fewest units.
    """
    chosen = ALGORITHMS.get(algorithm)
    if not units:
        raise DapaError("search: no units to choose from.")
    if len(set(units)) < len(units):
        raise DapaError("search: a unit is named twice.")
    session = Session(units, test, budget=budget or Budget(), known=known or {}, on_query=on_query, weights=weights)
    if isinstance(chosen, Control):
        return _ask_all(session, chosen.candidates(session.units, settings or Settings()))
    assert isinstance(chosen, Reduction)
    return _reduce(session, chosen.reduce, prior, weights)


def _reduce(
    session: Session,
    reducer: Reducer,
    prior: Mapping[Unit, float] | None,
    weights: Mapping[Unit, float] | None,
) -> SearchResult:
    """Run an algorithm as long as the budget lasts. If all units together fail, the answer is all units."""
    answer: Iterable[Unit] = session.units
    try:
        if session.ask(answer, "all").passed:
            answer = reducer(Problem(session.units, session.ask, _completed(prior, session.units), weights))
    except BudgetExhaustedError:
        answer = session.best.units if session.best else session.units
    return _result(session, answer)


def _completed(prior: Mapping[Unit, float] | None, units: Sequence[Unit]) -> Mapping[Unit, float] | None:
    if prior is None:
        return None
    least = min(prior.values(), default=0.0)
    return {unit: prior.get(unit, least) for unit in units}


def _ask_all(session: Session, candidates: Sequence[frozenset[Unit]]) -> SearchResult:
    try:
        for draw, candidate in enumerate(candidates):
            session.ask(candidate, f"draw{draw}")
    except BudgetExhaustedError:
        pass  # the session records it; the answer is the first candidate in any case
    return _result(session, candidates[0])


def _result(session: Session, answer: Iterable[Unit]) -> SearchResult:
    query = session.query(answer)
    return SearchResult(
        units=session.in_order(answer),
        passed=query is not None and query.outcome.passed,
        certificate=session.certificate(answer),
        stopped_by=session.stopped_by,
        queries=tuple(session.queries),
        cache_hits=session.cache_hits,
    )
