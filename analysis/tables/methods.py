"""The methods table: what replaces a unit's tensors, compared over the pairs that all methods have."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.measures import mean_bounds, mean_dsr_bounds, measure, runs_of
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import change, decimal, interval, number
from analysis.tables.table import Table

METHOD = "transplant.method"
CHANGES = {
    "gain_points": ("gain, points", 1),
    "over_refusal_change_points": ("over-refusal, points", 1),
    "perplexity_change": ("perplexity", 3),
    "reasoning_change_points": ("reasoning, points", 1),
}
"""The heading and decimals of each change from student to hybrid, by column of the measured runs."""


def has_methods(frame: pd.DataFrame) -> bool:
    """Whether runs that are done differ in how tensors are replaced."""
    done = frame[(frame["state"] == "done") & (frame["metric"] == "setting")]
    settings = done[done["key"].astype("string").str.startswith("transplant.")]
    return bool((settings.groupby("key", observed=True)["text"].nunique() > 1).any())


def methods_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each method and its settings: means over the pairs that all rows have."""
    names = _names(frame)
    measured = measure(frame, names)
    groups = [group for _, group in measured[measured["state"] == "done"].groupby(names, sort=False)]
    shared = set.intersection(*(set(group["pair"]) for group in groups))
    rows = [{name: group[name].iloc[0] for name in names} | _means(group, shared) for group in groups]
    return Table(
        name="methods",
        title="Does it matter how tensors are replaced?",
        caption=f"Means over the pairs that all rows have ({len(shared)}), each pair by its mean run; changes are from"
        " student to hybrid. Intervals are over teachers; with one teacher, over pairs.",
        display=pd.DataFrame([_print(row, names) for row in rows]),
        numbers=pd.DataFrame(rows),
        labels=len(names),
        gaps=["no pair has all of the methods" if not shared else "not measured"] * len(rows),
    )


def _names(frame: pd.DataFrame) -> list[str]:
    """The method, and the settings in which runs of one method differ."""
    runs = runs_of(frame)
    own = [name for name in map(str, runs) if name.startswith("transplant.") and name != METHOD]
    vary = runs.groupby(METHOD)[own].nunique().gt(1).any()
    return [METHOD, *(name for name in own if vary[name])]


def _means(group: pd.DataFrame, shared: set[str]) -> dict[str, Any]:
    numbers = list(group.select_dtypes("number"))
    of = group[group["pair"].isin(shared)].groupby("pair", sort=False)
    pairs = of[numbers].mean().assign(teacher=of["teacher"].first())
    low, high = mean_dsr_bounds(pairs)
    row: dict[str, Any] = {"runs": len(group), "pairs": len(pairs), "dsr": pairs["hybrid_dsr"].mean()}
    row |= {"dsr_low": low, "dsr_high": high, "parameters_percent": pairs["parameters_percent"].mean()}
    for name in CHANGES:
        low, high = mean_bounds(pairs[name], pairs["teacher"])
        row |= {name: pairs[name].mean(), f"{name}_low": low, f"{name}_high": high}
    return row


def _print(row: dict[str, Any], names: list[str]) -> dict[str, str]:
    cells = {name.removeprefix("transplant."): row[name] for name in names}
    cells["DSR (%)"] = interval(row["dsr"], row["dsr_low"], row["dsr_high"])
    for name, (heading, digits) in CHANGES.items():
        cells[heading] = change(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)
    cells["parameters moved (%)"] = decimal(row["parameters_percent"], 2)
    return cells | {"pairs": number(row["pairs"]), "runs": number(row["runs"])}


TABLES.register("methods", TableMaker(47, has_methods, methods_table))
