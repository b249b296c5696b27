"""The tables and figures there are. Each registers itself in its own file, and `dapa report` makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from dapa_exp.base.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.tables.table import Table

Shows = Callable[[pd.DataFrame], bool]


@dataclass(frozen=True)
class TableMaker:
    """A table: its place in the report, whether a frame has something to show in it, and what makes it."""

    place: int
    shows: Shows
    make: Callable[[pd.DataFrame], Table]


@dataclass(frozen=True)
class FigureMaker:
    """A figure: whether a frame has something to show in it, and what draws it."""

    shows: Shows
    draw: Callable[[pd.DataFrame], Figure]


TABLES: Registry[TableMaker] = Registry("table", "analysis.tables")
FIGURES: Registry[FigureMaker] = Registry("figure", "analysis.figures")


def always(_: pd.DataFrame) -> bool:
    """For what every report shows."""
    return True


def in_order() -> list[TableMaker]:
    """The tables as the report shows them."""
    return sorted((maker for _, maker in TABLES), key=lambda maker: maker.place)
