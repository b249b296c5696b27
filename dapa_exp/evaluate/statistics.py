"""Intervals and tests. Every rate carries a Wilson 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, norm

from dapa_exp.record.schema import Measure

CONFIDENCE = 0.95


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
