"""Intervals and tests against published values."""

from __future__ import annotations

import pytest

from dapa_exp.evaluate.statistics import detectable_gain, mcnemar, mean, paired_difference, probability_above, rate


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


def test_a_paired_difference_draws_whole_clusters() -> None:
    """Rows that always agree within a category are worth one row a category, not one each."""
    differences = [1.0] * 20 + [0.0] * 20 + [1.0] * 20 + [0.0] * 20
    by_row = paired_difference(differences, list(range(80)))
    by_category = paired_difference(differences, [i // 20 for i in range(80)])
    assert by_row.value == by_category.value == 0.5
    assert by_row.n == by_category.n == 80
    assert (by_category.low, by_category.high) == (0.0, 1.0)
    assert (by_row.low, by_row.high) == (pytest.approx(0.39, abs=0.02), pytest.approx(0.61, abs=0.02))
    assert paired_difference(differences, [i // 20 for i in range(80)]) == by_category


def test_one_cluster_has_no_interval() -> None:
    measure = paired_difference([1.0, 0.0], ["fraud", "fraud"])
    assert (measure.value, measure.low, measure.high) == (0.5, None, None)


def test_the_detectable_gain_is_that_of_a_two_sample_test() -> None:
    # Cohen (1988), table 6.4.1: n = 392 detects h = .20 with power .80 at two-sided .05; from a share of .5, h = .20
    # is a share of sin²(asin √.5 + .1) = .5993
    assert detectable_gain(0.5, 392) == pytest.approx(0.0993, abs=5e-4)
    assert detectable_gain(0.99, 20) is None
    assert detectable_gain(0.5, 0) is None


def test_probability_of_being_above_a_threshold() -> None:
    assert probability_above(0, 0, 0.5) == pytest.approx(0.5)
    assert probability_above(96, 128, 0.5) > 0.999
    # Beta(1/2, 1/2): P(p >= x) = 1 - 2/pi asin sqrt x
    assert probability_above(0, 0, 0.25) == pytest.approx(2 / 3)
