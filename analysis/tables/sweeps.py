"""The sweeps table: the means of several sweeps side by side, over the runs that all of them have."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.entries import NAN, SUBJECTS
from analysis.frame import RUN
from analysis.measures import measure, row_error, runs_of, settings_besides_draws
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import change, decimal, interval, known, of
from analysis.tables.table import Table
from dapa_exp.evaluate.statistics import mean_over_groups

COLUMNS = {
    **{f"{subject}_dsr": (f"DSR {subject} (%)", 100.0, 1) for subject in SUBJECTS},
    "gain_points": ("gain (points)", 1.0, 1),
    "units_found": ("units found", 1.0, 1),
    "parameters_percent": ("parameters moved (%)", 1.0, 2),
    "over_refusal_change_points": ("over-refusal change (points)", 1.0, 1),
    "perplexity_change": ("perplexity change", 1.0, 3),
    "reasoning_change_points": ("reasoning change (points)", 1.0, 1),
    "queries": ("search queries", 1.0, 1),
    "seconds": ("search seconds", 1.0, 1),
}
"""The heading, scale and decimals of each row, by column of the measured runs."""
MOST_SETTINGS = 12
LONGEST_VALUE = 40


Mean = tuple[float, float, float]
"""A mean and the bounds of its 95 % interval; NaN where unknown."""
UNKNOWN = (NAN,) * 3


def has_sweeps(frame: pd.DataFrame) -> bool:
    """Whether there are several sweeps, and runs that all of them have."""
    return frame["experiment"].nunique() > 1 and not _shared(frame)[1][0].empty


def sweeps_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each number and a column for each sweep; with two sweeps, their difference."""
    names = list(frame["experiment"].unique())
    key, sweeps = _shared(frame)
    rows = [_row(column, sweeps, names) for column in COLUMNS if any(runs[column].notna().any() for runs in sweeps)]
    states = frame.drop_duplicates("identity").groupby("experiment", observed=True)["state"]
    counts = {name: of((states.get_group(name) == "done").sum(), len(states.get_group(name))) for name in names}
    difference = "Difference: the second sweep minus the first, paired by run. " if len(names) == 2 else ""
    return Table(
        name="sweeps",
        title="Sweeps side by side",
        caption=f"Means over the {len(sweeps[0])} runs that all sweeps have (the same {', '.join(key)}), with 95 %"
        f" intervals over teachers. {difference}Runs with equal identities count once, in the sweep named first."
        f" {_differing(frame, names)}",
        display=pd.DataFrame([{"mean over shared runs": "runs done", **counts}, *map(_print, rows)]).fillna(""),
        numbers=pd.DataFrame([_numbers(row) for row in rows]),
        rules=[1],
    )


def _shared(frame: pd.DataFrame) -> tuple[list[str], list[pd.DataFrame]]:
    """The settings that tell the runs of a sweep apart; and of each sweep, the runs that all sweeps have, by these.

    Runs of a sweep with the same settings are averaged.
    """
    runs = runs_of(frame)
    vary = {name for _, own in runs.groupby("experiment") for name in settings_besides_draws(own)} - {"experiment"}
    key = ["pair", *(name for name in map(str, runs) if name in vary)]
    measured = measure(frame, [name for name in key if name not in RUN])
    done = measured[measured["state"] == "done"].assign(place=measured[key].astype(str).agg(" ".join, axis=1))
    bounds = [f"{subject}_dsr_{end}" for subject in SUBJECTS for end in ("low", "high")]
    how = {**dict.fromkeys([*COLUMNS, *bounds], "mean"), "teacher": "first"}
    sweeps = [
        done[done["experiment"] == name].groupby("place", sort=False).agg(how) for name in frame["experiment"].unique()
    ]
    shared = [place for place in sweeps[0].index if all(place in own.index for own in sweeps)]
    return key, [own.loc[shared] for own in sweeps]


def _row(column: str, sweeps: list[pd.DataFrame], names: list[str]) -> dict[str, Any]:
    means = {name: _mean(runs[column], runs, _floor(runs, column)) for name, runs in zip(names, sweeps, strict=True)}
    if len(sweeps) != 2:
        return {"column": column, "means": means}
    first, second = sweeps
    floor = (_floor(first, column) ** 2 + _floor(second, column) ** 2) ** 0.5
    return {"column": column, "means": means, "difference": _mean(second[column] - first[column], first, floor)}


def _mean(values: pd.Series[float], runs: pd.DataFrame, floor: float) -> Mean:
    values = values.dropna()
    if values.empty:
        return UNKNOWN
    found = mean_over_groups(values.tolist(), runs.loc[values.index, "teacher"].tolist(), floor)
    low, high = (NAN if bound is None else bound for bound in (found.low, found.high))
    return found.value, low, high


def _floor(runs: pd.DataFrame, column: str) -> float:
    """The standard error of a mean DSR by the report rows; 0 of other numbers."""
    return row_error(runs, f"{column}_") if column.endswith("_dsr") else 0.0


def _print(row: dict[str, Any]) -> dict[str, str]:
    heading, scale, digits = COLUMNS[row["column"]]
    shown = {name: _share(*mean) if scale == 100 else decimal(mean[0], digits) for name, mean in row["means"].items()}
    cells = {"mean over shared runs": heading, **shown}
    if "difference" in row:
        value, low, high = (scale * part for part in row["difference"])
        cells["difference [95 %]"] = change(value, low, high, digits)
    return cells


def _share(value: float, low: float, high: float) -> str:
    return interval(value, max(0.0, low), min(1.0, high)) if known(low) else interval(value, low, high)


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    named = row["means"] | ({"difference": row["difference"]} if "difference" in row else {})
    parts = ("", "_low", "_high")
    return {"number": row["column"]} | {
        f"{name}{part}": value for name, mean in named.items() for part, value in zip(parts, mean, strict=True)
    }


def _differing(frame: pd.DataFrame, names: list[str]) -> str:
    """A sentence on the settings that are constant within each sweep and differ between sweeps."""
    runs = runs_of(frame)
    found = []
    for key in [name for name in map(str, runs) if name not in RUN]:
        values = [runs.loc[runs["experiment"] == name, key].unique() for name in names]
        if all(len(of_one) == 1 for of_one in values) and len({str(of_one[0]) for of_one in values}) > 1:
            shown = [str(of_one[0]) or "none" for of_one in values]
            if all(len(text) <= LONGEST_VALUE for text in shown):
                found.append(f"{key} ({' | '.join(shown)})")
            else:
                found.append(key)
    if not found:
        return "No setting differs that is the same within each sweep."
    others = f", and {len(found) - MOST_SETTINGS} more" if len(found) > MOST_SETTINGS else ""
    return f"Settings that differ: {', '.join(found[:MOST_SETTINGS])}{others}."


TABLES.register("sweeps", TableMaker(5, has_sweeps, sweeps_table))
