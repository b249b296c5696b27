"""The posterior of a share whose rows come in dependent groups, for intervals and for P(share ≥ bar).

With few groups, or few successes or failures, the intra-class correlation ρ cannot be estimated well. So ρ has a
posterior, too: that of a beta-binomial model (each group's share is drawn from a beta distribution), on a grid, with
flat priors of ρ and of arcsin √share. Given ρ, the n rows count as n / design effect independent rows, and the share's
posterior uses Jeffreys' prior. The design effect is 1 + (Σ m² / n − 1)·ρ for groups of m rows (Kish 1965), or the
estimated one if that is larger: groups that fit no beta distribution must not make the interval too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betaln

CORRELATIONS = (np.arange(20) + 0.5) / 20
SHARES = np.sin((np.arange(100) + 0.5) / 100 * np.pi / 2) ** 2


@dataclass(frozen=True)
class GroupedShare:
    """The posterior of a share: a mixture of beta distributions, one for each correlation."""

    successes: int
    failures: int
    weights: np.ndarray
    effects: np.ndarray
    """The design effect at each correlation."""

    def above(self, bar: float) -> float:
        """P(share ≥ bar)."""
        return min(1.0, float(self.weights @ betaincc(*self._shapes, bar)))  # the weights' sum is rounded

    def quantile(self, probability: float) -> float:
        return float(brentq(lambda share: 1.0 - self.above(share) - probability, 0.0, 1.0))

    @property
    def _shapes(self) -> tuple[np.ndarray, np.ndarray]:
        return self.successes / self.effects + 0.5, self.failures / self.effects + 0.5


def grouped_share(rows: Sequence[bool], groups: Sequence[Hashable], least_effect: float) -> GroupedShare:
    """The posterior from rows and their groups; `least_effect` is the estimated design effect."""
    sizes, hits = Counter(groups), Counter(group for row, group in zip(rows, groups, strict=True) if row)
    alike = Counter((size, hits[group]) for group, size in sizes.items())
    logs = np.sum([count * _log_likelihood(*group) for group, count in alike.items()], axis=0)
    weights = np.exp(logs - logs.max()).sum(axis=0)
    mean_size = sum(size**2 for size in sizes.values()) / len(rows)
    effects = np.maximum(least_effect, 1 + (mean_size - 1) * CORRELATIONS)
    return GroupedShare(sum(hits.values()), len(rows) - sum(hits.values()), weights / weights.sum(), effects)


@lru_cache(maxsize=1024)
def _log_likelihood(size: int, hits: int) -> np.ndarray:
    """Of a group, for each share (rows) and correlation (columns), but for a constant."""
    spread = (1 - CORRELATIONS) / CORRELATIONS
    a, b = SHARES[:, None] * spread, (1 - SHARES[:, None]) * spread
    return np.asarray(betaln(a + hits, b + size - hits) - betaln(a, b))
