"""The table of shared sets: does a set that was found on one student serve the others of its teacher?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.registry import TABLES, TableMaker
from analysis.sets import shared_sets
from analysis.tables.cells import DASH, interval, number, of
from analysis.tables.table import Table

KEYS = ["teacher", "granularity", "dataset", "found_on"]


def has_shared_sets(frame: pd.DataFrame) -> bool:
    """Whether a set that was found on one student was transplanted into another."""
    return bool(len(shared_sets(frame)))


def shared_sets_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each found set, and the DSR of each student's hybrid as a column."""
    numbers = shared_sets(frame)
    students = list(dict.fromkeys(numbers["pair"]))
    groups = numbers.groupby(KEYS, sort=False)
    return Table(
        name="shared_sets",
        title="Does a set that was found on one student serve the others of its teacher?",
        caption=(
            "DSR of the hybrid of each student (columns) with the units that were found on the student of the row, in"
            " percent, with 95 % intervals. * reaches the student's own bar on the search rows. Serves: students whose"
            " bar it reaches. Queries: of the search that found the set. Trying a set on a student takes one query, and"
            " two for the bar."
        ),
        display=pd.DataFrame([_row(str(keys[-1]), group, students) for keys, group in groups]),
        numbers=numbers,
        labels=1,
    )


def _row(found_on: str, group: pd.DataFrame, students: list[str]) -> dict[str, str]:
    by = {row["pair"]: row for row in group.to_dict("records")}
    first = next(iter(by.values()))
    return {
        "found on": found_on,
        "units": of(first["units_found"], first["units_total"]),
        "queries": number(first["queries"]),
        "serves": of(float(group["passes"].sum()), len(by)),
        **{student: _cell(by[student]) if student in by else DASH for student in students},
    }


def _cell(row: dict[Any, Any]) -> str:
    shown = interval(row["hybrid_dsr"], row["hybrid_dsr_low"], row["hybrid_dsr_high"])
    return f"{shown}*" if row["passes"] else shown


TABLES.register("shared_sets", TableMaker(96, has_shared_sets, shared_sets_table))
