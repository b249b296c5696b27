"""Sets that are named in advance rather than searched for. Without them no claim about a search stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dapa_exp.base.draws import random_sets
from dapa_exp.base.errors import DapaError, nearest
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


CONTROLS: dict[str, Control] = {
    "all": everything,
    "none": nothing,
    "fixed": fixed,
    "random": random_control,
}
