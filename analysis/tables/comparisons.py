"""The comparisons table: each hybrid compared with its student and its teacher, with paired tests."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.measures import Cells, done_of, runs_of, settings_that_tell_apart, with_holm
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import SIGNIFICANT, change, decimal, number, p_value, star
from analysis.tables.table import Table

METRICS = {
    "dsr": ("DSR, points", 100.0),
    "over_refusal": ("over-refusal, points", 100.0),
    "perplexity": ("perplexity", 1.0),
}
"""The heading of each metric, and the factor by which a difference is multiplied for print."""


def comparisons_table(frame: pd.DataFrame) -> Table:
    """A table with two rows for each run: the hybrid compared with its student, then with its teacher."""
    done = done_of(frame)
    runs, cells = runs_of(done), Cells(done)
    settings = settings_that_tell_apart(runs)
    blocks = [_against(runs[["identity", "pair", *settings]], cells, against) for against in ("student", "teacher")]
    numbers = with_holm(pd.concat(blocks, ignore_index=True), [f"{metric}_p" for metric in METRICS])
    shown = [metric for metric in METRICS if numbers[f"{metric}_change"].notna().any()]
    grouped = bool(numbers["dsr_groups"].notna().any())
    return Table(
        name="comparisons",
        title="Does the hybrid differ from its student and its teacher?",
        caption=_caption(numbers, shown, grouped),
        display=pd.DataFrame([_print(row, settings, shown, grouped) for row in numbers.to_dict("records")]),
        numbers=numbers.dropna(axis=1, how="all"),
        labels=2 + len(settings),
        rules=[len(runs)],
    )


def _against(runs: pd.DataFrame, cells: Cells, against: str) -> pd.DataFrame:
    block = runs.assign(against=against)
    where = {"subject": "hybrid", "against": against}
    for metric, (_, scale) in METRICS.items():
        for part, name in (("value", f"{metric}_change"), ("low", f"{metric}_low"), ("high", f"{metric}_high")):
            block[name] = scale * cells.number(f"{metric}_change", part, **where)
        block[f"{metric}_p"] = cells.number(f"{metric}_p", **where)
    block["rows"] = cells.number("dsr_change", "n", **where)
    for part in ("low", "high"):
        block[f"dsr_{part}_by_group"] = 100 * cells.number("dsr_change_by_group", part, **where)
    block["dsr_groups"] = cells.number("dsr_change_by_group", "n", **where)
    block["dsr_design_effect"] = cells.number("dsr_change_design_effect", **where)
    block["dsr_p_by_group"] = cells.number("dsr_p_by_group", **where)
    return block


def _print(row: dict[Any, Any], settings: list[str], shown: list[str], grouped: bool) -> dict[str, str]:
    cells = {"pair": str(row["pair"]), **{name: str(row[name]) for name in settings}, "against": str(row["against"])}
    for metric in shown:
        heading, scale = METRICS[metric]
        digits = 1 if scale == 100 else 3
        cells[f"{heading} [95 %]"] = change(
            row[f"{metric}_change"], row[f"{metric}_low"], row[f"{metric}_high"], digits
        )
        cells[f"p ({heading.split(',')[0]})"] = p_value(row[f"{metric}_p"]) + star(row[f"{metric}_p_holm"])
        if metric == "dsr" and grouped:
            low, high = (decimal(row[f"dsr_{part}_by_group"]) for part in ("low", "high"))
            cells["by group [95 %]"] = f"[{low}, {high}]"
            cells["p by group"] = p_value(row["dsr_p_by_group"])
            cells["rows/groups"] = f"{number(row['rows'])}/{number(row['dsr_groups'])}"
            cells["design effect"] = decimal(row["dsr_design_effect"])
    return cells


def _caption(numbers: pd.DataFrame, shown: list[str], grouped: bool) -> str:
    worse = numbers[(numbers["against"] == "teacher") & (numbers["dsr_change"] < 0)]
    teachers = int((numbers["against"] == "teacher").sum())
    tests = sum(int(numbers[f"{metric}_p"].notna().sum()) for metric in shown)
    sentences = [
        "Differences are hybrid minus the other model.",
        f"{int((worse['dsr_p'] < SIGNIFICANT).sum())} of {teachers} hybrids defend fewer rows than their teacher at"
        f" p < {SIGNIFICANT}, {int((worse['dsr_p_holm'] < SIGNIFICANT).sum())} of them after Holm's"
        " correction.",
        "Intervals of shares: Newcombe's for paired rows; tests: exact McNemar.",
        "Perplexity: paired t over windows of text." if "perplexity" in shown else "",
        f"* p < {SIGNIFICANT}, Holm-corrected over the table's {tests} tests by row.",
        "by group: rows of one category count as one group, and the test flips the signs of whole groups. design"
        " effect: how many rows are worth one independent row."
        if grouped
        else "",
    ]
    return "\n".join(sentence for sentence in sentences if sentence)


TABLES.register("comparisons", TableMaker(30, measured("dsr_p"), comparisons_table))
