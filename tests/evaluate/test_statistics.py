"""Intervals and tests against published values."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from dapa_exp.evaluate.statistics import (
    Losses,
    clustered_difference,
    clustered_probability_above,
    clustered_rate,
    design_effect,
    detectable_gain,
    mcnemar,
    mean,
    mean_over_groups,
    paired_difference,
    perplexity_change,
    probability_above,
    rate,
    sign_flip,
)
from tests.benchmarks.coverage import simulate

PAIRS = [(True, True), (True, False), (False, True), (False, False)]


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


def test_a_mean_has_students_interval() -> None:
    measure = mean([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * (5 / 3) ** 0.5 / 2  # the 97.5 % quantile of Student's t with 3 degrees of freedom
    assert (measure.value, measure.n) == (2.5, 4)
    assert (measure.low, measure.high) == (pytest.approx(2.5 - half), pytest.approx(2.5 + half))
    assert mean([7.0]).low is None


def test_values_that_are_all_alike_give_no_interval() -> None:
    assert (mean([1.0, 1.0]).low, mean([1.0, 1.0]).high) == (None, None)


def test_a_paired_difference_has_newcombes_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17:2635, method 10, by (both, gained, lost, neither)
    for cells, low, high in [
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((20, 12, 2, 16), 0.0562, 0.3290),
    ]:
        rows = [pair for pair, count in zip(PAIRS, cells, strict=True) for _ in range(count)]
        ours, theirs = ([row[i] for row in rows] for i in (0, 1))
        measure = paired_difference(ours, theirs)
        assert (measure.low, measure.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


@pytest.mark.parametrize("n", [2, 20, 128])
@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (True, True), (False, False)])
def test_rows_that_are_all_alike_are_never_certain(n: int, ours: bool, theirs: bool) -> None:
    """A bootstrap of such rows is [1, 1] or [0, 0], at n = 2 too."""
    measure = paired_difference([ours] * n, [theirs] * n)
    clusters = clustered_difference([ours] * n, [theirs] * n, [i // 2 for i in range(n)])
    assert measure.low is not None
    assert measure.high is not None
    assert measure.high - measure.low > 0.02
    if clusters:
        assert clusters.low < measure.low or measure.low == -1
        assert clusters.high - clusters.low > measure.high - measure.low


def test_rows_of_a_group_that_always_agree_are_worth_one_row() -> None:
    rows = [group % 2 == 0 for group in range(20) for _ in range(4)]
    groups = [group for group in range(20) for _ in range(4)]
    clusters = clustered_rate(rows, groups)
    assert clusters is not None
    assert clusters.groups == 20
    assert clusters.design_effect == pytest.approx(4.0, rel=0.06)
    by_row = rate(40, 80)
    assert clusters.high - clusters.low > 1.9 * (by_row.high or 0) - 1.9 * (by_row.low or 0)


def test_one_group_says_nothing_about_others() -> None:
    assert clustered_rate([True, False], ["fraud", "fraud"]) is None
    assert clustered_difference([True, False], [False, False], ["fraud", "fraud"]) is None


def test_independent_rows_have_no_design_effect() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.random(3000) < 0.4).tolist()
    assert design_effect(rows, [i // 3 for i in range(3000)]) < 1.15


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("n", [32, 128, 512])
def test_clustered_intervals_of_a_rate_cover_it(n: int, share: float) -> None:
    """Groups of 3 rows with an intra-class correlation of .45, as in the miniatures: naive intervals cover 84 %."""
    rng, draws, icc = np.random.default_rng(1), 300, 0.45
    groups = [i // 3 for i in range(n)]
    covered = 0
    for _ in range(draws):
        rates = rng.beta(share * (1 - icc) / icc, (1 - share) * (1 - icc) / icc, n // 3 + 1)
        interval = clustered_rate((rng.random(n) < rates[groups]).tolist(), groups)
        assert interval is not None
        covered += interval.low <= share <= interval.high
    assert 0.91 <= covered / draws <= 1.0


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_clustered_intervals_cover_where_groups_differ_in_size_and_some_are_all_alike(share: float) -> None:
    """No beta distribution draws these groups. An interval from one estimated design effect covers 87 to 93 %."""
    rng, draws, sizes = np.random.default_rng(2), 200, [1, 1, 1, 2, 2, 3, 3, 5, 5, 8, 8, 13, 20, 30]
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    covered = 0
    for _ in range(draws):
        alike, drawn = rng.random(len(sizes)) < 0.3, rng.random(len(sizes)) < share
        rates = np.where(alike, drawn, share)
        interval = clustered_rate((rng.random(len(groups)) < rates[groups]).tolist(), groups)
        assert interval is not None
        covered += interval.low <= share <= interval.high
    assert covered / draws >= 0.94


def test_groups_are_tested_by_their_signs() -> None:
    assert sign_flip([1.0] * 5) == pytest.approx(2 / 32)
    assert sign_flip([3.0, -1.0]) == pytest.approx(1.0)
    assert sign_flip([]) == 1.0
    assert sign_flip([1.0] * 40) < 1e-3
    # Two groups that moved together are one coin each, however many rows they have
    clusters = clustered_difference([True] * 40, [False] * 40, [i // 20 for i in range(40)])
    assert clusters is not None
    assert clusters.p_value == 0.5
    assert mcnemar(40, 0) < 1e-11


def test_the_detectable_gain_is_that_of_the_exact_test() -> None:
    """Six gains without a loss are needed for p ≤ .05; of 128 rows, 80 % power for that takes 6.1 points."""
    assert detectable_gain(0.0, 128) == pytest.approx(0.061, abs=5e-4)
    assert detectable_gain(0.0, 128, level=0.05 / 17) == pytest.approx(0.097, abs=1e-3)
    rng = np.random.default_rng(0)
    for gain, power in ((0.0303, 0.19), (0.061, 0.80)):
        found = [mcnemar(int(k), 0) < 0.05 for k in rng.binomial(128, gain, 2000)]
        assert np.mean(found) == pytest.approx(power, abs=0.03)
    assert detectable_gain(0.99, 20) is None
    assert detectable_gain(0.5, 0) is None


def test_a_change_of_perplexity_is_paired_by_window() -> None:
    """Windows differ much more from each other than the models do on one of them."""
    counts, easy = [100] * 12, [50.0 + 30 * i for i in range(12)]
    theirs = Losses(easy, counts)
    ours = Losses([loss + 3 + 0.2 * (i % 2) for i, loss in enumerate(easy)], counts)
    measure, p_value = perplexity_change(ours, theirs)
    nll = sum(easy) / 1200
    assert measure.value == pytest.approx(math.exp(nll + 0.031) - math.exp(nll))
    assert (measure.low or 0) > 0
    assert p_value is not None
    assert p_value < 0.01
    assert perplexity_change(theirs, theirs).p_value is None


def test_a_mean_over_pairs_knows_that_some_share_a_teacher() -> None:
    values, teachers = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], list("aaabbb")
    together, apart = mean_over_groups(values, teachers), mean_over_groups(values, range(6))
    assert together.value == apart.value == 0.5
    assert (together.high or 0) - (together.low or 0) > 5 * ((apart.high or 0) - (apart.low or 0))
    alike = mean_over_groups([1.0, 1.0], ["a", "b"], floor=0.01)
    assert alike.low is not None
    assert alike.low < 0.9
    assert mean_over_groups([1.0], ["a"]).low is None
    assert mean_over_groups([0.1 + 0.2, 0.0, 0.3, 0.0], list("aabb")).low is None, "groups alike but for rounding"


def test_probability_of_being_above_a_threshold() -> None:
    assert probability_above(0, 0, 0.5) == pytest.approx(0.5)
    assert probability_above(96, 128, 0.5) > 0.999
    # Beta(1/2, 1/2): P(p >= x) = 1 - 2/pi asin sqrt x
    assert probability_above(0, 0, 0.25) == pytest.approx(2 / 3)


def test_the_probability_by_group_is_less_sure() -> None:
    rows = [True] * 118 + [False] * 10
    by_group = clustered_probability_above(rows, [i // 16 for i in range(128)], 0.9)
    assert probability_above(118, 128, 0.9) == pytest.approx(0.81, abs=0.02)
    assert by_group is not None
    assert 0.5 < by_group < 0.75


def test_the_coverage_benchmark_runs() -> None:
    cells = list(simulate(3, (32,)))
    assert {cell.what for cell in cells} == {"rate", "gain", "P(DSR ≥ bar)"}
    assert all(0 <= coverage <= 1 for cell in cells for coverage in (cell.by_group, cell.by_row))


def test_a_probability_by_group_is_never_above_one() -> None:
    draw = random.Random(2)
    for _ in range(20):
        groups = [draw.randrange(14) for _ in range(16)]
        found = clustered_probability_above([True] * 16, groups, 0.0)
        assert found is not None
        assert 1.0 - 1e-9 < found <= 1.0
