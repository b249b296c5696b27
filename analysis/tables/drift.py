"""The drift table: transplanted, tuned, and transplanted again, round after round."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.measures import PARTS, Cells, done_of, runs_of
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import DASH, arrow, interval, known, of, percent
from analysis.tables.table import Table, new_blocks


def drift_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each round of each pair. Round 0 is the run that found the set."""
    rounds = _rounds(done_of(frame))
    numbers = rounds.sort_values(["pair", "tuned", "round"], ignore_index=True)
    return Table(
        name="drift",
        title="Does the hybrid keep its refusals if it is tuned, and transplanted again?",
        caption=(
            "Each round tunes the hybrid of the round before to answer as the first student did: all weights, only"
            " those of the found units (inside), or only the others (outside). Then the units are transplanted again."
            " Put back: parameters changed by this. Equal: tensors equal to the first hybrid's, bit for bit."
        ),
        display=pd.DataFrame([_print(row) for row in numbers.to_dict("records")]),
        numbers=numbers,
        labels=3,
        rules=new_blocks(numbers, ["pair", "tuned"]),
    )


def _rounds(done: pd.DataFrame) -> pd.DataFrame:
    """The rounds, and the runs that they began with, once for each kind of tuning."""
    cells, rows = Cells(done), runs_of(done, [])[["pair", "granularity"]].copy()
    rows["round"] = cells.number("drift_round")
    rows["tuned"] = cells.text("drift_tuned")
    rows["pair"] = cells.text("drift_pair").fillna(rows["pair"])
    rows["equal"] = cells.number("drift_equal_tensors")
    rows["tensors"] = cells.number("drift_equal_tensors", "n")
    rows["put_back"] = cells.number("parameters_changed_percent") / 100
    rows["digest"] = cells.text("transplant_digest")
    for subject in ("student", "hybrid"):
        for end, part in PARTS.items():
            rows[f"{subject}_dsr{end}"] = cells.number("dsr", part, subject=subject)
        rows[f"{subject}_skill"] = cells.number("skill", subject=subject, key="accuracy")
        rows[f"{subject}_over_refusal"] = cells.number("over_refusal", subject=subject)
    later = rows[rows["round"].notna()]
    begun = later[["pair", "granularity", "tuned"]].drop_duplicates()
    first = rows[rows["round"].isna()].drop(columns="tuned").merge(begun, on=["pair", "granularity"])
    every = pd.concat([first.assign(round=0.0), later], ignore_index=True)
    every["same_units"] = every.groupby(["pair", "granularity", "tuned"])["digest"].transform("nunique") == 1
    return every.astype({"round": int})


def _print(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "pair": row["pair"],
        "tuned": row["tuned"],
        "round": str(row["round"]),
        "DSR student (%)": interval(row["student_dsr"], row["student_dsr_low"], row["student_dsr_high"]),
        "DSR hybrid (%)": interval(row["hybrid_dsr"], row["hybrid_dsr_low"], row["hybrid_dsr_high"]),
        "skill (%)": arrow(row["student_skill"], row["hybrid_skill"]),
        "over-refusal (%)": arrow(row["student_over_refusal"], row["hybrid_over_refusal"]),
        "put back (%)": percent(row["put_back"]),
        "units the teacher's": "yes" if row["same_units"] else "no",
        "equal": of(row["equal"], row["tensors"]) if known(row["equal"]) else DASH,
    }


TABLES.register("drift", TableMaker(94, measured("drift_round"), drift_table))
