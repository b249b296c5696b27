"""The look of all figures: as wide as a column of a paper, and in colours that colour-blind readers tell apart.

Lines and text are black, so that `analysis.drawing` can give them the colour of a page's text.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 3.3
"""Inches: a column of a two-column paper."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The palette of Okabe and Ito without black, and without yellow, which is faint on white."""
MARKS = "os^Dv"
MADE_HERE = "made here: no evidence about real models"
SIZE = 7
"""Points: the smallest text in a figure."""
STYLE: dict[Any, Any] = {
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "legend.fontsize": SIZE,
    "legend.title_fontsize": SIZE,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


def column_figure(height: float, title: str, made_here: bool) -> Figure:
    """An empty figure of a column's width, with a title that says whether its models were made here."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(f"{title}\n({MADE_HERE})" if made_here else title)
    return figure


def light_grid(axis: Axes, along: str) -> None:
    """Draw a faint grid behind the data, along "x", "y" or "both"."""
    axis.grid(axis=along, alpha=0.25, lw=0.5)  # type: ignore[arg-type]
    axis.set_axisbelow(True)


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """Name the axis's marks and lines below the figure, each label once."""
    named = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)


def any_made_here(data: pd.DataFrame) -> bool:
    return bool(data["made_here"].any())
