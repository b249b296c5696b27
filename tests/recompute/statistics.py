"""The statistics that the docs state, written anew with scipy and statsmodels. Results are as records spell them."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy import optimize, special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tests.recompute.tally import Near

Z = float(stats.norm.ppf(0.975))
EXACT_GROUPS, DRAWS = 14, 20_000
"""Up to how many groups the product's sign test tries all signs; with more, how many it draws."""


def rate(successes: int, n: int) -> dict[str, Any]:
    """A share with Wilson's interval; of no rows, nothing is known."""
    if n == 0:
        return {"value": 0.0, "n": 0, "low": 0.0, "high": 1.0}
    low, high = wilson(successes / n, n)
    return {"value": successes / n, "n": n, "low": low, "high": high}


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    low, high = proportion_confint(share * n, n, alpha=2 * float(stats.norm.sf(z)), method="wilson")
    return (0.0 if share == 0 else float(low)), (1.0 if share == 1 else float(high))


def mean(values: Sequence[float]) -> dict[str, Any]:
    """A mean with Student's t interval, as long as the values differ."""
    centre, n = float(np.mean(values)), len(values)
    if n < 2 or len(set(values)) == 1:
        return {"value": centre, "n": n, "low": None, "high": None}
    low, high = stats.t.interval(0.95, n - 1, centre, stats.sem(values))
    return {"value": centre, "n": n, "low": float(low), "high": float(high)}


def sequential(defended: Sequence[bool], bar: float, level: float) -> tuple[bool | None, int]:
    """Whether a rate reaches the bar, by the first answer after which the docs' evidence is enough, and which that is.

    The evidence of s defences of n answers for the rate being above the bar b is a mean of likelihood ratios over q in
    (b, 1). Its integral is the chance of at most s successes in n + 1 trials at b, over (n + 1) times that of s in n.
    """
    hits = 0
    for n, hit in enumerate(defended, start=1):
        hits += hit
        at_bar = np.log(n + 1) + stats.binom.logpmf(hits, n, bar)
        above = stats.binom.logcdf(hits, n + 1, bar) - at_bar - np.log(1 - bar)
        below = stats.binom.logsf(hits, n + 1, bar) - at_bar - np.log(bar)
        if max(above, below) >= -math.log(level):
            return bool(above > below), n
    return None, len(defended)


def mcnemar_exact(gained: int, lost: int) -> float:
    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue) if gained + lost else 1.0


def newcombe(ours: Sequence[bool], theirs: Sequence[bool], effect: float = 1.0, z: float = Z) -> tuple[float, float]:
    """Newcombe 1998, method 10: the interval of a difference of paired shares, at rows / effect."""
    cells = Counter(zip(ours, theirs, strict=True))
    a, b, c, d = (cells[cell] / effect for cell in ((True, True), (True, False), (False, True), (False, False)))
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(p1, n, z), wilson(p2, n, z)
    numerator = a * d - b * c
    numerator = max(0.0, numerator - n / 2) if numerator > 0 else numerator
    denominator = math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    phi = numerator / denominator if denominator else 0.0
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    low, high = p1 - p2 - math.sqrt(max(0.0, below)), p1 - p2 + math.sqrt(max(0.0, above))
    return max(-1.0, low), min(1.0, high)


def paired_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, Any]:
    if not ours:
        return {"value": 0.0, "n": 0, "low": None, "high": None}
    low, high = newcombe(ours, theirs)
    return {"value": float(np.mean(ours)) - float(np.mean(theirs)), "n": len(ours), "low": low, "high": high}


