"""Properties every reducing algorithm has, on oracles drawn at random and on planted ones."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings, strategies as st

from dapa_exp.search import Budget, Outcome, Query, SearchResult, Test, Unit, search
from tests.benchmarks.planted import KINDS, REDUCTIONS, layers, prior, projections, shuffled

UNITS = layers(8)
FULL = frozenset(UNITS)
algorithms = pytest.mark.parametrize("algorithm", REDUCTIONS)
few = settings(max_examples=25, deadline=None)


@st.composite
def monotone_tests(draw: st.DrawFn) -> Test:
    """Passes on every superset of one of a few sets; scores say how near a candidate is to one."""
    sets = draw(st.lists(st.frozensets(st.sampled_from(UNITS)), min_size=1, max_size=3))

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        covered = [len(needed & candidate) / max(len(needed), 1) for needed in sets]
        return Outcome(any(needed <= candidate for needed in sets), max(covered))

    return test


@st.composite
def arbitrary_tests(draw: st.DrawFn) -> Test:
    """Answers at random, but always the same to the same question, and passes on everything."""
    salt = draw(st.integers(0, 2**32))
    share = draw(st.sampled_from([0.1, 0.5, 0.9]))

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        value = zlib.crc32(f"{salt} {sorted(candidate)}".encode()) / 2**32
        return Outcome(candidate == FULL or value < share, 1.0 - value)

    return test


priors = st.none() | st.fixed_dictionaries({unit: st.floats(-1, 1) for unit in UNITS})


@algorithms
@few
@given(test=monotone_tests(), hint=priors)
def test_a_certified_answer_is_minimal_by_brute_force(
    algorithm: str, test: Test, hint: dict[Unit, float] | None
) -> None:
    result = search(algorithm, UNITS, test, prior=hint)
    answer = frozenset(result.units)
    assert test(answer, "").passed
    if result.certificate is not None:
        assert not any(test(answer - {unit}, "").passed for unit in answer)


@algorithms
@few
@given(test=arbitrary_tests(), hint=priors)
def test_the_answer_is_the_smallest_set_seen_to_pass(
    algorithm: str, test: Test, hint: dict[Unit, float] | None
) -> None:
    result = search(algorithm, UNITS, test, prior=hint)
    passed = [query.units for query in result.queries if query.outcome.passed]
    assert result.passed
    assert result.units in passed
    assert len(result.units) == min(map(len, passed))


@algorithms
@few
@given(test=arbitrary_tests())
def test_a_certificate_names_the_queries_that_prove_it(algorithm: str, test: Test) -> None:
    result = search(algorithm, UNITS, test)
    if result.certificate is None:
        return
    assert result.queries[result.certificate.passing].units == result.units
    assert set(result.certificate.failing) == set(result.units)
    for unit, index in result.certificate.failing.items():
        query = result.queries[index]
        assert not query.outcome.passed
        assert frozenset(query.units) == frozenset(result.units) - {unit}


@algorithms
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_query_and_resumed_it_goes_on_where_it_was(algorithm: str, kind: str) -> None:
    planted = KINDS[kind](layers(9), 3)
    hint = prior(planted, 0.5, 0)
    undisturbed = search(algorithm, planted.units, planted.test, prior=hint)
    for survived in a_few(len(undisturbed.queries)):
        written: list[Query] = []
        with pytest.raises(KeyboardInterrupt):
            search(
                algorithm,
                planted.units,
                killed_after(survived, planted.test),
                prior=hint,
                on_query=written.append,
            )
        assert written == list(undisturbed.queries[:survived])
        known = {frozenset(query.units): query.outcome for query in written}
        resumed = search(
            algorithm,
            planted.units,
            refusing(set(known), planted.test),
            prior=hint,
            known=known,
            on_query=written.append,
        )
        assert resumed == undisturbed
        assert written == list(undisturbed.queries)


@algorithms
def test_an_exhausted_budget_gives_the_best_so_far(algorithm: str) -> None:
    planted = KINDS["noisy"](layers(12), 1)
    whole = search(algorithm, planted.units, planted.test)
    for limit in a_few(len(whole.queries), first=1):
        result = search(algorithm, planted.units, planted.test, budget=Budget(queries=limit))
        assert result.stopped_by == "queries"
        assert result.queries == whole.queries[:limit]
        smallest = min(
            (query for query in result.queries if query.outcome.passed),
            key=lambda query: (len(query.units), -query.outcome.score),
        )
        assert result.units == smallest.units
        assert result.passed


@algorithms
def test_a_student_that_nothing_helps_is_told_after_one_query(algorithm: str) -> None:
    result = search(algorithm, UNITS, lambda candidate, label: Outcome(False, 0.1))
    assert not result.passed
    assert result.units == UNITS
    assert result.certificate is None
    assert len(result.queries) == 1


@algorithms
def test_a_student_that_needs_no_help_gets_none(algorithm: str) -> None:
    result = search(algorithm, UNITS, lambda candidate, label: Outcome(True, 1.0))
    assert result.passed
    assert result.units == ()


@algorithms
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_units(algorithm: str, n: int) -> None:
    units = layers(n)
    result = search(algorithm, units, lambda candidate, label: Outcome(units[-1] in candidate, 0.5))
    assert result.units == units[-1:]


@algorithms
def test_a_prior_may_leave_units_out_and_may_be_wrong(algorithm: str) -> None:
    planted = KINDS["scatter"](layers(12), 5)
    wrong = shuffled(planted.importance, 1)
    del wrong[planted.units[0]]
    result: SearchResult = search(algorithm, planted.units, planted.test, prior=wrong)
    assert planted.test(frozenset(result.units), "").passed


@algorithms
@pytest.mark.parametrize("kind", KINDS)
def test_units_inside_layers(algorithm: str, kind: str) -> None:
    planted = KINDS[kind](projections(4), 2)
    result = search(algorithm, planted.units, planted.test, prior=prior(planted, 0.5, 0))
    assert result.certificate is not None
    assert result.passed


@algorithms
def test_no_unit_needed_inside_layers(algorithm: str) -> None:
    assert search(algorithm, projections(3), lambda candidate, label: Outcome(True, 1.0)).units == ()


def a_few(count: int, first: int = 0) -> range:
    """Every query of a short search, some twenty of a long one."""
    return range(first, count, max(1, count // 20))


def killed_after(survived: int, test: Test) -> Test:
    left = iter(range(survived))

    def killed(candidate: frozenset[Unit], label: str = "") -> Outcome:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return test(candidate, label)

    return killed


def refusing(known: set[frozenset[Unit]], test: Test) -> Test:
    def refuse(candidate: frozenset[Unit], label: str = "") -> Outcome:
        assert candidate not in known, "asked again after a resume"
        return test(candidate, label)

    return refuse


def test_cdd_cuts_the_chunks_of_its_authors_artifact() -> None:
    """compute_size of abstract_cdd.py: round(−1 / ln .9) = 9, then ⌊size · (1 − 1/e)⌋."""
    units = layers(40)
    found = search("cdd", units, lambda chosen, label: Outcome(chosen == set(units), 0.0))
    sizes = [len(units) - len(query.units) for query in found.queries[1:]]
    assert list(dict.fromkeys(size for size in sizes if sizes.count(size) > 1)) == [9, 5, 3, 1]
