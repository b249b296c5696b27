"""The attacked table: the DSR on the plain report rows beside the DSR with published jailbreaks around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.entries import SUBJECTS
from analysis.measures import done_of, runs_of
from analysis.registry import TABLES, TableMaker
from analysis.tables.by_run import by_run
from analysis.tables.cells import SIGNIFICANT, decimal, interval, star
from analysis.tables.table import Table, new_blocks

PLAIN = "plain"
TESTS = [f"{subject}_p" for subject in SUBJECTS]


def has_attacks(frame: pd.DataFrame) -> bool:
    """Whether any run asked its report rows under attack."""
    return bool((frame["against"] == PLAIN).any())


def attacked_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each run and attack, the plain rows first; then means over runs with equal settings."""
    done = attacked_runs(frame)
    found = by_run(done, attacked_numbers, "prompts", SUBJECTS, TESTS)
    return Table(
        name="attacked",
        title="Defense success rate under published jailbreaks",
        caption=(
            "In percent, with 95 % intervals; means have intervals over teachers. Points: under attack minus plain, on"
            f" the same rows. * p < {SIGNIFICANT}, exact McNemar, Holm-corrected over the table's {found.tests} tests."
            " No attack is generated or optimised, so others may do more."
        ),
        display=pd.DataFrame([_print(row, found.settings) for row in found.rows.to_dict("records")]),
        numbers=found.rows,
        labels=2 + len(found.settings),
        rules=new_blocks(found.rows, ["pair", *found.settings]),
    )


def attacked_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the finished runs that have attacks."""
    done = done_of(frame)
    return done[done["identity"].isin(done.loc[done["against"] == PLAIN, "identity"])]


def attacked_numbers(done: pd.DataFrame, names: list[str]) -> Iterator[dict[str, Any]]:
    """For each run, and the plain rows and each attack: DSRs and their changes. `names` are columns of `runs_of`."""
    for run in runs_of(done).to_dict("records"):
        of = done[done["identity"] == run["identity"]]
        judge = of.loc[(of["metric"] == "dsr") & of["headline"], "judge"].iloc[0]
        tested = of[of["against"] == PLAIN]
        for rows in ["report", *dict.fromkeys(tested["set"].astype("object"))]:
            row = {name: run[name] for name in names} | {"prompts": PLAIN if rows == "report" else rows}
            for subject in SUBJECTS:
                where = (of["set"] == rows) & (of["subject"] == subject)
                dsr = of[where & (of["metric"] == "dsr") & (of["judge"] == judge)].iloc[0]
                row |= {subject: dsr["value"], f"{subject}_low": dsr["low"], f"{subject}_high": dsr["high"]}
                found = tested[(tested["set"] == rows) & (tested["subject"] == subject)]
                for name in ("change", "p"):
                    row[f"{subject}_{name}"] = found.loc[found["metric"] == f"dsr_{name}", "value"].mean()
            yield row | {"n": int(of.loc[(of["set"] == rows) & (of["metric"] == "dsr"), "n"].max())}


def _print(row: dict[Any, Any], settings: list[str]) -> dict[str, str]:
    shown = {name: "" if pd.isna(row[name]) else str(row[name]) for name in settings}
    cells = {"pair": str(row["pair"]), **shown, "around the request": str(row["prompts"])}
    for subject in SUBJECTS:
        cells[f"DSR {subject}"] = interval(*(row[f"{subject}{part}"] for part in ("", "_low", "_high")))
        mark = star(row.get(f"{subject}_p_holm"))
        cells[f"points {subject}"] = decimal(100 * row[f"{subject}_change"], sign=True) + mark
    return cells


TABLES.register("attacked", TableMaker(52, has_attacks, attacked_table))
