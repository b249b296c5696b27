"""Intervals and tests against published values."""

from __future__ import annotations

import pytest

from dapa_exp.evaluate.statistics import mcnemar, mean, rate


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    measure = rate(successes, n)
    assert measure.value == successes / n
    assert (measure.low, measure.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_rate_of_nothing_says_nothing() -> None:
    assert rate(0, 0).model_dump() == {"value": 0.0, "n": 0, "low": 0.0, "high": 1.0}


def test_exact_mcnemar() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(0, 5) == mcnemar(5, 0)
    # Binomial tail: 2 · (1 + 10 + 45) / 2¹⁰
    assert mcnemar(8, 2) == pytest.approx(112 / 1024)


def test_a_mean_has_the_interval_of_its_standard_error() -> None:
    measure = mean([1.0, 2.0, 3.0, 4.0])
    half = 1.959964 * (5 / 3) ** 0.5 / 2
    assert (measure.value, measure.n) == (2.5, 4)
    assert (measure.low, measure.high) == (pytest.approx(2.5 - half), pytest.approx(2.5 + half))
    assert mean([7.0]).low is None
