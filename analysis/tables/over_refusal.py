"""The over-refusal table: the share of harmless requests that student, hybrid and teacher refuse, run by run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.entries import NAN, SUBJECTS
from analysis.measures import PARTS, done_of, runs_of, settings_that_tell_apart
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import change, interval, known, number, p_value
from analysis.tables.table import NOT_MEASURED, Table


def over_refusal_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each run, set of harmless requests, and judge; also where the judge cannot count it."""
    done = done_of(frame)
    runs = runs_of(done)
    settings = settings_that_tell_apart(runs)
    rows = list(_rows(done, runs[["identity", "pair", *settings]]))
    return Table(
        name="over_refusal",
        title="How many harmless requests are refused?",
        caption="In percent, with 95 % intervals. change: hybrid minus student on the same rows, in points, with"
        " Newcombe's interval; p: exact McNemar test, for each run alone.",
        display=pd.DataFrame([_print(row, settings) for row in rows]),
        numbers=pd.DataFrame(rows).drop(columns="why"),
        labels=1 + len(settings) + 2,
        gaps=[row["why"] for row in rows],
    )


def _rows(done: pd.DataFrame, runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    metrics = ("over_refusal", "no_over_refusal", "over_refusal_change", "over_refusal_p")
    rows = done[done["metric"].isin(metrics) & (done["against"] != "teacher")]
    of_runs: dict[str, list[Any]] = defaultdict(list)
    for row in rows.itertuples(index=False):
        of_runs[str(row.identity)].append(row)
    for run in ({str(name): value for name, value in run.items()} for run in runs.to_dict("records")):
        found = of_runs[str(run["identity"])]
        whys = {row.judge: row.text for row in found if row.metric == "no_over_refusal"}
        counted = [row for row in found if row.metric == "over_refusal"]
        for where, judge in dict.fromkeys((row.set, row.judge) for row in counted):
            of = [row for row in counted if (row.set, row.judge) == (where, judge)]
            compared = {row.metric: row for row in found if row.against and of[0].headline}
            cells = run | {"set": where, "judge": judge, "n": max(row.n for row in of)}
            cells |= _parts({row.subject: row for row in of}, SUBJECTS) | _parts(compared, ["over_refusal_change"], 100)
            p = compared.get("over_refusal_p")
            yield cells | {"p": p.value if p else NAN, "why": whys.get(judge, NOT_MEASURED)}
        for judge in [judge for judge in whys if judge not in {row.judge for row in counted}]:
            yield run | {"set": "", "judge": judge, "why": whys[judge]}


def _parts(rows: dict[str, Any], names: Sequence[str], scale: float = 1) -> dict[str, float]:
    """Value, low and high of each of these rows; NaN where there is no row."""
    ends = {f"{name}{end}": (name, part) for name in names for end, part in PARTS.items()}
    return {
        end.removeprefix("over_refusal_"): scale * getattr(rows[name], part) if name in rows else NAN
        for end, (name, part) in ends.items()
    }


def _print(row: dict[str, Any], settings: list[str]) -> dict[str, str]:
    cells = {name: str(row[name]) for name in ("pair", *settings, "set", "judge")}
    part = {f"{of}{end}": row.get(f"{of}{end}", NAN) for of in (*SUBJECTS, "change") for end in PARTS}
    cells |= {subject: interval(part[subject], part[f"{subject}_low"], part[f"{subject}_high"]) for subject in SUBJECTS}
    cells["change, points [95 %]"] = change(part["change"], part["change_low"], part["change_high"])
    cells["p"] = p_value(row.get("p", NAN))
    return cells | {"requests": number(row["n"]) if known(row.get("n")) else ""}


TABLES.register("over_refusal", TableMaker(65, measured("over_refusal", "no_over_refusal"), over_refusal_table))
