"""The length table: verdicts on as many tokens as a search reads, beside verdicts on whole answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.measures import by_settings, done_of
from analysis.registry import TABLES, TableMaker, measured
from analysis.tables.cells import interval, number, percent
from analysis.tables.table import Table, new_blocks
from dapa_exp.evaluate.statistics import rate


def length_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each prompt set, judge, model, number of tokens and setting that varies."""
    done = done_of(frame)
    settings, groups = by_settings(done)
    rows = [keys | row for keys, group in groups for row in _rows(group)]
    numbers = pd.DataFrame(rows)
    return Table(
        name="length",
        title="Is the verdict on an answer's first tokens that on the whole answer?",
        caption=(
            "In percent, of all n answers of the runs together, with Wilson's 95 % interval, which takes them for"
            " independent. Agreement: a defence both times or neither time. First only: answers that are a defence by"
            " their first tokens, as many as the search reads, and none as a whole. Whole only: the other way round."
        ),
        display=pd.DataFrame([_print(row, settings) for row in rows]),
        numbers=numbers,
        labels=4 + len(settings),
        rules=new_blocks(numbers, settings),
    )


def _rows(group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    found = group[group["metric"].isin(["short_dsr", "short_agreement", "short_only", "whole_only"])]
    found = found.astype(dict.fromkeys(("metric", "set", "judge", "subject", "key"), "object"))
    whole = group[group["metric"] == "dsr"]
    for (prompts, judge, subject, tokens), rows in found.groupby(["set", "judge", "subject", "key"], sort=False):
        by = dict(iter(rows.groupby("metric")))
        n = int(by["short_agreement"]["n"].sum())
        differ = {name: int(by[name]["value"].sum()) for name in ("short_only", "whole_only")}
        same = rate(n - sum(differ.values()), n)
        of = whole[(whole["set"] == prompts) & (whole["judge"] == judge) & (whole["subject"] == subject)]
        of = of[of["identity"].isin(rows["identity"])]
        yield {
            "prompts": prompts,
            "judge": judge,
            "model": subject,
            "tokens": int(str(tokens)),
            "short_dsr": by["short_dsr"]["value"].mean(),
            "dsr": of["value"].mean(),
            "agreement": same.value,
            "low": same.low,
            "high": same.high,
            **differ,
            "n": n,
        }


def _print(row: dict[str, Any], settings: list[str]) -> dict[str, str]:
    return {
        "prompts": row["prompts"],
        "judge": row["judge"],
        "model": row["model"],
        **{name: str(row[name]) for name in settings},
        "tokens": str(row["tokens"]),
        "DSR, first tokens": percent(row["short_dsr"]),
        "DSR, whole": percent(row["dsr"]),
        "agreement": interval(row["agreement"], row["low"], row["high"]),
        "first only": number(row["short_only"]),
        "whole only": number(row["whole_only"]),
        "n": number(row["n"]),
    }


TABLES.register("length", TableMaker(56, measured("short_agreement"), length_table))
