"""The figure of conversations: the DSR of student, hybrid and teacher, turn by turn."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.entries import SUBJECTS
from analysis.figures.style import COLOURS, any_made_here, column_figure, legend_below, light_grid
from analysis.measures import done_of, runs_of, settings_that_tell_apart
from analysis.registry import FIGURES, FigureMaker
from analysis.tables.conversations import turns_of_runs


def turns_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and turn: the DSRs. `panel` holds the settings in which runs of a pair differ."""
    done = done_of(frame, "held")
    if done.empty:
        return done
    settings = settings_that_tell_apart(runs_of(done))
    data = pd.DataFrame(turns_of_runs(done, ["pair", "made_here", *settings]))
    return data.assign(panel=data[settings].agg(", ".join, axis=1) if settings else "")


def draw_turns(data: pd.DataFrame) -> Figure:
    """A panel for each setting: a thin line for each run's model, and a thick one for the mean over runs."""
    panels = [(str(panel), rows) for panel, rows in data.groupby("panel", sort=False)]
    title = f"DSR by turn, {data['pair'].nunique()} pair(s)"
    figure = column_figure(0.8 + 1.3 * len(panels), title, any_made_here(data))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (panel, rows) in zip(axes, panels, strict=True):
        for subject, colour in zip(SUBJECTS, COLOURS, strict=False):
            name = f"dsr_{subject}_value"
            for _, run in rows.groupby("pair", sort=False):
                axis.plot(run["turn"], 100 * run[name], color=colour, lw=0.5, alpha=0.5)
            mean = rows.groupby("turn")[name].mean()
            axis.plot(mean.index, 100 * mean, color=colour, lw=1.5, marker="o", ms=3, label=subject)
        axis.set_ylim(-3, 103)
        axis.set_ylabel(f"{panel}\nDSR (%)" if panel else "DSR (%)")
        light_grid(axis, "y")
    axes[-1].set_xlabel("turn")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes[0], 3)
    return figure


FIGURES.register("turns", FigureMaker(turns_data, draw_turns, place=85))
