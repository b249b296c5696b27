"""The profiles: how far the hybrid's hidden states are from its student's, layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, MARKS, any_made_here, column_figure, legend_below, light_grid
from analysis.measures import done_of
from analysis.registry import FIGURES, FigureMaker
from dapa_exp.evaluate.statistics import mean_over_groups


def profiles_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each family, side (harmful or harmless requests) and layer: the mean over pairs, with its interval.

    Models of one family that differ in their number of layers are families of their own.

    Runs of one pair count as one. The interval is over teachers; with one teacher, over pairs; of a single run, over
    its requests.
    """
    done = done_of(frame)
    text = dict.fromkeys(("family", "pair", "teacher", "set", "key"), "object")
    rows = done[done["metric"] == "hidden_change"].astype(text)
    rows["layers"] = rows.groupby(["identity", "set"], observed=True)["key"].transform("size")
    found = []
    for (name, layers, side, layer), group in rows.groupby(["family", "layers", "set", "key"], sort=False):
        family = f"{name}, {layers} layers"
        pairs = group.groupby(["pair", "teacher"], observed=True, sort=False)["value"].mean()
        mean = mean_over_groups(pairs.tolist(), pairs.index.get_level_values("teacher").tolist())
        low, high = (group["low"].iloc[0], group["high"].iloc[0]) if len(group) == 1 else (mean.low, mean.high)
        found.append((family, side, int(str(layer)), mean.value, low, high, len(pairs), bool(group["made_here"].any())))
    return pd.DataFrame(found, columns=["family", "side", "layer", "distance", "low", "high", "pairs", "made_here"])


def draw_profiles(data: pd.DataFrame) -> Figure:
    """A figure with a panel for each kind of request, and a line for each family."""
    sides = list(data.groupby("side", sort=False))
    figure = column_figure(1.1 + 1.5 * len(sides), "Where the transplant moves the hidden states", any_made_here(data))
    axes = figure.subplots(len(sides), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (side, rows) in zip(axes, sides, strict=True):
        for i, (family, line) in enumerate(rows.groupby("family", sort=False)):
            colour, line = COLOURS[i % len(COLOURS)], line.sort_values("layer")
            mark, label = MARKS[i % len(MARKS)], f"{family} (n={line['pairs'].max()})"
            axis.plot(line["layer"], line["distance"], marker=mark, color=colour, ms=3, lw=1, label=label)
            low, high = (line[name].astype("float64").clip(lower=0.0) for name in ("low", "high"))
            axis.fill_between(line["layer"], low, high, color=colour, alpha=0.15, lw=0)
        axis.set_title(f"{side} requests", loc="left")
        axis.set_ylabel("1 − cosine to the student")
        light_grid(axis, "both")
        axis.locator_params(axis="x", integer=True)
    axes[-1].set_xlabel("layer (n: pairs)")
    legend_below(figure, axes[0], 1)
    return figure


FIGURES.register("profiles", FigureMaker(profiles_data, draw_profiles, place=60))
