"""The agreement table: how far two judges agree on the same answers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.measures import by_settings, done_of
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import decimal, number, percent
from analysis.tables.table import Table, new_blocks


def has_agreement(frame: pd.DataFrame) -> bool:
    """Whether any run was scored by two judges."""
    return bool((frame["metric"] == "agreement").any())


def agreement_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each two judges and setting that varies: their agreement, mean over runs with both."""
    settings, groups = by_settings(done_of(frame))
    numbers = pd.DataFrame([keys | row for keys, group in groups for row in _agreed(group)])
    display = pd.DataFrame(
        {
            "judge": numbers["one"],
            "other judge": numbers["other"],
            **{name: numbers[name] for name in settings},
            "agreement (%)": numbers["agreement"].map(percent),
            "Cohen's kappa": numbers["kappa"].map(lambda kappa: decimal(kappa, 3)),
            "completions": numbers["completions"].map(number),
            "runs": numbers["n"].map(number),
        }
    )
    return Table(
        name="agreement",
        title="Agreement between judges",
        caption="On defended or not, over all models' answers to harmful prompts that both judged; means over runs.",
        display=display,
        numbers=numbers,
        labels=2 + len(settings),
        rules=new_blocks(numbers, settings),
    )


def _agreed(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    rows = group[group["metric"].isin(["agreement", "kappa"])].astype({"judge": "object", "key": "object"})
    for (one, other), both in rows.groupby(["judge", "key"], sort=False):
        agreement, kappa = (both[both["metric"] == name] for name in ("agreement", "kappa"))
        yield {
            "one": one,
            "other": other,
            "agreement": agreement["value"].mean(),
            "kappa": kappa["value"].mean(),
            "completions": int(agreement["n"].sum()),
            "n": int(agreement["value"].notna().sum()),
        }


TABLES.register("agreement", TableMaker(55, has_agreement, agreement_table))
