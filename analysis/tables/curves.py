"""The curves table: what each share of the parameters buys."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.curves import curves, has_curves
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import decimal, interval, percent
from analysis.tables.table import Table, new_blocks


def curves_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each pair, order of the units, and share."""
    found = curves(frame)
    return Table(
        name="curves",
        title="What does each share of the parameters buy?",
        caption=(
            "Units, or neurons of each MLP, are taken in this order if they still fit into the share. Moved: the share"
            " of parameters that was replaced. 95 % intervals: over rows, or over runs if there are several."
        ),
        display=pd.DataFrame([_print(row) for row in found.to_dict("records")]),
        numbers=found,
        labels=4,
        rules=new_blocks(found, ["pair", "granularity", "order"]),
    )


def _print(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "pair": row["pair"],
        "granularity": row["granularity"],
        "order": row["order"],
        "share (%)": decimal(100 * row["share"]),
        "runs": str(row["runs"]),
        "moved (%)": decimal(100 * row["moved"]),
        "DSR (%)": interval(row["dsr"], row["low"], row["high"]),
        "over-refusal (%)": percent(row["over_refusal"]),
        "perplexity change": decimal(row["perplexity_change"], 3, sign=True),
        "skill (%)": percent(row["skill"]),
    }


TABLES.register("curves", TableMaker(92, has_curves, curves_table))
