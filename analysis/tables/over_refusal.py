"""The over-refusal table: the share of harmless requests that student, hybrid and teacher refuse, run by run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.frame import SUBJECTS
from analysis.measures import done_of, runs_of, settings_that_tell_apart
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import change, interval, known, number, p_value
from analysis.tables.table import NOT_MEASURED, Table

PARTS = {"": "value", "_low": "low", "_high": "high"}


def has_over_refusal(frame: pd.DataFrame) -> bool:
    """Whether any run counted over-refusal, or says why its judge cannot."""
    return bool(frame["metric"].isin(["over_refusal", "no_over_refusal"]).any())


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
    names = ["identity", "subject", "against", "set", "judge", "metric"]
    metrics = ("over_refusal", "no_over_refusal", "over_refusal_change", "over_refusal_p")
    rows = done.loc[done["metric"].isin(metrics), [*names, "headline", "value", "low", "high", "n", "text"]]
    by_run = dict(list(rows.astype(dict.fromkeys(names, "object")).groupby("identity", sort=False)))
    for run in ({str(name): value for name, value in run.items()} for run in runs.to_dict("records")):
        found = by_run.get(run["identity"], rows.head(0))
        blind = found[found["metric"] == "no_over_refusal"]
        whys = dict(zip(blind["judge"], blind["text"], strict=True))
        for (where, judge), of in found[found["metric"] == "over_refusal"].groupby(["set", "judge"], sort=False):
            compared = found[found["against"] == "student"] if of["headline"].all() else found.head(0)
            row = run | {"set": where, "judge": judge, "n": of["n"].max(), "why": whys.get(judge, NOT_MEASURED)}
            for end, part in PARTS.items():
                row |= {f"{subject}{end}": of.loc[of["subject"] == subject, part].mean() for subject in SUBJECTS}
                row[f"change{end}"] = 100 * compared.loc[compared["metric"] == "over_refusal_change", part].mean()
            yield row | {"p": compared.loc[compared["metric"] == "over_refusal_p", "value"].mean()}
        counted = set(found.loc[found["metric"] == "over_refusal", "judge"])
        for judge in [judge for judge in whys if judge not in counted]:
            yield run | {"set": "", "judge": judge, "why": whys[judge]}


def _print(row: dict[str, Any], settings: list[str]) -> dict[str, str]:
    cells = {name: str(row[name]) for name in ("pair", *settings, "set", "judge")}
    part = {
        name: row.get(name, float("nan")) for of in (*SUBJECTS, "change") for name in (of, f"{of}_low", f"{of}_high")
    }
    cells |= {subject: interval(part[subject], part[f"{subject}_low"], part[f"{subject}_high"]) for subject in SUBJECTS}
    cells["change, points [95 %]"] = change(part["change"], part["change_low"], part["change_high"])
    cells["p"] = p_value(row.get("p", float("nan")))
    return cells | {"requests": number(row["n"]) if known(row.get("n")) else ""}


TABLES.register("over_refusal", TableMaker(65, has_over_refusal, over_refusal_table))
