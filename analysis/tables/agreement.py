"""The agreement table: how far two judges agree on the same answers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.measures import by_settings, done_of
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import decimal, number, percent
from analysis.tables.table import Table, new_blocks

ALL = "all"


def agreement_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each two judges, model and setting that varies: agreement, mean over runs with both."""
    settings, groups = by_settings(done_of(frame))
    numbers = pd.DataFrame([keys | row for keys, group in groups for row in _agreed(group)])
    older = (numbers["model"] == ALL).any()
    display = pd.DataFrame(
        {
            "judge": numbers["one"],
            "other judge": numbers["other"],
            "model": numbers["model"],
            **{name: numbers[name] for name in settings},
            "agreement (%)": numbers["agreement"].map(percent),
            "Cohen's kappa": numbers["kappa"].map(lambda kappa: decimal(kappa, 3)),
            "answers": numbers["answers"].map(number),
            "runs": numbers["n"].map(number),
        }
    )
    return Table(
        name="agreement",
        title="Agreement between judges",
        caption="Whether an answer is a defence, over the answers to harmful prompts that both judged; means over runs."
        + (" all: all models together, from an older record." if older else ""),
        display=display,
        numbers=numbers,
        labels=3 + len(settings),
        rules=new_blocks(numbers, settings),
        gaps=["kappa needs two verdicts of each judge, and agreement an answer that both judged"] * len(numbers),
    )


def _agreed(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    text = dict.fromkeys(("judge", "key", "subject", "identity"), "object")
    rows = group[group["metric"].isin(["agreement", "kappa"])].astype(text)
    by_model = rows["identity"].isin(rows.loc[rows["subject"] != "", "identity"])
    rows = rows[(rows["subject"] != "") | ~by_model]
    for (one, other, subject), both in rows.groupby(["judge", "key", "subject"], sort=False):
        agreement, kappa = (both[both["metric"] == name] for name in ("agreement", "kappa"))
        yield {
            "one": one,
            "other": other,
            "model": subject or ALL,
            "agreement": agreement["value"].mean(),
            "kappa": kappa["value"].mean(),
            "answers": int(agreement["n"].sum()),
            "n": int(agreement["value"].notna().sum()),
        }


TABLES.register("agreement", TableMaker(55, measured("agreement"), agreement_table))
