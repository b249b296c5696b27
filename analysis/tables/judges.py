"""The judges' table: the DSR on every harmful prompt set by every judge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.entries import SUBJECTS
from analysis.measures import by_settings, done_of, mean_bounds, row_error
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import interval, known, percent
from analysis.tables.table import Table, new_blocks


def has_judges(frame: pd.DataFrame) -> bool:
    """Whether any run has more judges or harmful prompt sets than the main table shows."""
    return len(_seen(frame)) > 1


def judges_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each harmful prompt set, judge and setting that varies: DSRs of one run, or means."""
    done = done_of(frame)
    settings, groups = by_settings(done)
    rows = [keys | row for keys, group in groups for row in _judged(group)]
    numbers = pd.DataFrame(rows)
    single = done["identity"].nunique() == 1
    return Table(
        name="judges",
        title="Defense success rate by prompt set and judge",
        caption="In percent"
        + (
            ", the hybrid's with its 95 % interval."
            if single
            else ", means over the n runs that have it, the hybrid's with an interval over teachers."
        )
        + " Failed: verdicts that are missing, of all three models.",
        display=pd.DataFrame([_print(row, settings, single) for row in rows]),
        numbers=numbers,
        labels=2 + len(settings),
        rules=new_blocks(numbers, settings),
        gaps=["the judge judged no answer"] * len(rows),
    )


def _seen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the frame with the hybrids' DSRs by prompt set and judge."""
    rows = frame[(frame["metric"] == "dsr") & (frame["subject"] == "hybrid")]
    return rows[["set", "judge"]].astype("object").drop_duplicates()


def _judged(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    for rows, judge in _seen(group).itertuples(index=False):
        view = group[(group["set"] == rows) & (group["judge"] == judge)]
        dsr, failed = view[view["metric"] == "dsr"], view[(view["metric"] == "outcome") & (view["key"] == "failed")]
        of = {subject: dsr[dsr["subject"] == subject] for subject in SUBJECTS}
        hybrid = of["hybrid"]
        low, high = (
            (hybrid["low"].mean(), hybrid["high"].mean())
            if len(hybrid) == 1
            else mean_bounds(hybrid["value"], hybrid["teacher"], row_error(hybrid, ""))
        )
        yield {
            "rows": rows,
            "judge": judge,
            **{subject: found["value"].mean() for subject, found in of.items()},
            "hybrid_low": float(np.clip(low, 0.0, 1.0)),
            "hybrid_high": float(np.clip(high, 0.0, 1.0)),
            "failed": failed["value"].sum(),
            "n": int(hybrid["value"].notna().sum()),
        }


def _print(row: dict[str, object], settings: list[str], single: bool) -> dict[str, str]:
    shares = {name: float(row[name]) for name in (*SUBJECTS, "hybrid_low", "hybrid_high")}  # type: ignore[arg-type]
    cells = {"prompts": str(row["rows"]), "judge": str(row["judge"])} | {name: str(row[name]) for name in settings}
    cells |= {subject: percent(shares[subject]) for subject in SUBJECTS}
    if known(shares["hybrid_low"]):
        cells["hybrid"] = interval(shares["hybrid"], shares["hybrid_low"], shares["hybrid_high"])
    return cells | {"failed": f"{row['failed']:.0f}"} | ({} if single else {"n": str(row["n"])})


TABLES.register("judges", TableMaker(50, has_judges, judges_table))
