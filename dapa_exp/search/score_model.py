"""An additive model of the score, fitted to all queries so far. It estimates how much each item contributes.

The model assumes that the logit of a score is a sum of item weights, and that neighbours have similar weights,
perhaps only neighbours of the same kind. It is a Bayesian linear regression, or a Gaussian process over sets
(C. Rasmussen, C. Williams: Gaussian Processes for Machine Learning, 2006, section 2.2). Real models are not additive,
so this model only proposes what to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SPAN = 3.0  # expected distance, in logits, of the empty set and of all items from the threshold of passing
LEVEL_DEVIATION = 2.0  # standard deviation of these distances
WEIGHT_DEVIATION = 0.5  # standard deviation of one item's weight, in logits
ALIKE = 0.7  # share of the variance of weights that neighbours have in common
REACH = 0.1  # width of the neighbourhood, as a share of all items
SCALES = (1.0, 2.0, 4.0)  # by which spans and deviations may be larger: scores may rise steeply
PROMPTS = 30.0  # effective number of independent prompts of a score; real sets are larger, but prompts correlate
EXTREME = 0.02  # scores are clipped to stay this far from 0 and 1
PRIOR_TILT = 0.5  # e to this power is the ratio of weights for one standard deviation of the prior


def neighbourhood(n: int, reach: float) -> Array:
    """The similarity of each two items: 1 for an item with itself, less with distance."""
    distance = np.subtract.outer(np.arange(n), np.arange(n)) / max(1.0, reach * n)
    return np.exp(-0.5 * distance**2)


class ScoreModel:
    """The posterior distribution of item weights. A set is a row of zeros and ones.

    How steeply a pair's scores rise, and whether items of one kind (MLP, attention) are more alike than others, is not
    known. The model is an average over both, weighted by how well each explains the queries (Bayesian model averaging:
    Rasmussen and Williams, section 5.2).
    """

    def __init__(self, kinds: Sequence[str], importance: Array | None) -> None:
        n = len(kinds)
        share = np.full(n, 1.0 / n) if importance is None else _shares(importance)
        same = np.equal.outer(np.array(kinds), np.array(kinds)).astype(float)
        near = neighbourhood(n, REACH)
        self._models = [_Additive(share, near * alike, scale) for alike in (1.0, same) for scale in SCALES]
        self._trust: Array = np.full(len(self._models), 1.0 / len(self._models))

    def fit(self, sets: Array, scores: Array, passed: NDArray[np.bool_]) -> None:
        """Fit the model to queries. At least one of them passed, and at least one failed."""
        threshold = (scores[~passed].max() + scores[passed].min()) / 2.0
        rates = scores.clip(EXTREME, 1.0 - EXTREME)
        heights = _logit(rates) - _logit(threshold.clip(EXTREME, 1.0 - EXTREME))
        noise = 1.0 / (PROMPTS * rates * (1.0 - rates))
        evidence = np.array([model.fit(sets, heights, noise) for model in self._models])
        trust = np.exp(evidence - evidence.max())
        self._trust = trust / trust.sum()

    @property
    def weights(self) -> Array:
        """The expected weight of every item, relative to the scale."""
        return self._trust @ np.array([model.weights for model in self._models])

    def chances(self, candidates: Array) -> Array:
        """The probability that each candidate passes."""
        return self._trust @ np.array([model.chances(candidates) for model in self._models])


class _Additive:
    """The model with one covariance of item weights and one scale of all logits."""

    def __init__(self, share: Array, likeness: Array, scale: float) -> None:
        n = len(share)
        self._scale = scale
        self._expected = 2.0 * SPAN * scale * share
        self._covariance: Array = (WEIGHT_DEVIATION * scale) ** 2 * (ALIKE * likeness + (1.0 - ALIKE) * np.eye(n))
        self._sets: Array = np.zeros((0, n))
        self._inverse: Array = np.zeros((0, 0))
        self._pull: Array = np.zeros(0)

    def fit(self, sets: Array, heights: Array, noise: Array) -> float:
        """Fit to the heights of sets over the threshold; return the log evidence, but for a constant."""
        covariance = self._between(sets, sets) + np.diag(noise)
        residuals = heights - self._prior_heights(sets)
        self._sets = sets
        self._inverse = np.linalg.inv(covariance)
        self._pull = self._inverse @ residuals
        return float(-(residuals @ self._pull + np.linalg.slogdet(covariance).logabsdet) / 2.0)

    @property
    def weights(self) -> Array:
        return (self._expected + self._covariance @ self._sets.T @ self._pull) / self._scale

    def chances(self, candidates: Array) -> Array:
        shared = self._between(candidates, self._sets)
        means = self._prior_heights(candidates) + shared @ self._pull
        own = np.diag(self._between(candidates, candidates))
        known = np.einsum("cq,qr,cr->c", shared, self._inverse, shared)
        deviations = np.sqrt(np.maximum(own - known, 0.0) + 1.0 / PROMPTS)
        return np.array([NormalDist().cdf(z) for z in (means / deviations).tolist()])

    def _prior_heights(self, sets: Array) -> Array:
        return sets @ self._expected - SPAN * self._scale

    def _between(self, left: Array, right: Array) -> Array:
        return (LEVEL_DEVIATION * self._scale) ** 2 + left @ self._covariance @ right.T


def _logit(rate: Array) -> Array:
    return np.log(rate / (1.0 - rate))


def _shares(importance: Array) -> Array:
    """Positive weights that sum to 1, from the ranks of the importance. Equal importance gives equal weights."""
    n = len(importance)
    _, place, counts = np.unique(importance, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - counts / 2.0)[place]
    tilted = np.exp([PRIOR_TILT * NormalDist().inv_cdf(rank / n) for rank in ranks.tolist()])
    return tilted / tilted.sum()
