"""Our delta debugging asks what picire's asks, in the same order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dapa_exp.search import Budget, Unit
from dapa_exp.search.algorithms.ddmin import ddmin, ddmin_complements
from dapa_exp.search.problem import Problem
from dapa_exp.search.session import Session
from tests.benchmarks.picire_reference import picire_ddmin
from tests.benchmarks.planted import KINDS, layers

Reducing = Callable[[Problem], frozenset[Unit]]


@pytest.mark.parametrize("n", [1, 2, 5, 18, 28, 33])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reducer", [ddmin, ddmin_complements])
def test_same_answer_and_same_questions_as_picire(reducer: Reducing, kind: str, n: int) -> None:
    for seed in range(5):
        planted = KINDS[kind](layers(n), seed)
        session = Session(planted.units, planted.test, budget=Budget(), known={}, on_query=None)
        session.ask(planted.units, "all")
        ours = reducer(Problem(planted.units, session.ask))
        theirs, their_questions = picire_ddmin(planted.units, planted.test, try_chunks=reducer is ddmin)
        # Only we ask whether a single unit is needed at all, for the sake of the certificate.
        our_questions = [frozenset(query.units) for query in session.queries if query.units]
        assert our_questions == [question for question in their_questions if question]
        assert ours == theirs
