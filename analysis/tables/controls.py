"""The controls table: the found sets beside random sets of as many units, and of as many parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.measures import PARTS, Cells, done_of, mean_bounds, runs_of, settings_that_tell_apart
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import interval, known, of, p_value
from analysis.tables.table import Table

CONTROLS = {"random": "as many units", "random_parameters": "as many parameters"}
"""The heading of each control, by the beginning of its metrics."""


def controls_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each run that measured random sets, and the means over these runs."""
    done = done_of(frame, "random_dsr")
    runs, cells = runs_of(done), Cells(done)
    settings = settings_that_tell_apart(runs)
    numbers = runs[["identity", "pair", "teacher", *settings]].copy()
    for control in CONTROLS:
        for end, part in PARTS.items():
            numbers[f"{control}{end}"] = cells.number(f"{control}_dsr", part, subject="random")
            numbers[f"{control}_found{end}"] = cells.number(f"{control}_found_dsr", part, subject="hybrid")
        numbers[f"{control}_sets"] = cells.number(f"{control}_dsr", "n", subject="random")
        for name in ("reached", "p"):
            numbers[f"{control}_{name}"] = cells.number(f"{control}_{name}", subject="random")
    shown = [control for control in CONTROLS if numbers[control].notna().any()]
    averaged = len(runs) > 1 and not settings
    rows = pd.concat([numbers, _means(numbers)], ignore_index=True) if averaged else numbers
    return Table(
        name="controls",
        title="Do random sets defend as much as the found set?",
        caption="DSR in percent on the report rows, all answers cut at the search's length.\n"
        "95 % intervals: over rows for the found set, over sets for random sets, over teachers for means.\n"
        "reached: random sets that reach the found set's DSR. p: (1 + reached) / (1 + sets), for each run alone.",
        display=pd.DataFrame([_print(row, settings, shown) for row in rows.to_dict("records")]),
        numbers=rows.drop(columns="teacher"),
        labels=1 + len(settings),
        rules=[len(runs)] if averaged else [],
        gaps=["an older record, or all units are of one size"] * len(rows),
    )


def _means(numbers: pd.DataFrame) -> pd.DataFrame:
    row: dict[str, Any] = {"pair": f"mean (n={len(numbers)})"}
    for name in (f"{control}{what}" for control in CONTROLS for what in ("", "_found")):
        row[name] = numbers[name].mean()
        row[f"{name}_low"], row[f"{name}_high"] = mean_bounds(numbers[name].rename(f"{name}_dsr"), numbers["teacher"])
    return pd.DataFrame([row])


def _print(row: dict[Any, Any], settings: list[str], shown: list[str]) -> dict[str, str]:
    cells = {"pair": str(row["pair"])} | {name: str(row[name]) if known(row[name]) else "" for name in settings}
    cells["found set"] = _dsr(row, "random_found")
    for control in shown:
        cells[CONTROLS[control]] = _dsr(row, control)
        if known(row["identity"]):
            cells[f"reached, {CONTROLS[control]}"] = of(row[f"{control}_reached"], row[f"{control}_sets"])
            cells[f"p, {CONTROLS[control]}"] = p_value(row[f"{control}_p"])
        else:
            cells |= {f"{name}, {CONTROLS[control]}": "" for name in ("reached", "p")}
    return cells


def _dsr(row: dict[Any, Any], name: str) -> str:
    low, high = (float(np.clip(row[f"{name}_{end}"], 0.0, 1.0)) for end in ("low", "high"))
    return interval(row[name], low, high)


TABLES.register("controls", TableMaker(45, measured("random_dsr"), controls_table))
