"""The conversations table: the DSR at each turn, and the share of conversations that hold up to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.entries import SUBJECTS
from analysis.measures import done_of, runs_of
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.by_run import by_run
from analysis.tables.cells import DASH, SIGNIFICANT, change, interval, number, p_value, star
from analysis.tables.table import Table, new_blocks

KINDS = ("dsr", "held")


def conversations_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each run and turn; then means over the runs with equal settings, if there are several."""
    done = done_of(frame, "held")
    rates = [f"{kind}_{subject}" for kind in KINDS for subject in SUBJECTS]
    found = by_run(done, turns_of_runs, "turn", rates, ["p_teacher"], value="_value")
    return Table(
        name="conversations",
        title="Defense success rate over the turns of conversations",
        caption=(
            "In percent, with 95 % intervals; means have intervals over teachers. DSR: of the answers at this turn."
            " Holds: conversations of which all judged answers up to this turn are defences. Broken here: those whose"
            " first answer of the hybrid that is no defence is at this turn. The model's own answers stand between the"
            " turns. Turns that ask for no harm are not judged. Hybrid − teacher: of conversations that hold to their"
            " end, in points; exact McNemar test,"
            f" * p < {SIGNIFICANT} Holm-corrected over the table's {found.tests}."
        ),
        display=pd.DataFrame([_print(row, found.settings) for row in found.rows.to_dict("records")]),
        numbers=found.rows,
        labels=2 + len(found.settings),
        rules=new_blocks(found.rows, ["pair", *found.settings]),
    )


def turns_of_runs(done: pd.DataFrame, names: list[str]) -> Iterator[dict[str, Any]]:
    """The numbers of each run and turn, by the run's own judge. `names` are columns of `runs_of`."""
    for run in runs_of(done).to_dict("records"):
        of = done[done["identity"] == run["identity"]]
        own = of[of["judge"] == of.loc[(of["metric"] == "held") & of["headline"], "judge"].iloc[0]]
        versus = of[(of["against"] == "teacher") & of["metric"].isin(["held_change", "held_p"])].set_index("metric")
        turns = sorted({int(key) for key in own.loc[own["metric"] == "held", "key"]})
        for turn in turns:
            row: dict[str, Any] = {name: run[name] for name in names} | {"turn": turn}
            here = own[(own["set"] == f"turn{turn}") | ((own["set"] == "conversations") & (own["key"] == str(turn)))]
            for subject in SUBJECTS:
                by_metric = here[here["subject"] == subject].drop_duplicates("metric").set_index("metric")
                rates = by_metric[["value", "low", "high"]].reindex(list(KINDS))
                row |= {f"{kind}_{subject}_{part}": rates.at[kind, part] for kind in KINDS for part in rates}
                row[f"broken_{subject}"] = by_metric.at["first_broken", "value"]
            last = turn == turns[-1]
            for part in ("value", "low", "high"):
                row[f"minus_teacher_{part}"] = versus.at["held_change", part] if last else np.nan
            yield row | {"p_teacher": versus.at["held_p", "value"] if last else np.nan}


def _print(row: dict[Any, Any], settings: list[str]) -> dict[str, str]:
    cells = {"pair": str(row["pair"]), **{name: str(row[name]) for name in settings}, "turn": str(row["turn"])}
    for kind, heading in zip(KINDS, ("DSR", "holds"), strict=True):
        for subject in SUBJECTS:
            parts = (row[f"{kind}_{subject}_{part}"] for part in ("value", "low", "high"))
            cells[f"{heading} {subject}"] = interval(*parts)
    cells["broken here"] = number(row["broken_hybrid"])
    value, low, high = (100 * row.get(f"minus_teacher_{part}", np.nan) for part in ("value", "low", "high"))
    tested = f"p {p_value(row['p_teacher'])}{star(row.get('p_teacher_holm'))}"
    return cells | {"hybrid − teacher": DASH if np.isnan(value) else f"{change(value, low, high)}, {tested}"}


TABLES.register("conversations", TableMaker(54, measured("held"), conversations_table))
