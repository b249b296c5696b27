"""Sets that are named in advance rather than searched for. Without them no claim about a search stands."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

from dapa_exp.errors import DapaError, nearest
from dapa_exp.search.query import Settings, Unit

Candidates = list[frozenset[Unit]]
Control = Callable[[Sequence[Unit], Settings], Candidates]
"""Says which sets to ask for. The first of them is the answer, whether it passes or not."""


def everything(units: Sequence[Unit], settings: Settings) -> Candidates:
    """The whole of what a search could transplant."""
    return [frozenset(units)]


def nothing(units: Sequence[Unit], settings: Settings) -> Candidates:
    """The student as it is."""
    return [frozenset()]


def fixed(units: Sequence[Unit], settings: Settings) -> Candidates:
    """The units in the settings, for example the paper's range of layers."""
    for unit in settings.units:
        if unit not in units:
            raise DapaError(f"search.units: there is no unit '{unit}'.{nearest(unit, units)}")
    return [frozenset(settings.units)]


def random_control(units: Sequence[Unit], settings: Settings) -> Candidates:
    """As many units as the answer it is compared with, drawn at random, several times over."""
    if settings.k is None:
        raise DapaError("search.k: search=random needs to know how many units to draw.")
    return random_sets(units, settings.k, settings.repeats, settings.seed)


def random_sets(units: Sequence[Unit], k: int, repeats: int, seed: int) -> Candidates:
    """Draw `repeats` different sets of `k` units; all there are where there are not as many."""
    if not 0 <= k <= len(units):
        raise DapaError(f"search.k: cannot draw {k} of {len(units)} units.")
    if repeats < 1:
        raise DapaError(f"search.repeats: must be at least 1, not {repeats}.")
    generator = random.Random(seed)
    if comb(len(units), k) <= repeats:
        every = [frozenset(chosen) for chosen in combinations(units, k)]
        generator.shuffle(every)
        return every
    drawn: dict[frozenset[Unit], None] = {}
    while len(drawn) < repeats:
        drawn[frozenset(generator.sample(list(units), k))] = None
    return list(drawn)


CONTROLS: dict[str, Control] = {
    "all": everything,
    "none": nothing,
    "fixed": fixed,
    "random": random_control,
}
