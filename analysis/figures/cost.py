"""The cost bars: the seconds of a run, by stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, any_made_here, column_figure, light_grid
from analysis.measures import done_of, runs_of
from analysis.registry import FIGURES, FigureMaker


def cost_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of run and stage: mean seconds over the runs; no rows for fewer than two runs."""
    done = done_of(frame)
    runs = runs_of(done, [])
    if len(runs) < 2:
        return runs.head(0)
    vary = [name for name in ("granularity", "search", "dataset") if runs[name].nunique() > 1] or ["family"]
    runs["label"] = runs[vary].agg(" ".join, axis=1)
    rows = done.loc[done["metric"] == "cost_seconds", ["identity", "key", "value"]]
    rows = rows.astype({"identity": "object", "key": "object"})
    rows = rows.merge(runs[["identity", "label", "made_here"]], on="identity")
    totals = runs.groupby("label")["identity"].size().rename("runs")
    by = rows.groupby(["label", "key"], sort=False).agg(seconds=("value", "sum"), made_here=("made_here", "any"))
    data = by.reset_index().rename(columns={"key": "stage"}).merge(totals.reset_index(), on="label")
    return data.assign(seconds=data["seconds"] / data["runs"])


def draw_cost(data: pd.DataFrame) -> Figure:
    """A figure with a bar for each kind of run, made of its stages, the most expensive run last."""
    total = data.groupby("label")["seconds"].sum().sort_values()
    figure = column_figure(1.3 + 0.2 * len(total), "Where the time of a run goes", any_made_here(data))
    axis = figure.subplots()
    left = np.zeros(len(total))
    for i, stage in enumerate(data["stage"].unique()):
        colour, hatch = COLOURS[i % len(COLOURS)], "////" if i >= len(COLOURS) else None
        seconds = data[data["stage"] == stage].set_index("label")["seconds"].reindex(total.index).fillna(0.0)
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "lw": 0, "height": 0.7}
        axis.barh(range(len(total)), seconds, left=left, label=stage, **look)
        left += seconds.to_numpy()
    counts = data.drop_duplicates("label").set_index("label")["runs"]
    axis.set_yticks(range(len(total)), [f"{label} (n={counts[label]})" for label in total.index])
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("mean seconds a run")
    light_grid(axis, "x")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


FIGURES.register("cost", FigureMaker(cost_data, draw_cost, place=40))
