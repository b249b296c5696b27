"""The forest plot of the ablation: the hybrids' DSR by granularity, in each family and over all pairs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, MARKS, any_made_here, column_figure, legend_below, light_grid
from analysis.granularities import ALL, compare_granularities, in_order, settings_apart
from analysis.registry import FIGURES, FigureMaker
from analysis.tables.ablation import has_granularities


def ablation_forest_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each block and granularity: mean DSR with its interval, over the pairs that all granularities have.

    No rows unless there are several pairs and several granularities.
    """
    if not has_granularities(frame) or frame["pair"].nunique() < 2:
        return pd.DataFrame()
    data = compare_granularities(frame, "family")
    settings = [data["family"], *(data[name] for name in settings_apart(frame))]
    data["block"] = pd.concat(settings, axis=1).agg(", ".join, axis=1)
    data["made_here"] = bool(frame["made_here"].any())
    names = ["family", "block", "granularity", "n", "made_here"]
    numbers = ["hybrid_dsr", "low", "high", "student_dsr", "teacher_dsr"]
    return data.loc[data["n"] > 0, [*names, *numbers]].reset_index(drop=True)


def draw_ablation_forest(data: pd.DataFrame) -> Figure:
    """A figure with a line for each granularity of each block, under the block's name."""
    blocks = list(data.groupby("block", sort=False))
    title = "What is transplanted, and how much it defends"
    figure = column_figure(1.0 + 0.16 * (len(data) + 1.6 * len(blocks)), title, any_made_here(data))
    axis = figure.subplots()
    styles = dict(zip(in_order(data["granularity"].unique()), zip(COLOURS * 3, MARKS * 3, strict=False), strict=False))
    y, ticks = 0.0, {}
    for block, rows in blocks:
        whole = rows["family"].iloc[0] == ALL
        ticks[y] = f"{'all pairs' if whole else str(block)} (n={rows['n'].max()})"
        for row in rows.to_dict("records"):
            y += 1
            ticks[y] = row["granularity"]
            colour, mark = styles[row["granularity"]]
            value, low, high = (100 * row[name] for name in ("hybrid_dsr", "low", "high"))
            axis.plot([low, high], [y, y], color=colour, lw=2.2 if whole else 1.2, alpha=0.6, solid_capstyle="butt")
            axis.plot(value, y, mark, color=colour, ms=4.5 if whole else 3.5)
            axis.plot(100 * row["student_dsr"], y, "x", color="black", ms=3, mew=0.7, label="student")
            axis.plot(100 * row["teacher_dsr"], y, "+", color="black", ms=4, mew=0.7, label="teacher")
        y += 1.6
    axis.set_yticks(list(ticks), list(ticks.values()))
    for place, label in zip(ticks, axis.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if "(n=" in ticks[place] else "normal")
    axis.set_ylim(y - 0.6, -0.8)
    axis.set_xlim(-3, 103)
    axis.set_xlabel("DSR, % (95 % interval)")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    light_grid(axis, "x")
    legend_below(figure, axis, 2)
    return figure


FIGURES.register("ablation_forest", FigureMaker(ablation_forest_data, draw_ablation_forest, place=20))
