"""What scores say about single items: an additive model of the score, fitted to every query so far.

The logit of a score is taken to be a sum of item weights, of which neighbours are alike: Bayesian linear
regression, or a Gaussian process over sets (C. Rasmussen, C. Williams: Gaussian Processes for Machine
Learning, 2006, section 2.2). Real models are not additive. The model therefore only proposes what to ask.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SPAN = 3.0  # expected distance, in logits, of no items and of all items from the verdict's threshold
LEVEL_DEVIATION = 2.0  # by which either is off
WEIGHT_DEVIATION = 0.5  # by which one item's weight is off, in logits
ALIKE = 0.7  # share of the variance of weights that neighbours have in common
REACH = 0.1  # how far neighbourhood goes, as a share of all items
PROMPTS = 30.0  # independent prompts that a score is worth; real sets are larger, but prompts correlate
EXTREME = 0.02  # scores nearer to 0 or 1 than this all say the same
PRIOR_TILT = 0.5  # e to this power: how much more an item one standard deviation up the prior weighs


def neighbourhood(n: int, reach: float) -> Array:
    """How much each item has to do with each other one: 1 with itself, less with distance."""
    distance = np.subtract.outer(np.arange(n), np.arange(n)) / max(1.0, reach * n)
    return np.exp(-0.5 * distance**2)


class ScoreModel:
    """Posterior over item weights. Sets are rows of zeros and ones."""

    def __init__(self, n: int, importance: Array | None) -> None:
        share = np.full(n, 1.0 / n) if importance is None else _shares(importance)
        self._expected = 2.0 * SPAN * share
        self._covariance: Array = WEIGHT_DEVIATION**2 * (ALIKE * neighbourhood(n, REACH) + (1.0 - ALIKE) * np.eye(n))
        self._sets: Array = np.zeros((0, n))
        self._inverse: Array = np.zeros((0, 0))
        self._pull: Array = np.zeros(0)

    def fit(self, sets: Array, scores: Array, passed: NDArray[np.bool_]) -> None:
        """Learn from queries, at least one of which passed and one failed."""
        threshold = (scores[~passed].max() + scores[passed].min()) / 2.0
        rates = scores.clip(EXTREME, 1.0 - EXTREME)
        heights = _logit(rates) - _logit(threshold.clip(EXTREME, 1.0 - EXTREME))
        noise = 1.0 / (PROMPTS * rates * (1.0 - rates))
        self._sets = sets
        self._inverse = np.linalg.inv(self._between(sets, sets) + np.diag(noise))
        self._pull = self._inverse @ (heights - self._prior_heights(sets))

    @property
    def weights(self) -> Array:
        """The expected weight of every item."""
        return self._expected + self._covariance @ self._sets.T @ self._pull

    def chances(self, candidates: Array) -> Array:
        """The probability of each candidate to pass."""
        shared = self._between(candidates, self._sets)
        means = self._prior_heights(candidates) + shared @ self._pull
        own = np.diag(self._between(candidates, candidates))
        known = np.einsum("cq,qr,cr->c", shared, self._inverse, shared)
        deviations = np.sqrt(np.maximum(own - known, 0.0) + 1.0 / PROMPTS)
        return np.array([NormalDist().cdf(z) for z in (means / deviations).tolist()])

    def _prior_heights(self, sets: Array) -> Array:
        return sets @ self._expected - SPAN

    def _between(self, left: Array, right: Array) -> Array:
        return LEVEL_DEVIATION**2 + left @ self._covariance @ right.T


def _logit(rate: Array) -> Array:
    return np.log(rate / (1.0 - rate))


def _shares(importance: Array) -> Array:
    """Turn importance, of which only the order is trusted, into positive shares of the whole; equals share alike."""
    n = len(importance)
    _, place, counts = np.unique(importance, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - counts / 2.0)[place]
    tilted = np.exp([PRIOR_TILT * NormalDist().inv_cdf(rank / n) for rank in ranks.tolist()])
    return tilted / tilted.sum()
