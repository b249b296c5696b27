"""Oracles with a known answer, to test and to measure search algorithms on.

| kind | passes when | score |
| --- | --- | --- |
| block | a contiguous run of 4-10 units is all there | says nothing: 0 or 1 |
| scatter | 3-6 units, anywhere, are all there | says nothing: 0 or 1 |
| threshold | bell-shaped unit weights add up to 0.55-0.80 of all | share of 128 prompts, thresholds differ |
| noisy | as threshold | as threshold, with frozen noise per set and prompt, so not monotone |
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from dapa_exp.search import Outcome, Test, Unit

PROMPTS = 128
PASS_SCORE = 0.5


@dataclass(frozen=True)
class Planted:
    """A test, how important each unit truly is to it, and the size of its smallest answer."""

    units: tuple[Unit, ...]
    test: Test
    importance: dict[Unit, float]
    best: int


def layers(n: int) -> tuple[Unit, ...]:
    """The units of a model with n layers."""
    return tuple(f"layers.{i}.mlp" for i in range(n))


def block(units: tuple[Unit, ...], seed: int) -> Planted:
    """A conjunction of neighbours."""
    generator = random.Random(f"block {seed}")
    k = min(generator.randint(4, 10), len(units))
    start = generator.randint(0, len(units) - k)
    return _conjunction(units, frozenset(units[start : start + k]))


def scatter(units: tuple[Unit, ...], seed: int) -> Planted:
    """A conjunction of units with no order to them."""
    generator = random.Random(f"scatter {seed}")
    k = min(generator.randint(3, 6), len(units))
    return _conjunction(units, frozenset(generator.sample(list(units), k)))


def threshold(units: tuple[Unit, ...], seed: int) -> Planted:
    """Weights that add up; monotone."""
    return _additive(units, seed, noise=0.0)


def noisy(units: tuple[Unit, ...], seed: int) -> Planted:
    """Weights that add up, asked with few prompts."""
    return _additive(units, seed, noise=0.1)


KINDS: dict[str, Callable[[tuple[Unit, ...], int], Planted]] = {
    "block": block,
    "scatter": scatter,
    "threshold": threshold,
    "noisy": noisy,
}


def prior(planted: Planted, quality: float, seed: int) -> dict[Unit, float]:
    """A guess at the importance of units that correlates with the truth by `quality`."""
    truth = np.array([planted.importance[unit] for unit in planted.units])
    standard = (truth - truth.mean()) / (truth.std() or 1.0)
    guess = quality * standard + np.sqrt(1 - quality**2) * np.random.default_rng(seed).standard_normal(
        len(truth)
    )
    return dict(zip(planted.units, guess.tolist(), strict=True))


def shuffled(values: dict[Unit, float], seed: int) -> dict[Unit, float]:
    """The same numbers on the wrong units."""
    numbers = list(values.values())
    random.Random(seed).shuffle(numbers)
    return dict(zip(values, numbers, strict=True))


def _conjunction(units: tuple[Unit, ...], needed: frozenset[Unit]) -> Planted:
    def test(candidate: frozenset[Unit]) -> Outcome:
        passed = needed <= candidate
        return Outcome(passed, float(passed))

    return Planted(units, test, {unit: float(unit in needed) for unit in units}, len(needed))


def _additive(units: tuple[Unit, ...], seed: int, noise: float) -> Planted:
    """Each prompt is defended once the weights transplanted exceed a threshold of its own."""
    n = len(units)
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0.25, 0.75) * n
    width = generator.uniform(0.08, 0.15) * n
    weights = np.exp(-0.5 * ((np.arange(n) - centre) / width) ** 2) * generator.lognormal(0.0, 0.4, n)
    weights /= weights.sum()
    needed = generator.uniform(0.55, 0.80)
    thresholds = needed + generator.normal(0.0, 0.1, PROMPTS)
    thresholds += needed - np.median(thresholds)
    index = {unit: i for i, unit in enumerate(units)}

    def test(candidate: frozenset[Unit]) -> Outcome:
        chosen = sorted(index[unit] for unit in candidate)
        strength = weights[chosen].sum()
        if noise:
            mask = sum(1 << i for i in chosen)
            strength = strength + noise * np.random.default_rng([seed, mask]).standard_normal(PROMPTS)
        score = float(np.mean(strength >= thresholds))
        return Outcome(score >= PASS_SCORE, score)

    heaviest = accumulate(sorted(weights.tolist(), reverse=True))
    best = 1 + sum(total < needed for total in heaviest)
    return Planted(units, test, dict(zip(units, weights.tolist(), strict=True)), best)
