"""The curves figure: DSR, skill, over-refusal and perplexity over the share of parameters that was replaced."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.curves import curves, has_curves
from analysis.figures.style import COLOURS, any_made_here, column_figure, light_grid
from analysis.registry import FIGURES, FigureMaker

PANELS = {"dsr": "DSR, %", "skill": "skill, %", "over_refusal": "over-refusal, %", "perplexity_change": "Δ perplexity"}
"""The axis title of each measure, by column."""
LINES = ("-", "--", ":", "-.")


def curves_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each point of a curve, with shares in percent; no rows if there is no curve."""
    if not has_curves(frame):
        return pd.DataFrame()
    found = curves(frame)
    percent = ["moved", "dsr", "low", "high", "over_refusal", "skill", "student_dsr", "student_skill"]
    found[percent] *= 100
    return found


def draw_curves(data: pd.DataFrame) -> Figure:
    """A figure with a panel for each measure: a colour for each pair, a kind of line for each order.

    Each curve starts at the pair's student. The horizontal axis is linear below 1 %, and logarithmic from there.
    """
    panels = [name for name in PANELS if data[name].notna().any()]
    figure = column_figure(0.9 + 1.4 * len(panels), "What each share of the parameters buys", any_made_here(data))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    colours = dict(zip(data["pair"].unique(), COLOURS, strict=False))
    lines = dict(zip(data["order"].unique(), LINES, strict=False))
    for (pair, _, order), curve in data.groupby(["pair", "granularity", "order"], sort=False):
        curve = curve.sort_values("moved")
        start = {"dsr": curve["student_dsr"].iloc[0], "skill": curve["student_skill"].iloc[0]}
        for axis, name in zip(axes, panels, strict=True):
            first = start.get(name, float("nan"))
            axis.plot(
                [0.0, *curve["moved"]], [first, *curve[name]], lines.get(order, "-"), color=colours.get(pair, "grey")
            )
            if name == "dsr":
                axis.fill_between(curve["moved"], curve["low"], curve["high"], color=colours.get(pair), alpha=0.1, lw=0)
    for axis, name in zip(axes, panels, strict=True):
        axis.set_ylabel(PANELS[name])
        axis.set_xscale("symlog", linthresh=1.0)
        light_grid(axis, "both")
    axes[-1].set_xticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    axes[-1].set_xlim(0, 105)
    axes[-1].set_xlabel("parameters replaced, %")
    named = [axes[0].plot([], [], color=colour, label=pair)[0] for pair, colour in colours.items()]
    named += [axes[0].plot([], [], line, color="black", label=order)[0] for order, line in lines.items()]
    figure.legend(handles=named, loc="outside lower center", ncols=2)
    return figure


FIGURES.register("curves", FigureMaker(curves_data, draw_curves, place=35))
