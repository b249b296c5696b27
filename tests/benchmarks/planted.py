"""Oracles with a known answer, to test and to measure search algorithms on.

| kind | passes when | score |
| --- | --- | --- |
| block | a contiguous run of 4-10 units is all there | says nothing: 0 or 1 |
| scatter | 3-6 units, anywhere, are all there | says nothing: 0 or 1 |
| threshold | bell-shaped unit weights add up to 0.55-0.80 of all | share of 128 prompts, thresholds differ |
| noisy | as threshold | as threshold, with frozen noise per set and prompt, so not monotone |

Held out, that is, not used to choose the constants of `auto`:

| kind | passes when | score |
| --- | --- | --- |
| islands | as threshold, the weights being two bells | as threshold |
| uneven | as threshold, the weights being in no order | as threshold |
| synergy | two groups of units are both mostly there, their shares multiplied | the product |
| redundant | either of two runs of units is all there | the greater share of either |
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dapa_exp.search import ALGORITHMS, Outcome, Reduction, Test, Unit

REDUCTIONS = [name for name, algorithm in ALGORITHMS if isinstance(algorithm, Reduction)]
"""Every algorithm that searches, the controls apart."""
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


def projections(count: int) -> tuple[Unit, ...]:
    """The MLP projections of a model with `count` layers, three each."""
    names = ("gate_proj", "up_proj", "down_proj")
    return tuple(f"layers.{i}.mlp.{name}" for i in range(count) for name in names)


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
    return _additive(units, _bell(len(units), seed), seed)


def noisy(units: tuple[Unit, ...], seed: int) -> Planted:
    """Weights that add up, asked with few prompts."""
    return _additive(units, _bell(len(units), seed), seed, noise=0.1)


def islands(units: tuple[Unit, ...], seed: int) -> Planted:
    """Weights in two places."""
    n = len(units)
    generator = np.random.default_rng(seed)
    places = generator.uniform([0.1, 0.6], [0.4, 0.9]) * n
    heights = np.exp(-0.5 * (np.subtract.outer(places, np.arange(n)) / (0.06 * n)) ** 2)
    return _additive(units, heights.sum(axis=0) * generator.lognormal(0.0, 0.4, n), seed)


def uneven(units: tuple[Unit, ...], seed: int) -> Planted:
    """Weights in no order."""
    return _additive(units, np.random.default_rng(seed).lognormal(0.0, 1.0, len(units)), seed)


def synergy(units: tuple[Unit, ...], seed: int) -> Planted:
    """Two groups of units, of which neither does anything without the other."""
    n = len(units)
    generator = np.random.default_rng(seed)
    size = max(2, n // 4)
    shares = np.zeros((2, n))
    for row, members in zip(shares, generator.permutation(n)[: 2 * size].reshape(2, size), strict=True):
        row[members] = generator.dirichlet(np.ones(size))
    index = {unit: i for i, unit in enumerate(units)}

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        score = float(shares[:, sorted(index[unit] for unit in candidate)].sum(axis=1).prod())
        return Outcome(score >= PASS_SCORE, score)

    tops = np.cumsum(np.sort(shares, axis=1)[:, ::-1], axis=1)
    enough = np.argwhere(np.multiply.outer(tops[0], tops[1]) >= PASS_SCORE)
    best = int((enough + 1).sum(axis=1).min())
    return Planted(units, test, dict(zip(units, shares.sum(axis=0).tolist(), strict=True)), best)


def redundant(units: tuple[Unit, ...], seed: int) -> Planted:
    """Two answers, one of them longer by a unit, and apart from each other."""
    n = len(units)
    generator = random.Random(f"redundant {seed}")
    k = generator.randint(3, 5)
    first = generator.randint(0, n // 2 - k)
    second = generator.randint(n // 2, n - k - 1)
    answers = [frozenset(units[first : first + k]), frozenset(units[second : second + k + 1])]

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        score = max(len(answer & candidate) / len(answer) for answer in answers)
        return Outcome(score == 1.0, score)

    return Planted(units, test, {unit: float(unit in answers[0] | answers[1]) for unit in units}, k)


KINDS: dict[str, Callable[[tuple[Unit, ...], int], Planted]] = {
    "block": block,
    "scatter": scatter,
    "threshold": threshold,
    "noisy": noisy,
}
HELD_OUT: dict[str, Callable[[tuple[Unit, ...], int], Planted]] = {
    "islands": islands,
    "uneven": uneven,
    "synergy": synergy,
    "redundant": redundant,
}


def prior(planted: Planted, quality: float, seed: int) -> dict[Unit, float]:
    """A guess at the importance of units that correlates with the truth by `quality`."""
    truth = np.array([planted.importance[unit] for unit in planted.units])
    standard = (truth - truth.mean()) / (truth.std() or 1.0)
    guess = quality * standard + np.sqrt(1 - quality**2) * np.random.default_rng(seed).standard_normal(len(truth))
    return dict(zip(planted.units, guess.tolist(), strict=True))


def shuffled(values: dict[Unit, float], seed: int) -> dict[Unit, float]:
    """The same numbers on the wrong units."""
    numbers = list(values.values())
    random.Random(seed).shuffle(numbers)
    return dict(zip(values, numbers, strict=True))


def _conjunction(units: tuple[Unit, ...], needed: frozenset[Unit]) -> Planted:
    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        passed = needed <= candidate
        return Outcome(passed, float(passed))

    return Planted(units, test, {unit: float(unit in needed) for unit in units}, len(needed))


def _bell(n: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0.25, 0.75) * n
    width = generator.uniform(0.08, 0.15) * n
    return np.exp(-0.5 * ((np.arange(n) - centre) / width) ** 2) * generator.lognormal(0.0, 0.4, n)


def _additive(units: tuple[Unit, ...], weights: NDArray[np.float64], seed: int, noise: float = 0.0) -> Planted:
    """Each prompt is defended once the weights transplanted exceed a threshold of its own."""
    generator = np.random.default_rng([seed, 1])
    weights = weights / weights.sum()
    needed = generator.uniform(0.55, 0.80)
    thresholds = needed + generator.normal(0.0, 0.1, PROMPTS)
    thresholds += needed - np.median(thresholds)
    index = {unit: i for i, unit in enumerate(units)}

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
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
