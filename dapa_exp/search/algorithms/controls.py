"""Controls: sets that are named in advance and not searched for. Every claim about a search is compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from dapa_exp.base.draws import random_sets
from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.search.algorithm import ALGORITHMS, Candidates, Control
from dapa_exp.search.query import Settings, Unit


def everything(units: Sequence[Unit], settings: Settings) -> Candidates:
    """All units."""
    return [frozenset(units)]


def nothing(units: Sequence[Unit], settings: Settings) -> Candidates:
    """The student as it is."""
    return [frozenset()]


def named(units: Sequence[Unit], settings: Settings) -> Candidates:
    """The units in the settings."""
    for unit in settings.units:
        if unit not in units:
            raise DapaError(
                f"{settings.units_from}: there is no unit '{unit}' at this granularity.{nearest(unit, units)}"
                f" The units are {units[0]} to {units[-1]}"
            )
    return [frozenset(settings.units)]


def drawn(units: Sequence[Unit], settings: Settings) -> Candidates:
    """`settings.repeats` random sets of `settings.k` units, drawn by `settings.seed`."""
    if settings.k is None:
        raise DapaError("search.k: search=random needs to know how many units to draw.")
    return random_sets(units, settings.k, settings.repeats, settings.seed)


def most_telling(units: Sequence[Unit], settings: Settings) -> Candidates:
    """Take units in descending order of their scores. One that no longer fits into `settings.room` is passed over."""
    taken, left = set(), settings.room
    for unit in sorted(units, key=settings.prior.__getitem__, reverse=True):
        if settings.parameters[unit] <= left:
            taken.add(unit)
            left -= settings.parameters[unit]
    return [frozenset(taken)]


ALGORITHMS.register("all", Control(everything, lambda search, units: 0, title="Control: every unit."))
ALGORITHMS.register(
    "none",
    Control(nothing, lambda search, units: 0, title="Control: no unit, the student itself."),
)
ALGORITHMS.register(
    "fixed",
    Control(
        named,
        title="Control: the layer range of the paper's released code, scaled to the pair's depth.",
    ),
)
ALGORITHMS.register(
    "given",
    Control(
        named,
        title="Control: a set of your own, search.units=[…], or one that another run found, search.from=RUN.",
        needs={"units|from_run": "a set: search.units=[layers.3.mlp,layers.4.mlp], or that of a run: search.from=RUN"},
    ),
)
ALGORITHMS.register(
    "share",
    Control(
        most_telling,
        title="Control: in the order of search.prior, the units that fit into search.share of the parameters.",
        needs={
            "share": "a share of the student's parameters, such as search.share=0.03",
            "prior": "an order of the units, such as search.prior=attribution (shuffled: a random one)",
        },
        defaults={"prior": "attribution"},
        by_prior=True,
    ),
)
ALGORITHMS.register(
    "random",
    Control(
        drawn,
        lambda search, units: min(search.repeats, comb(units, search.k or 0)),
        title="Control: seeded draws of k units; set search.k.",
        needs={"k": "the number of units to draw, such as search.k=3"},
    ),
)
