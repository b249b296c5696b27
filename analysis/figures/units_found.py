"""The heat map of units: which layers and which of their parts the searches found, family by family."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.style import COLOURS, any_made_here, column_figure
from analysis.granularities import in_order
from analysis.measures import Cells, done_of, measure
from analysis.registry import FIGURES, FigureMaker

UNIT = re.compile(r"layers\.(\d+)(?:\.(?:.+\.)?([^.]+))?")
"""The layer and the last part of a unit's name: 3 and gate_proj of layers.3.mlp.gate_proj."""
SHADES = LinearSegmentedColormap.from_list("shades", [to_rgba(COLOURS[0], 0.0), to_rgba(COLOURS[0], 1.0)])
"""From transparent to blue, so that it can be read on a page of any colour."""


def units_found_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each family, part of a layer and layer: the share of runs whose found set contains this unit.

    Models of one family that differ in their number of layers are families of their own. Runs without a found set do
    not count.
    """
    done = done_of(frame)
    runs = measure(done).assign(layers=Cells(done).number("num_layers"))
    runs = runs[(runs["status"] != "no_gain") & runs["layers"].notna()]
    found = [
        (run["family"], run["layers"], run["granularity"], place[2] or run["granularity"], int(place[1]))
        for run in runs.to_dict("records")
        for unit in run["units"].split()
        if (place := UNIT.fullmatch(unit)) and int(place[1]) < run["layers"]
    ]
    if not found:
        return pd.DataFrame()
    names = ["family", "layers", "granularity"]
    counted = pd.DataFrame(found, columns=[*names, "part", "layer"]).value_counts().rename("times").reset_index()
    totals = runs.groupby(names, sort=False).agg(runs=("identity", "size"), made_here=("made_here", "any"))
    data = counted.merge(totals.reset_index(), on=names)
    data["share"] = data["times"] / data["runs"]
    return data.sort_values([*names, "part", "layer"], ignore_index=True).astype({"layers": int, "layer": int})


def draw_units_found(data: pd.DataFrame) -> Figure:
    """A figure with a panel for each family: its rows are parts of a layer, its columns layers."""
    panels = [panel for _, panel in data.groupby(["family", "layers"], sort=False)]
    rows = [len(panel.groupby(["granularity", "part"])) for panel in panels]
    title = "Which units the searches found"
    figure = column_figure(1.1 + 0.17 * sum(rows) + 0.42 * len(rows), title, any_made_here(data))
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _panel(axis, panel)
    axes[-1].set_xlabel("layer")
    shades = [Patch(facecolor=SHADES(share / 100), label=f"{share} %") for share in (25, 50, 75, 100)]
    figure.legend(handles=shades, loc="outside lower center", ncols=4, title="found sets (n) that have the unit")
    return figure


def _panel(axis: Axes, panel: pd.DataFrame) -> None:
    layers = int(panel["layers"].iloc[0])
    order = {part: i for i, part in enumerate(in_order(panel["part"].unique()))}
    rows = [row for _, row in panel.assign(place=panel["part"].map(order)).groupby(["place", "granularity"])]
    values = np.zeros((len(rows), layers))
    for of_row, row in zip(values, rows, strict=True):
        of_row[row["layer"]] = 100 * row["share"]
    axis.pcolormesh(values, cmap=SHADES, vmin=0, vmax=100, edgecolors="#88888855", linewidth=0.4)
    axis.invert_yaxis()
    axis.set_yticks(np.arange(len(rows)) + 0.5, [_row_name(row.iloc[0]) for row in rows])
    every = range(0, layers, max(1, layers // 12))
    axis.set_xticks([layer + 0.5 for layer in every], [str(layer) for layer in every])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(f"{panel['family'].iloc[0]}, {layers} layers", loc="left")


def _row_name(row: pd.Series[str]) -> str:
    of = "" if row["part"] == row["granularity"] else f" of {row['granularity']}"
    return f"{row['part']}{of} (n={row['runs']})"


FIGURES.register("units_found", FigureMaker(units_found_data, draw_units_found, place=10))
