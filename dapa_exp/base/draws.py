"""Random sets, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
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
