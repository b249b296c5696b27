"""The search traces: DSR of each query, and the smallest passing set so far, by query."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, any_made_here, column_figure, light_grid
from analysis.measures import done_of, measure
from analysis.registry import FIGURES, FigureMaker


def search_traces_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each query of each search: `dsr`, and `smallest`, the size of the smallest passing set so far.

    Both are in percent; sizes are percentages of all units. Searches without a bar have no rows.
    """
    done = done_of(frame)
    text = dict.fromkeys(("identity", "key"), "object")
    asked = {name: done[done["metric"] == name].astype(text) for name in ("query_dsr", "query_units")}
    columns = {name: rows.set_index(["identity", "key"])["value"] for name, rows in asked.items()}
    runs = measure(done)
    runs["label"] = _labels(runs)
    data = pd.DataFrame(columns).reset_index(names=["identity", "query"])
    data = data.merge(runs[["identity", "label", "bar", "units_total", "made_here"]], on="identity")
    data = data[data["bar"].notna()].astype({"query": int}).sort_values(["label", "identity", "query"])
    size = 100 * data["query_units"] / data["units_total"]
    data["smallest"] = size.where(data["query_dsr"] >= data["bar"]).groupby(data["identity"]).cummin()
    data["smallest"] = data.groupby("identity")["smallest"].ffill()
    data["dsr"] = 100 * data["query_dsr"]
    return data[["identity", "label", "query", "dsr", "smallest", "made_here"]].reset_index(drop=True)


def draw_search_traces(data: pd.DataFrame) -> Figure:
    """A figure with two panels: a dot for each query; and for each search a line of its smallest passing set."""
    last = data.groupby("identity")[["query", "smallest"]].last().median()
    found = "" if pd.isna(last["smallest"]) else f" leave {last['smallest']:.0f} % of the units"
    title = f"{data['identity'].nunique()} searches{found} after {last['query'] + 1:.0f} queries (medians)"
    figure = column_figure(4.0, title, any_made_here(data))
    above, below = figure.subplots(2, 1, sharex=True)
    for (label, searches), colour in zip(data.groupby("label", sort=False), COLOURS * 9, strict=False):
        above.plot(searches["query"], searches["dsr"], ".", color=colour, ms=3, alpha=0.5, label=label)
        for _, search in searches.groupby("identity", sort=False):
            below.step(search["query"], search["smallest"], where="post", color=colour, lw=0.8, alpha=0.6)
            below.plot(search["query"].iloc[-1], search["smallest"].iloc[-1], ".", color=colour, ms=4)
    above.set_ylabel("DSR of the query, %")
    below.set_ylabel("smallest set that passed,\n% of the units")
    below.set_xlabel("query")
    for axis in (above, below):
        axis.set_ylim(-4, 104)
        light_grid(axis, "both")
        axis.locator_params(axis="x", integer=True)
    if data["label"].nunique() > 1:
        figure.legend(loc="outside lower center", ncols=3, markerscale=2)
    return figure


def _labels(runs: pd.DataFrame) -> pd.Series[str]:
    """The settings in which searches differ, in one text."""
    vary = [name for name in ("granularity", "search") if runs[name].nunique() > 1] or ["search"]
    return runs[vary].agg(" ".join, axis=1)


FIGURES.register("search_traces", FigureMaker(search_traces_data, draw_search_traces, place=50))