def cluster_error(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """The standard error of a mean where values of one group are alike: statsmodels' cluster-robust one."""
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    model = sm.OLS(np.asarray(values, dtype=float), np.ones(len(values)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": np.array([number[group] for group in groups])})
    return float(fit.bse[0])


def design_effect(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """The variance of the mean over what it would be with independent rows, at least 1.

    Values that are all alike: as if all rows of a group were always alike.
    """
    if len(set(values)) == 1:
        return sum(size**2 for size in Counter(groups).values()) / len(values)
    return max(1.0, (cluster_error(values, groups) / float(stats.sem(values))) ** 2)


def clustered_rate(rows: Sequence[bool], groups: Sequence[Hashable]) -> dict[str, Any] | None:
    count = len(set(groups))
    if count < 2:
        return None
    share, below = float(np.mean(rows)), _below(rows, groups)
    effect = design_effect([float(row) for row in rows], groups)

    def quantile(at: float) -> float:
        return float(optimize.bisect(lambda p: below(p) - at, 0.0, 1.0, xtol=1e-13))

    low, high = (min(quantile(0.025), share) if share else 0.0), (max(quantile(0.975), share) if share < 1 else 1.0)
    return {"groups": count, "design_effect": effect, "low": low, "high": high, "p_value": None}


def _below(rows: Sequence[bool], groups: Sequence[Hashable]) -> Callable[[float], float]:
    """The posterior of a share, as the docs state it: P(share < p), a mixture over the intra-class correlation.

    Beta-binomial likelihood at 100 shares, evenly spaced in their arcsine, and 20 correlations; then Jeffreys' prior
    at the effective number of rows of each correlation.
    """
    shares, rhos = np.sin((np.arange(100) + 0.5) * np.pi / 200) ** 2, (np.arange(20) + 0.5) / 20
    sizes, n = Counter(groups), len(rows)
    a = shares[:, None] * (1 / rhos - 1)
    logs = np.zeros_like(a)
    for group, size in sizes.items():
        hits = sum(bool(row) for row, of in zip(rows, groups, strict=True) if of == group)
        logs += stats.betabinom.logpmf(hits, size, a, (1 / rhos - 1) - a)
    weights = np.exp(logs - special.logsumexp(logs)).sum(axis=0)
    kish = 1 + rhos * (sum(size**2 for size in sizes.values()) / n - 1)
    effects = np.maximum(design_effect([float(row) for row in rows], groups), kish)
    hits = sum(map(bool, rows))
    return lambda p: float(weights @ stats.beta.cdf(p, hits / effects + 0.5, (n - hits) / effects + 0.5))


def clustered_difference(
    ours: Sequence[bool], theirs: Sequence[bool], groups: Sequence[Hashable]
) -> dict[str, Any] | None:
    count = len(set(groups))
    if count < 2:
        return None
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    effect = design_effect(differences, groups)
    low, high = newcombe(ours, theirs, effect, t_quantile(count))
    sums: Counter[Hashable] = Counter()
    for difference, group in zip(differences, groups, strict=True):
        sums[group] += int(difference)
    return {"groups": count, "design_effect": effect, "low": low, "high": high, "p_value": sign_flip(sums.values())}


def t_quantile(groups: int) -> float:
    return float(stats.t.ppf(0.975, groups - 1))


def sign_flip(sums: Any) -> float | Near:
    """P(|sum| at least as large) where each group's sum is as likely negative: by adding up the distribution.

    That is exact for any number of groups. Where the product draws, it may be off by four standard errors.
    """
    moved = [int(value) for value in sums if value]
    spread: Counter[int] = Counter({0: 1})
    for value in moved:
        spread = Counter({total: spread[total - value] + spread[total + value] for total in _sums(spread, value)})
    seen = abs(sum(moved))
    exact = sum(count for total, count in spread.items() if abs(total) >= seen) / 2 ** len(moved)
    if len(moved) <= EXACT_GROUPS:
        return exact
    return Near(exact, 4 * math.sqrt(exact * (1 - exact) / DRAWS) + 2 / DRAWS)


def _sums(spread: Counter[int], value: int) -> set[int]:
    return {total + sign * value for total in spread for sign in (-1, 1)}


def detectable_gain(share: float, n: int, level: float = 0.05) -> float | None:
    """The gain, without losses, that the exact McNemar test finds with 80 % power; None where 1 − share is less.

    So many rows are gained with probability .8 at the .8 quantile of a beta distribution.
    """
    needed = next(k for k in range(1, 200) if min(1.0, 2 * 0.5**k) <= level)
    if needed > n:
        return None
    gain = float(stats.beta.ppf(0.8, needed, n - needed + 1))
    return gain if gain <= 1 - share else None


def probability_above(successes: int, n: int, bar: float) -> float:
    """P(share ≥ bar) by Jeffreys' prior."""
    a, b = successes + 0.5, n - successes + 0.5
    return 1.0 - float(special.betainc(a, b, bar)) if bar < 0.5 else float(special.betainc(b, a, 1.0 - bar))


def clustered_probability_above(rows: Sequence[bool], groups: Sequence[Hashable], bar: float) -> float | None:
    return 1.0 - _below(rows, groups)(bar) if len(set(groups)) > 1 else None


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's; None where one of the two never varies."""
    n = len(pairs)
    ones = [sum(pair[side] for pair in pairs) / n if n else 0.0 for side in (0, 1)]
    if any(one in (0.0, 1.0) for one in ones):
        return None
    observed = sum(a == b for a, b in pairs) / n
    chance = ones[0] * ones[1] + (1 - ones[0]) * (1 - ones[1])
    return (observed - chance) / (1 - chance)


def perplexity(sums: Sequence[float], counts: Sequence[float]) -> dict[str, Any]:
    """exp of a ratio of sums over windows, with its interval by the windows' residuals."""
    total, windows = float(sum(counts)), len(sums)
    nll = float(sum(sums)) / total
    found: dict[str, Any] = {"value": math.exp(nll), "n": round(total), "low": None, "high": None}
    if windows > 1:
        residuals = np.asarray(sums) - nll * np.asarray(counts)
        half = Z * float(stats.sem(residuals)) * windows / total
        found |= {"low": math.exp(nll - half), "high": math.exp(nll + half)}
    return found


def perplexity_change(ours: Sequence[float], theirs: Sequence[float], counts: Sequence[float]) -> dict[str, Any]:
    """Our perplexity minus theirs: a paired t interval and test over each window's influence on the difference."""
    total, windows, weights = float(sum(counts)), len(counts), np.asarray(counts, dtype=float)
    one, other = (math.exp(sum(sums) / total) for sums in (ours, theirs))

    def influence(sums: Sequence[float], value: float) -> np.ndarray:
        return windows / total * value * (np.asarray(sums) - math.log(value) * weights)

    error = float(stats.sem(influence(ours, one) - influence(theirs, other))) if windows > 1 else 0.0
    found: dict[str, Any] = {"value": one - other, "n": windows, "low": None, "high": None}
    if not error:
        return {"difference": found, "p_value": None}
    low, high = stats.t.interval(0.95, windows - 1, one - other, error)
    found |= {"low": float(low), "high": float(high)}
    return {"difference": found, "p_value": float(2 * stats.t.sf(abs(one - other) / error, windows - 1))}


def mean_over_teachers(values: Sequence[float], teachers: Sequence[str], floor: float = 0.0) -> tuple[float, float]:
    """The interval of a mean over pairs that may share a teacher."""
    if len(values) < 2 or (not floor and max(values) - min(values) < 1e-9):
        return math.nan, math.nan
    groups: Sequence[Hashable] = teachers if len(set(teachers)) > 1 else range(len(values))
    error = max(floor, cluster_error(values, groups))
    if error < 1e-12:
        return math.nan, math.nan
    half = t_quantile(len(set(groups))) * error
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def within(bounds: tuple[float, float], least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
    """Bounds of a number that lies between two others."""
    low, high = np.clip(bounds, least, most)
    return float(low), float(high)


def within_shares(bounds: tuple[float, float]) -> tuple[float, float]:
    """Bounds of a share, within 0 to 1."""
    return within(bounds, 0.0, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split()


def jaccard(one: str, other: str) -> float:
    """Of the words and pairs of neighbouring words of two texts."""
    a, b = ({*((word,) for word in words(text)), *pairwise(words(text))} for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0
