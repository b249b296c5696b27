"""The agreement matrix: how far each two judges agree on the hybrids' answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import any_made_here, column_figure
from analysis.figures.units_found import SHADES
from analysis.measures import done_of
from analysis.registry import FIGURES, FigureMaker


def agreement_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each two judges: agreement and kappa on the hybrids' answers to harmful prompts, means over runs.

    For records that do not tell the models apart, on all models' answers.
    """
    rows = done_of(frame)
    rows = rows[rows["metric"].isin(["agreement", "kappa"]) & rows["subject"].isin(["", "hybrid"])]
    text = dict.fromkeys(("identity", "metric", "subject", "judge", "key"), "object")
    rows = rows.astype(text).sort_values("subject", ascending=False, kind="stable")
    rows = rows.drop_duplicates(["identity", "metric", "judge", "key"])
    names = ["judge", "key"]
    data = rows.groupby([*names, "metric"], sort=False)["value"].mean().unstack()
    data = data.reindex(columns=["agreement", "kappa"])
    data["runs"] = rows[rows["metric"] == "agreement"].groupby(names)["identity"].nunique()
    data["made_here"] = bool(rows["made_here"].any())
    return data.reset_index().rename(columns={"judge": "one", "key": "other"}).rename_axis(columns=None)


def draw_agreement(data: pd.DataFrame) -> Figure:
    """A figure with a cell for each two judges."""
    judges = list(dict.fromkeys([*data["one"], *data["other"]]))
    figure = column_figure(1.1 + 0.5 * len(judges), "How far judges agree on the hybrids' answers", any_made_here(data))
    axis = figure.subplots()
    values = np.full((len(judges), len(judges)), np.nan)
    for row in data.to_dict("records"):
        for one, other in ((row["one"], row["other"]), (row["other"], row["one"])):
            x, y = judges.index(other), judges.index(one)
            values[y, x] = 100 * row["agreement"]
            kappa = "" if pd.isna(row["kappa"]) else f"\nκ = {row['kappa']:.2f}"
            ink = "white" if values[y, x] > 60 else "black"
            axis.text(x + 0.5, y + 0.5, f"{values[y, x]:.1f} %{kappa}", ha="center", va="center", color=ink)
    axis.pcolormesh(values, cmap=SHADES, vmin=0, vmax=100, edgecolors="#88888855", linewidth=0.4)
    axis.invert_yaxis()
    axis.set_xticks(np.arange(len(judges)) + 0.5, judges)
    axis.set_yticks(np.arange(len(judges)) + 0.5, judges)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


FIGURES.register("agreement_matrix", FigureMaker(agreement_data, draw_agreement, place=70))
