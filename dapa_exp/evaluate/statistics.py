"""Intervals, tests and power. An interval is 95 %, and never of zero width."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, binom, binomtest, norm, t

from dapa_exp.evaluate.grouped import grouped_share
from dapa_exp.record.evaluation import Clusters
from dapa_exp.record.measure import Measure

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
POWER = 0.8
EXACT_GROUPS = 14
"""Up to this many groups, the sign test tries all signs. With more groups, it draws `DRAWS` of them."""
DRAWS = 20_000
Z = float(norm.ppf(0.5 + CONFIDENCE / 2))
NO_SPREAD = 1e-12
"""A standard error below this one is due to rounding: groups with the same mean say nothing about the spread."""


class Bounds(NamedTuple):
    """An interval of a share or of a difference of shares."""

    low: float
    high: float


def rate(successes: int, n: int) -> Measure:
    """A share with its Wilson score interval (Wilson 1927). For n = 0 it is 0, with the interval from 0 to 1."""
    if n == 0:
        return Measure(value=0.0, n=0, low=0.0, high=1.0)
    low, high = wilson(successes / n, n)
    return Measure(value=successes / n, n=n, low=low, high=high)


def wilson(share: float, n: float, z: float = Z) -> Bounds:
    """Wilson's score interval of a share of n rows, which may be an effective number of rows."""
    centre, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return Bounds(0.0 if share == 0 else max(0.0, low), 1.0 if share == 1 else min(1.0, high))


