"""The trade-off figure: DSR of the hybrids over each cost of a transplant."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.measures import done_of, measure
from analysis.registry import FIGURES, FigureMaker

CURVE = ["pair", "granularity", "search", "dataset"]
"""The settings that all hybrids of one curve share. Other settings, such as search.threshold, vary along the curve."""
COSTS = {
    "parameters_percent": "parameters changed, %",
    "hybrid_over_refusal": "over-refusal, %",
    "perplexity_change": "perplexity, change from the student",
}
"""The axis title of each cost, by column."""
STUDENTS = {"hybrid_over_refusal": "student_over_refusal"}
"""The student's column of a cost, if the student's cost is not zero."""
COLOURS = ("#2a7f9e", "#c8553d", "#4c566a", "#6a994e", "#b5838d", "#e09f3e", "#7b5ea7", "#33658a", "#8d6b4f", "#111111")
MARKS = "os^Dv"


def has_trade_off(frame: pd.DataFrame) -> bool:
    """Whether at least two hybrids can be compared."""
    return done_of(frame)["identity"].nunique() > 1


def trade_off(frame: pd.DataFrame) -> Figure:
    """A figure with one panel for each measured cost: DSR on the report rows, with its interval, over the cost.

    Each curve starts at a pair's student, and goes through its hybrids in the order of changed parameters.
    """
    done = measure(done_of(frame))
    done["label"] = _labels(done)
    done[["student_over_refusal", "hybrid_over_refusal"]] *= 100
    styles = dict(zip(done["label"].unique(), zip(cycle(COLOURS), cycle(MARKS), strict=False), strict=False))
    costs = [cost for cost in COSTS if done[cost].notna().any()]
    figure = Figure(figsize=(4.6 * len(costs), 5.2), layout="constrained")
    axes = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axis, cost in zip(axes, costs, strict=True):
        for _, hybrids in done.groupby(CURVE, sort=False):
            in_order = hybrids.sort_values(["parameters_percent", "hybrid_dsr"])
            _curve(axis, in_order, cost, *styles[hybrids["label"].iloc[0]])
        if cost == "hybrid_over_refusal":  # a small over-refusal should look small
            axis.set_xlim(-0.2, max(5.0, axis.get_xlim()[1]))
        axis.set_xlabel(COSTS[cost])
        axis.grid(alpha=0.3)
        axis.locator_params(axis="x", nbins=6)
    axes[0].set_ylabel("DSR on the report prompts, %")
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, fontsize=8)
    made_here = " (made here: no evidence about real models)" if done["made_here"].any() else ""
    figure.suptitle(f"What transplants bought, and what they cost: {len(done)} hybrids{made_here}", fontsize=11)
    return figure


def _labels(done: pd.DataFrame) -> pd.Series[str]:
    """The legend label of each row's curve: the settings in which curves differ, or the family if there are many."""
    vary = [name for name in CURVE if done[name].nunique() > 1]
    for names in (vary, [name for name in vary if name != "pair"]):
        if names and len(done.drop_duplicates(names)) <= len(COLOURS):
            return done[names].agg(" ".join, axis=1)
    return done["family"]


def _curve(axis: Axes, hybrids: pd.DataFrame, cost: str, colour: str, mark: str) -> None:
    """Draw a curve from the student through its hybrids. Hollow marks are random sets of equally many units."""
    first = hybrids.iloc[0]
    x, start = hybrids[cost], first[STUDENTS[cost]] if cost in STUDENTS else 0.0
    y, low, high = (100 * hybrids[name] for name in ("hybrid_dsr", "hybrid_dsr_low", "hybrid_dsr_high"))
    axis.plot(start, 100 * first["student_dsr"], "x", color="black", ms=5, label="student")
    axis.plot([start, *x], [100 * first["student_dsr"], *y], color=colour, lw=1, alpha=0.6)
    axis.errorbar(x, y, [y - low, high - y], color=colour, fmt=mark, ms=5, elinewidth=0.8, label=first["label"])
    if cost == "parameters_percent":
        label = "random sets of as many units"
        axis.plot(x, 100 * hybrids["random_dsr"], mark, color=colour, mfc="none", ms=5, alpha=0.6, label=label)


FIGURES.register("trade_off", FigureMaker(has_trade_off, trade_off))
