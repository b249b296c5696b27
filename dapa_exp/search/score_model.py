"""An additive model of the score, fitted to all queries so far. It estimates how much each item contributes.

The model assumes that the logit of a score is a sum of item weights, and that neighbours have similar weights. It is a
Bayesian linear regression, or a Gaussian process over sets (C. Rasmussen, C. Williams: Gaussian Processes for Machine
Learning, 2006, section 2.2). Real models are not additive, so this model only proposes what to ask.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SPAN = 3.0  # expected distance, in logits, of the empty set and of all items from the threshold of passing
LEVEL_DEVIATION = 2.0  # standard deviation of these distances
WEIGHT_DEVIATION = 0.5  # standard deviation of one item's weight, in logits
ALIKE = 0.7  # share of the variance of weights that neighbours have in common
REACH = 0.1  # width of the neighbourhood, as a share of all items
PROMPTS = 30.0  # effective number of independent prompts of a score; real sets are larger, but prompts correlate
EXTREME = 0.02  # scores are clipped to stay this far from 0 and 1
PRIOR_TILT = 0.5  # e to this power is the ratio of weights for one standard deviation of the prior


def neighbourhood(n: int, reach: float) -> Array:
    """The similarity of each two items: 1 for an item with itself, less with distance."""
    distance = np.subtract.outer(np.arange(n), np.arange(n)) / max(1.0, reach * n)
    return np.exp(-0.5 * distance**2)


class ScoreModel:
    """The posterior distribution of item weights. A set is a row of zeros and ones."""

    def __init__(self, n: int, importance: Array | None) -> None:
        share = np.full(n, 1.0 / n) if importance is None else _shares(importance)
        self._expected = 2.0 * SPAN * share
        self._covariance: Array = WEIGHT_DEVIATION**2 * (ALIKE * neighbourhood(n, REACH) + (1.0 - ALIKE) * np.eye(n))
        self._sets: Array = np.zeros((0, n))
        self._inverse: Array = np.zeros((0, 0))
        self._pull: Array = np.zeros(0)

    def fit(self, sets: Array, scores: Array, passed: NDArray[np.bool_]) -> None:
        """Fit the model to queries. At least one of them passed, and at least one failed."""
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
        """The probability that each candidate passes."""
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
    """Positive weights that sum to 1, from the ranks of the importance. Equal importance gives equal weights."""
    n = len(importance)
    _, place, counts = np.unique(importance, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - counts / 2.0)[place]
    tilted = np.exp([PRIOR_TILT * NormalDist().inv_cdf(rank / n) for rank in ranks.tolist()])
    return tilted / tilted.sum()
