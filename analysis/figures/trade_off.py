"""The trade-off figure: DSR of the hybrids over each cost of a transplant."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, MARKS, any_made_here, column_figure, legend_below, light_grid
from analysis.measures import done_of, measure
from analysis.registry import FIGURES, FigureMaker

CURVE = ["pair", "granularity", "search", "dataset"]
"""The settings that all hybrids of one curve share. Other settings, such as search.threshold, vary along the curve."""
COSTS = {
    "parameters_percent": "parameters moved, %",
    "hybrid_over_refusal": "over-refusal, %",
    "perplexity_change": "perplexity, change from the student",
}
"""The axis title of each cost, by column."""
RANDOM = "random sets of as many units"


def trade_off_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each hybrid, curve by curve, the cheapest first; no rows if there are no two hybrids to compare.

    `label` names the curve in the legend. `student_…` is where the curve starts. DSRs and over-refusals are in percent.
    """
    done = measure(done_of(frame))
    done = done[done["student_dsr"].notna() & done["hybrid_dsr"].notna()].reset_index(drop=True)
    if len(done) < 2:
        return done.head(0)
    done["label"] = _labels(done)
    percent = ["student_over_refusal", "hybrid_over_refusal", "random_dsr"]
    percent += [f"{subject}_dsr{part}" for subject in ("student", "hybrid") for part in ("", "_low", "_high")]
    done[percent] *= 100
    done["student_parameters_percent"] = done["student_perplexity_change"] = 0.0
    done["curve"] = done.groupby(CURVE, sort=False).ngroup()
    return done.sort_values(["curve", "parameters_percent", "hybrid_dsr"], ignore_index=True)


def draw_trade_off(data: pd.DataFrame) -> Figure:
    """A figure with a panel for each measured cost: DSR on the report rows, with its interval, over the cost.

    Each curve starts at a pair's student, and goes through its hybrids in the order of moved parameters.
    """
    styles = zip(data["label"].unique(), zip(cycle(COLOURS), cycle(MARKS), strict=False), strict=False)
    costs = [cost for cost in COSTS if data[cost].notna().any()]
    before, after = (data[f"{subject}_dsr"].mean() for subject in ("student", "hybrid"))
    title = f"{len(data)} hybrids: mean DSR from {before:.0f} to {after:.0f} %, and its cost"
    figure = column_figure(0.9 + 1.7 * len(costs), title, any_made_here(data))
    axes = figure.subplots(len(costs), 1, squeeze=False)[:, 0]
    for label, (colour, mark) in styles:
        of_label = data[data["label"] == label]
        for axis, cost in zip(axes, costs, strict=True):
            _curves(axis, of_label, cost, colour, mark)
    for axis, cost in zip(axes, costs, strict=True):
        start = data.drop_duplicates("curve")
        axis.plot(start[_start(cost)], start["student_dsr"], "x", color="black", ms=4, label="student")
        if cost == "hybrid_over_refusal":  # a small over-refusal should look small
            axis.set_xlim(-0.2, max(5.0, axis.get_xlim()[1]))
        axis.set_xlabel(COSTS[cost])
        axis.set_ylabel("DSR, %")
        light_grid(axis, "both")
        axis.locator_params(axis="x", nbins=6)
    legend_below(figure, axes[0], 2)
    return figure


def _start(cost: str) -> str:
    """The column of a cost that belongs to the student."""
    return f"student_{cost.removeprefix('hybrid_')}"


def _labels(done: pd.DataFrame) -> pd.Series[str]:
    """The legend label of each row's curve: the settings in which curves differ, or the family if there are many."""
    vary = [name for name in CURVE if done[name].nunique() > 1]
    for names in (vary, [name for name in vary if name != "pair"]):
        if names and len(done.drop_duplicates(names)) <= len(COLOURS):
            return done[names].agg(" ".join, axis=1)
    return done["family"]


def _curves(axis: Axes, hybrids: pd.DataFrame, cost: str, colour: str, mark: str) -> None:
    """Draw the curves of one label. Hollow marks are random sets of equally many units."""
    columns = [[_start(cost), "student_dsr"], [cost, "hybrid_dsr"]]
    starts, points = (hybrids[names].to_numpy(dtype="float64") for names in columns)
    firsts = np.flatnonzero(np.diff(hybrids["curve"], prepend=-1))
    lines = [np.vstack([starts[i], curve]) for i, curve in zip(firsts, np.split(points, firsts[1:]), strict=True)]
    axis.add_collection(LineCollection(lines, colors=colour, lw=0.8, alpha=0.5))
    y, low, high = (hybrids[f"hybrid_dsr{part}"] for part in ("", "_low", "_high"))
    label = hybrids["label"].iloc[0]
    axis.errorbar(hybrids[cost], y, [y - low, high - y], color=colour, fmt=mark, ms=3, elinewidth=0.6, label=label)
    if cost == "parameters_percent":
        axis.plot(hybrids[cost], hybrids["random_dsr"], mark, color=colour, mfc="none", ms=3, alpha=0.6, label=RANDOM)


FIGURES.register("trade_off", FigureMaker(trade_off_data, draw_trade_off, place=30))
