"""Intervals, tests and power. Every rate carries a Wilson 95 % interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import beta, binomtest, bootstrap, norm
from statsmodels.stats.power import NormalIndPower

from dapa_exp.record.schema import Measure

CONFIDENCE = 0.95
RESAMPLES = 2000
POWER = 0.8


def rate(successes: int, n: int) -> Measure:
    """A share with its Wilson score interval (Wilson 1927). With n = 0 nothing is known: 0 within 0 to 1."""
    if n == 0:
        return Measure(value=0.0, n=0, low=0.0, high=1.0)
    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Measure(value=successes / n, n=n, low=float(interval.low), high=float(interval.high))


def mean(values: Sequence[float]) -> Measure:
    """A mean with its normal interval from the standard error; none for fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    centre = float(array.mean())
    if len(array) < 2:
        return Measure(value=centre, n=len(array))
    half = float(norm.ppf(0.5 + CONFIDENCE / 2) * array.std(ddof=1) / np.sqrt(len(array)))
    return Measure(value=centre, n=len(array), low=centre - half, high=centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value of paired verdicts that differ (McNemar 1947; binomial form)."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_difference(differences: Sequence[float], clusters: Sequence[Hashable]) -> Measure:
    """The mean of row-by-row differences, with a percentile bootstrap interval over clusters of rows.

    Rows of one cluster (a category of prompts) are drawn together, since they are not independent
    (Miller 2024, arXiv 2411.00640, section 2.2). There is no interval with fewer than two clusters.
    """
    groups = {name: [d for d, c in zip(differences, clusters, strict=True) if c == name] for name in clusters}
    sums, counts = (np.array([f(rows) for rows in groups.values()], dtype=np.float64) for f in (sum, len))
    value, n = float(np.mean(differences)) if differences else 0.0, len(differences)
    if len(groups) < 2:
        return Measure(value=value, n=n)

    def ratio(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
        share: np.ndarray = sums.sum(axis) / counts.sum(axis)
        return share

    interval = bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Measure(value=value, n=n, low=float(interval.low), high=float(interval.high))


def detectable_gain(share: float, n: int) -> float | None:
    """The smallest gain over a share that n rows show with 80 % power, two-sided at 5 %.

    By the normal approximation to two independent samples (Cohen 1988, chapter 6: h = 2 asin √p₂ −
    2 asin √p₁), which is cautious here: our rows are paired. None where even a share of 1 would not do.
    """
    if n == 0:
        return None
    h = NormalIndPower().solve_power(nobs1=n, alpha=1 - CONFIDENCE, power=POWER)
    angle = np.arcsin(np.sqrt(share)) + h / 2
    return float(np.sin(angle) ** 2 - share) if angle <= np.pi / 2 else None


def probability_above(successes: int, n: int, threshold: float) -> float:
    """P(share ≥ threshold) given n rows: the upper tail of Beta(½ + successes, ½ + failures), Jeffreys' prior."""
    return float(beta.sf(threshold, successes + 0.5, n - successes + 0.5))
