"""The heat map of shared sets: DSR of every student with the set that was found on every other."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import any_made_here, column_figure
from analysis.registry import FIGURES, FigureMaker
from analysis.sets import shared_sets


def shared_sets_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell, with the DSR in percent; no rows if no found set was given to another student."""
    found = shared_sets(frame)
    return found if found.empty else found.assign(dsr=100 * found["hybrid_dsr"])


def draw_shared_sets(data: pd.DataFrame) -> Figure:
    """A figure with a panel for each teacher and granularity: rows are sets, columns students, cells DSRs."""
    groups = list(data.groupby(["teacher", "granularity", "dataset"], sort=False))
    cells = [group.pivot(index="found_on", columns="pair", values="dsr") for _, group in groups]
    cells = [
        grid.reindex(index=group["found_on"].unique(), columns=group["pair"].unique())
        for grid, (_, group) in zip(cells, groups, strict=True)
    ]
    height = 0.9 + sum(1.2 + 0.25 * len(grid) for grid in cells)
    figure = column_figure(height, "DSR (%) with the set found on another student", any_made_here(data))
    axes = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for axis, grid in zip(axes, cells, strict=True):
        axis.imshow(grid.to_numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, values in enumerate(grid.to_numpy()):
            for column, value in enumerate(values):
                if value == value:
                    colour = "white" if value > 60 else "#08306b"
                    axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        axis.set_xticks(range(grid.shape[1]), [str(name) for name in grid.columns], rotation=30, ha="right")
        axis.set_yticks(range(grid.shape[0]), [str(name).replace(", ", ",\n") for name in grid.index])
        axis.set_ylabel("found on")
        axis.tick_params(length=0)
    return figure


FIGURES.register("shared_sets", FigureMaker(shared_sets_data, draw_shared_sets))