def mean(values: Sequence[float]) -> Measure:
    """A mean with Student's t interval. There is no interval for fewer than two values, or if all are equal.

    Equal values say nothing about the spread of further values, so they give no interval.
    """
    array = np.asarray(values, dtype=np.float64)
    centre = float(array.mean())
    if len(array) < 2 or np.ptp(array) == 0:
        return Measure(value=centre, n=len(array))
    half = float(_quantile(len(array)) * array.std(ddof=1) / np.sqrt(len(array)))
    return Measure(value=centre, n=len(array), low=centre - half, high=centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value of paired verdicts that differ (McNemar 1947; binomial form)."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Measure:
    """Our share minus theirs on the same rows, with Newcombe's interval for paired proportions.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: the two shares' Wilson intervals, combined with the
    correlation of the rows. Its width is never zero.
    """
    if not ours:
        return Measure(value=0.0, n=0)
    low, high = newcombe(table_of(ours, theirs))
    return Measure(value=_share(ours) - _share(theirs), n=len(ours), low=low, high=high)


def clustered_rate(successes: Sequence[bool], groups: Sequence[Hashable]) -> Clusters | None:
    """A share's interval if the rows of a group are dependent; None with fewer than two groups.

    The interval is the central 95 % of the share's posterior (`dapa_exp.evaluate.grouped`), widened to contain the
    observed share.
    """
    if len(set(groups)) < 2:
        return None
    effect, share = design_effect([float(s) for s in successes], groups), _share(successes)
    posterior = grouped_share(successes, groups, effect)
    low = min(share, posterior.quantile(LEVEL / 2)) if share else 0.0
    high = max(share, posterior.quantile(1 - LEVEL / 2)) if share < 1 else 1.0
    return Clusters(groups=len(set(groups)), design_effect=effect, low=low, high=high)


def clustered_difference(ours: Sequence[bool], theirs: Sequence[bool], groups: Sequence[Hashable]) -> Clusters | None:
    """A paired difference's interval and p-value if the rows of a group are dependent; None with fewer than two groups.

    The interval is Newcombe's at the effective number of rows, n / design effect, with the quantile of Student's t
    with groups − 1 degrees of freedom (Korn and Graubard 1998, Survey Methodology 24:193; Dean and Pagano 2015,
    Journal of Survey Statistics and Methodology 3:484). The p-value is that of a sign-flip test, which flips the signs
    of whole groups' differences: exact for up to 14 groups that differ, else from 20,000 draws.
    """
    if len(set(groups)) < 2:
        return None
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    low, high = difference_by_group(ours, theirs, groups)
    return Clusters(
        groups=len(set(groups)),
        design_effect=design_effect(differences, groups),
        low=low,
        high=high,
        p_value=sign_flip(_sums(differences, groups)),
    )


def difference_by_group(ours: Sequence[bool], theirs: Sequence[bool], groups: Sequence[Hashable]) -> Bounds:
    """The interval of `clustered_difference`, without its test."""
    effect = design_effect([float(a) - float(b) for a, b in zip(ours, theirs, strict=True)], groups)
    return newcombe(table_of(ours, theirs), effect, _quantile(len(set(groups))))


def design_effect(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """The factor by which the variance of the mean exceeds that of independent rows; at least 1.

    If all values are equal, it cannot be estimated. Then it is Σ m² / n for groups of m rows: the design effect if the
    rows of a group are always equal.
    """
    array, n = np.asarray(values, dtype=np.float64), len(values)
    if np.ptp(array) == 0:
        sizes = _sums([1.0] * n, groups)
        return float((sizes**2).sum() / n)
    sums = _sums(list(array - array.mean()), groups)
    by_group = len(sums) / (len(sums) - 1) * float((sums**2).sum()) / n**2
    by_row = float(array.var(ddof=1)) / n
    return max(1.0, by_group / by_row)


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p-value of the sign-flip test: under the null, each difference is as likely negative as positive."""
    moved = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(moved):
        return 1.0
    seen, exact = abs(moved.sum()) - 1e-9, len(moved) <= EXACT_GROUPS
    if exact:
        signs = 1 - 2 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (DRAWS, len(moved)))
    extreme = int((np.abs(signs @ moved) >= seen).sum())
    return extreme / len(signs) if exact else (extreme + 1) / (DRAWS + 1)


def detectable_gain(share: float, n: int, level: float = LEVEL) -> float | None:
    """The smallest gain over a share that the exact McNemar test on n rows finds with 80 % power.

    It is computed for a gain without lost rows: each row is gained with the same probability, and the test rejects once
    its p-value is at most `level`. Lost rows reduce the power. None if even a share of 1 would not be found.
    """
    needed = 1
    while mcnemar(needed, 0) > level:
        needed += 1
    if n < needed or binom.sf(needed - 1, n, 1 - share) < POWER:
        return None
    return float(brentq(lambda gain: binom.sf(needed - 1, n, gain) - POWER, 0.0, 1.0))


def probability_above(successes: int, n: int, threshold: float) -> float:
    """P(share ≥ threshold) given n rows: the upper tail of Beta(½ + successes, ½ + failures), Jeffreys' prior."""
    return float(beta.sf(threshold, successes + 0.5, n - successes + 0.5))


def clustered_probability_above(
    successes: Sequence[bool], groups: Sequence[Hashable], threshold: float
) -> float | None:
    """`probability_above` if the rows of a group are dependent; None with fewer than two groups."""
    if len(set(groups)) < 2:
        return None
    effect = design_effect([float(s) for s in successes], groups)
    return grouped_share(successes, groups, effect).above(threshold)


class Losses(NamedTuple):
    """Negative log-likelihoods of one text by one model, summed by window, and how many tokens each sum holds."""

    sums: Sequence[float]
    counts: Sequence[int]


class Change(NamedTuple):
    """A difference, and the p-value of the test that it is zero. The p-value is None if there are too few windows."""

    difference: Measure
    p_value: float | None


def perplexity_change(ours: Losses, theirs: Losses) -> Change:
    """Our perplexity minus theirs on the same windows of text, with a paired t interval and test over the windows.

    Delta method: each perplexity is the exponential of a ratio estimator. There is no interval for fewer than two
    windows, or if the models are equal on all windows.
    """
    counts = np.asarray(theirs.counts, dtype=np.float64)
    total, windows = counts.sum(), len(counts)
    residuals, values = np.zeros(windows), []
    for sign, sums in ((1, np.asarray(ours.sums)), (-1, np.asarray(theirs.sums))):
        nll = sums.sum() / total
        values.append(float(np.exp(nll)))
        residuals = residuals + sign * np.exp(nll) * (sums - nll * counts) / total
    difference = values[0] - values[1]
    error = sqrt(windows / (windows - 1) * float((residuals**2).sum())) if windows > 1 else 0.0
    if not error:
        return Change(Measure(value=difference, n=windows), None)
    half = _quantile(windows) * error
    measure = Measure(value=difference, n=windows, low=difference - half, high=difference + half)
    return Change(measure, float(2 * t.sf(abs(difference) / error, windows - 1)))


def difference_over_groups(values: Sequence[float], groups: Sequence[Hashable], floor: float = 0.0) -> Change:
    """A mean over pairs, with an interval and a test for pairs that depend on each other (one teacher: one group).

    The standard error is cluster-robust, with Student's t on groups − 1 degrees of freedom. With a single group, pairs
    count as independent. `floor` is the standard error that follows from the pairs' own rows; the result is never
    smaller. n counts pairs. There is no interval for fewer than two pairs.
    """
    array = np.asarray(values, dtype=np.float64)
    centre, n = float(array.mean()), len(array)
    if n < 2:
        return Change(Measure(value=centre, n=n), None)
    sums = _sums(list(array - centre), groups if len(set(groups)) > 1 else range(n))
    error = max(floor, sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / n)
    if error < NO_SPREAD:
        return Change(Measure(value=centre, n=n), None)
    half = _quantile(len(sums)) * error
    p_value = float(2 * t.sf(abs(centre) / error, len(sums) - 1))
    return Change(Measure(value=centre, n=n, low=centre - half, high=centre + half), p_value)


def mean_over_groups(values: Sequence[float], groups: Sequence[Hashable], floor: float = 0.0) -> Measure:
    """The same as `difference_over_groups` for values that are not differences, so without a test."""
    return difference_over_groups(values, groups, floor).difference


class PairedTable(NamedTuple):
    """Counts of rows, by the outcomes of two models."""

    both: int
    gained: int
    lost: int
    neither: int


def table_of(ours: Sequence[bool], theirs: Sequence[bool]) -> PairedTable:
    """How many rows hold for both models, for ours only, for theirs only, and for neither."""
    pairs = [(bool(a), bool(b)) for a, b in zip(ours, theirs, strict=True)]
    return PairedTable(*(pairs.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))))


