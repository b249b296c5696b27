"""The registries of tables and figures for `dapa report`. Each table and figure registers itself in its own file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from dapa_exp.base.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.tables.table import Table

Shows = Callable[[pd.DataFrame], bool]


@dataclass(frozen=True)
class TableMaker:
    """A table's position in the report, the check whether a frame has data for it, and the function that makes it."""

    place: int
    shows: Shows
    make: Callable[[pd.DataFrame], Table]


@dataclass(frozen=True)
class FigureMaker:
    """The function that takes a figure's data from a frame, the one that draws them, and the figure's place.

    Without data, there is no figure.
    """

    data: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    place: int = 100


Maker = TypeVar("Maker", TableMaker, FigureMaker)

TABLES: Registry[TableMaker] = Registry("table", "analysis.tables")
FIGURES: Registry[FigureMaker] = Registry("figure", "analysis.figures")


def always(_: pd.DataFrame) -> bool:
    """The check of a table that every report shows."""
    return True


def measured(*metrics: str) -> Shows:
    """The check of a table that shows these metrics: whether any run has one of them."""
    return lambda frame: bool(frame["metric"].isin(metrics).any())


def in_order(makers: Registry[Maker]) -> list[tuple[str, Maker]]:
    """The names and makers of all tables or figures, in the report's order."""
    return sorted(makers, key=lambda named: named[1].place)
