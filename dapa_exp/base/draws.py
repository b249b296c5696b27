"""Random sets, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

from dapa_exp.base.errors import DapaError


def random_sets(units: Sequence[str], k: int, repeats: int, seed: int) -> list[frozenset[str]]:
    """Draw `repeats` different sets of `k` units, or all such sets if there are fewer.

    Raises DapaError if `k` is larger than the number of units, or `repeats` is less than 1.
    """
    if not 0 <= k <= len(units):
        raise DapaError(f"search.k: cannot draw {k} of {len(units)} units.")
    if repeats < 1:
        raise DapaError(f"search.repeats: must be at least 1, not {repeats}.")
    generator = random.Random(seed)
    if comb(len(units), k) <= repeats:
        every = [frozenset(chosen) for chosen in combinations(units, k)]
        generator.shuffle(every)
        return every
    drawn: dict[frozenset[str], None] = {}
    while len(drawn) < repeats:
        drawn[frozenset(generator.sample(list(units), k))] = None
    return list(drawn)


def other_sets(units: Sequence[str], chosen: frozenset[str], count: int, seed: int) -> list[frozenset[str]]:
    """`count` different sets with as many units as `chosen`, other than it; or all such sets if there are fewer.

    `chosen` must be neither empty nor all units, so that there is at least one.
    """
    drawn = random_sets(units, len(chosen), count + 1, seed)
    return [each for each in drawn if each != chosen][:count]


def sets_of_weight(
    weights: Mapping[str, int], wanted: int, chosen: frozenset[str], count: int, seed: int
) -> list[frozenset[str]]:
    """Up to `count` different sets whose weights add up to about what is wanted, without the chosen one.

    Units are taken in a random order for as long as that comes nearer to it. There may be fewer such sets: it is given
    up once many orders in a row have led to nothing new.
    """
    generator, order = random.Random(seed), list(weights)
    drawn: dict[frozenset[str], None] = {}
    fruitless = 0
    while len(drawn) < count and fruitless < 20 * count:
        generator.shuffle(order)
        taken: set[str] = set()
        total = 0
        for unit in order:
            if abs(total + weights[unit] - wanted) < abs(total - wanted):
                taken.add(unit)
                total += weights[unit]
        new = frozenset(taken)
        fruitless = fruitless + 1 if new == chosen or new in drawn else 0
        if new != chosen:
            drawn[new] = None
    return list(drawn)