def newcombe(table: PairedTable, effect: float = 1.0, z: float = Z) -> Bounds:
    """The interval of our share minus theirs: Newcombe 1998, method 10, with his continuity correction.

    `effect` is the design effect: the effective number of rows is sum(table) / effect.
    """
    both, gained, lost, neither = (count / effect for count in table)
    n = sum(table) / effect
    p, q = (both + gained) / n, (both + lost) / n
    (p_low, p_high), (q_low, q_high) = wilson(p, n, z), wilson(q, n, z)
    product = both * neither - gained * lost
    if product > 0:
        product = max(0.0, product - n / 2)  # Newcombe's continuity correction
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    phi = product / sqrt(margins) if margins > 0 else 0.0

    def reach(one: float, other: float) -> float:
        return sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    low, high = p - q - reach(p - p_low, q_high - q), p - q + reach(p_high - p, q - q_low)
    return Bounds(max(-1.0, low), min(1.0, high))


def _share(rows: Sequence[bool]) -> float:
    return sum(map(bool, rows)) / len(rows)


def _quantile(groups: int) -> float:
    """The quantile of Student's t for a two-sided interval, with groups − 1 degrees of freedom."""
    return float(t.ppf(0.5 + CONFIDENCE / 2, groups - 1))


def _sums(values: Sequence[float], groups: Sequence[Hashable]) -> np.ndarray:
    """The sum of each group's values, in the order in which the groups first appear."""
    places = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return np.bincount([places[group] for group in groups], weights=values, minlength=len(places))
