"""The utility table: every metric except DSR, of student, hybrid and teacher."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.entries import SUBJECTS
from analysis.measures import by_settings, done_of, mean_bounds
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import estimate
from analysis.tables.table import NO_EVIDENCE, NOT_MEASURED, Table, new_blocks
from dapa_exp.config.registries import METRICS


class _Heading(NamedTuple):
    """The heading of a metric's rows, in which `{}` becomes the number's key, and their place in the table."""

    place: int
    metric: str
    title: str
    share: bool = False


def has_utility(frame: pd.DataFrame) -> bool:
    """Whether any run measured a metric beside DSR."""
    return bool(_measured(frame).any())


def utility_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each metric and setting that varies: the values of one run, or means over runs."""
    done = done_of(frame)
    settings, groups = by_settings(done)
    rows = [row | keys for keys, group in groups for row in _rows(group)]
    numbers = pd.DataFrame(rows).drop(columns="compares")
    single = done["identity"].nunique() == 1
    caption = (
        "With 95 % intervals." if single else "Means over the n runs that measured it, with intervals over teachers."
    )
    if done["made_here"].any():
        caption += f" {NO_EVIDENCE}"
    return Table(
        name="utility",
        title="Utility of student, hybrid and teacher",
        caption=f"{caption} KL in nats a token, along the answers of the model it is from.",
        display=pd.DataFrame([_print(row, settings, single) for row in rows]),
        numbers=numbers,
        labels=1 + len(settings),
        rules=new_blocks(numbers, settings),
        gaps=[_gap(row) for row in rows],
    )


def _measured(frame: pd.DataFrame) -> pd.Series[bool]:
    return frame["metric"].isin([heading.metric for heading in _headings()]) & frame["subject"].isin(list(SUBJECTS))


@cache
def _headings() -> list[_Heading]:
    """The heading of each metric of a model, in the order of the table."""
    headings = [_Heading(of.place, name, title, of.shares) for _, of in METRICS for name, title in of.titles.items()]
    return sorted([*headings, _Heading(40, "task", "{}")], key=lambda heading: heading.place)


def _rows(group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    found = group[_measured(group)].astype(dict.fromkeys(("metric", "subject", "set", "judge", "key"), "object"))
    found["which"] = (found["set"] + "/" + found["judge"]).where(found["set"] != "", found["key"])
    for heading in _headings():
        for which, rows in found[found["metric"] == heading.metric].groupby("which", sort=False):
            by = {subject: rows[rows["subject"] == subject] for subject in SUBJECTS}
            row: dict[str, Any] = {"metric": heading.title.format(which), "share": heading.share}
            row["compares"] = heading.metric.startswith("kl_to")
            row["n"] = max(int(of["value"].notna().sum()) for of in by.values())
            for subject, of in by.items():
                row[subject] = of["value"].mean()
                row[f"{subject}_low"], row[f"{subject}_high"] = _bounds(of, group, heading)
            yield row


def _bounds(of: pd.DataFrame, group: pd.DataFrame, heading: _Heading) -> tuple[float, float]:
    """The interval of one run's number, or of a mean over runs."""
    if group["identity"].nunique() == 1:
        return float(of["low"].mean()), float(of["high"].mean())
    low, high = mean_bounds(of["value"].rename(heading.metric), of["teacher"])
    return (float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))) if heading.share else (low, high)


def _gap(row: dict[str, Any]) -> str:
    if row["compares"]:
        return "these two are not compared"
    return NOT_MEASURED if row["n"] else "no judge that sees refusals counted it"


def _print(row: dict[str, Any], settings: list[str], single: bool) -> dict[str, str]:
    cells = {"metric": str(row["metric"])} | {name: str(row[name]) for name in settings}
    cells |= {subject: _cell(row, subject) for subject in SUBJECTS}
    return cells if single else cells | {"n": str(row["n"])}


def _cell(row: dict[str, Any], subject: str) -> str:
    scale, digits = (100, 1) if row["share"] else (1, 3)
    value, low, high = (scale * row[name] for name in (subject, f"{subject}_low", f"{subject}_high"))
    return estimate(value, low, high, digits)


TABLES.register("utility", TableMaker(70, has_utility, utility_table))
