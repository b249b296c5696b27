"""The main table: a row for each run, then means, then the paper's reported mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.entries import SUBJECTS
from analysis.expected import paper
from analysis.measures import (
    MEANED,
    detectable_points,
    holm,
    mean_bounds,
    mean_dsr_bounds,
    measure,
    numbers_of,
    runs_of,
    settings_that_tell_apart,
)
from analysis.registry import TABLES, TableMaker, always
from analysis.tables.cells import arrow, decimal, interval, known, number, of, p_value, percent, star
from analysis.tables.main_caption import MADE_HERE, TOO_LITTLE, caption, has_any, is_too_little
from analysis.tables.table import Table, new_blocks

STATUS = {"certified": "yes", "not_certified": "no", "control": "control", "no_gain": "no gain"}

Row = Any  # a row of the measured DataFrame, by name of column


@dataclass(frozen=True)
class Column:
    """A printed column: its heading, the name of its main number, and the function that prints a row's cell."""

    heading: str
    about: str
    cell: Callable[[Row], str]


def _dsr(subject: str) -> Column:
    """The column of one model's DSR with its interval."""
    low, high = f"{subject}_dsr_low", f"{subject}_dsr_high"
    about = f"{subject}_dsr"
    return Column(f"DSR {subject} (%)", about, lambda row: interval(row[about], row[low], row[high]))


def _of_each(heading: str, name: str) -> Column:
    """A column with one share of student, hybrid and teacher in one cell."""
    return Column(heading, f"hybrid_{name}", lambda row: " / ".join(percent(row[f"{s}_{name}"]) for s in SUBJECTS))


COLUMNS = [
    *(_dsr(subject) for subject in SUBJECTS),
    Column(
        "gain (points)",
        "gain_points",
        lambda row: decimal(row["gain_points"], sign=True) + star(row["p_holm"]) + _bounds(row, "gain_points"),
    ),
    Column("DSR random-k (%)", "random_dsr", lambda row: percent(row["random_dsr"])),
    Column("p (random-k)", "random_p", lambda row: p_value(row["random_p"]) if row["row"] == "run" else ""),
    Column(
        "search DSR: found / everything / bar (%)",
        "everything_search_dsr",
        lambda row: " / ".join(percent(row[name]) for name in ("hybrid_search_dsr", "everything_search_dsr", "bar")),
    ),
    Column("search − report DSR (points)", "optimism_points", lambda row: decimal(row["optimism_points"], sign=True)),
    Column("units found", "units_found", lambda row: of(row["units_found"], row["units_total"])),
    Column(
        "parameters changed (%)",
        "parameters_changed_percent",
        lambda row: decimal(row["parameters_changed_percent"], 2),
    ),
    Column("parameters moved (%)", "parameters_percent", lambda row: decimal(row["parameters_percent"], 2)),
    Column("perplexity change", "perplexity_change", lambda row: decimal(row["perplexity_change"], 2, sign=True)),
    Column(
        "reasoning change (points)",
        "reasoning_change_points",
        lambda row: decimal(row["reasoning_change_points"], sign=True),
    ),
    Column(
        "over-refusal (%)",
        "hybrid_over_refusal",
        lambda row: arrow(row["student_over_refusal"], row["hybrid_over_refusal"]),
    ),
    Column("search queries", "queries", lambda row: number(row["queries"]) + _bounds(row, "queries")),
    Column("search seconds", "seconds", lambda row: number(row["seconds"])),
    Column("P(DSR≥bar)", "above_threshold", lambda row: _above(row, "above_threshold")),
    Column("P, by group", "above_threshold_by_group", lambda row: _above(row, "above_threshold_by_group")),
    Column("on report rows: set, units needed", "confirm_units", lambda row: _confirmed(row)),
]
ABOUT = {column.about for column in COLUMNS}
OPTIONAL = ("random_p", "parameters_changed_percent", "above_threshold_by_group", "confirm_units")
"""Numbers that not all records have. Their columns are left out if no run has them."""
MEASURED = {
    "hybrid_dsr": "no answer was judged",
    "hybrid_over_refusal": "over-refusal was not measured",
    "perplexity_change": "perplexity was not measured",
    "reasoning_change_points": "reasoning was not measured",
}
OF_A_SET = {"random_dsr": "no random sets were drawn"}
"""Why a run that is done may lack a number."""
NO_DEFENCE = {
    "retracted": _of_each("retracted (%)", "retracted"),
    "degenerate": _of_each("degenerate (%)", "degenerate"),
    "failed": _of_each("judge failed (%)", "failed"),
}


def main_table(frame: pd.DataFrame) -> Table:
    """The table of runs, the means of each family and of all pairs, and the paper's mean on the real models."""
    runs = runs_of(frame)
    single = len(runs) == 1
    settings = ["granularity", "search", "dataset"] if single else settings_that_tell_apart(runs)
    measured = with_significance(measure(frame, settings)).assign(blind=_blind(frame, runs))
    averaged = [] if single else _mean_blocks(measured, settings)
    numbers = pd.concat([_runs(measured), *averaged, _paper()], ignore_index=True)
    columns = [column for column in COLUMNS if column.about not in OPTIONAL or measured[column.about].notna().any()]
    columns += [column for name, column in NO_DEFENCE.items() if has_any(measured, name)]
    unfinished = measured[measured["state"] != "done"].to_dict("records")
    notes = [f"[{i}] {run['pair']}: {run['reason']}" for i, run in enumerate(unfinished, start=1)]
    return Table(
        name="main",
        title="Defense success rate of student, hybrid and teacher",
        caption=caption(measured, _counts_twice(measured[measured["state"] == "done"], settings)),
        display=pd.DataFrame([_print(row, settings, columns, single) for row in numbers.to_dict("records")]).fillna(""),
        numbers=numbers.drop(columns=["label", "note", "run", "blind"]),
        gaps=[_gap(row) for row in numbers.to_dict("records")],
        labels=1 + len(settings),
        rules=new_blocks(numbers, ["row"]),
        notes=notes,
        upright=single,
    )


def with_significance(measured: pd.DataFrame) -> pd.DataFrame:
    """Add Holm's correction of the McNemar tests over all runs of the table."""
    tested = measured["p_value"].notna()
    measured["p_holm"] = holm(measured["p_value"])
    measured["detectable_points"] = detectable_points(measured)
    measured["detectable_points_holm"] = detectable_points(measured, int(tested.sum()))
    return measured


def _blind(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.Series[str]:
    """Why each run's judge counts no over-refusal; NaN if it does."""
    rows = frame[(frame["metric"] == "no_over_refusal") & (frame["subject"] == "hybrid")]
    return runs["identity"].map(rows.drop_duplicates("identity").set_index("identity")["text"].astype("object"))


def _gap(row: Row) -> str:
    """Why numbers of this row are missing."""
    if row["row"] != "run":
        return "fewer than two runs have the number"
    if row["state"] != "done":
        return f"run {row['state']}"
    no_set = row["status"] == "no_gain"
    whys = ["no set was found, since all units together gain too little"] if no_set else []
    needed = MEASURED if no_set else MEASURED | OF_A_SET
    whys += [
        _text(row["blind"]) or why if name == "hybrid_over_refusal" else why
        for name, why in needed.items()
        if not known(row[name])
    ]
    return "; ".join(whys) or "an older record, which has no such number"


def _runs(measured: pd.DataFrame) -> pd.DataFrame:
    block = measured.copy()
    block.insert(0, "row", "run")
    block.insert(1, "n", 1)
    block["label"] = block["pair"] + block["made_here"].map({True: f" {MADE_HERE}", False: ""})
    unfinished = block["state"] != "done"
    block["note"] = unfinished.cumsum().where(unfinished)
    return block


def _mean_blocks(measured: pd.DataFrame, settings: list[str]) -> list[pd.DataFrame]:
    """For each setting, the means of each family, if there are several, and the means over all pairs.

    The list is empty if a pair has several runs with the same settings, because it would count several times.
    """
    settings, done = [name for name in settings if name != "run"], measured[measured["state"] == "done"]
    if _counts_twice(done, settings):
        return []
    blocks = [_means(done, settings, "mean", "mean of all")]
    if done["family"].nunique() > 1:
        blocks.insert(0, _means(done, ["family", *settings], "family mean", "mean "))
    return [block for block in blocks if len(block)]


def _counts_twice(done: pd.DataFrame, settings: list[str]) -> bool:
    return bool(done.duplicated(["pair", *(name for name in settings if name != "run")]).any())


def _means(done: pd.DataFrame, by: list[str], kind: str, label: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for _, group in done.groupby(by, sort=False) if by else [((), done)]:
        if len(group) < 2:
            continue
        keys = {name: group[name].iloc[0] for name in by}
        numbers = numbers_of(group)
        counts = numbers.count()
        text = f"{label}{keys.get('family', '')} (n={len(group)})"
        made_here = bool(group["made_here"].any())
        rows.append(
            {
                "row": kind,
                "n": len(group),
                **keys,
                "made_here": made_here,
                **numbers.mean().where(counts > 1),
                **counts.add_prefix("n_"),
            }
        )
        rows[-1]["label"] = f"{text} {MADE_HERE}" if made_here else text
        for name, values in numbers.items():
            if name in ABOUT:
                rows[-1][f"{name}_low"], rows[-1][f"{name}_high"] = mean_bounds(values, group["teacher"])
        for subject in SUBJECTS:
            rows[-1][f"{subject}_dsr_low"], rows[-1][f"{subject}_dsr_high"] = mean_dsr_bounds(group, subject)
    return pd.DataFrame(rows).drop(columns=[f"n_{name}" for name in MEANED if name not in ABOUT], errors="ignore")


def _paper() -> pd.DataFrame:
    reported = paper()
    values = {name: fact.value for name, fact in reported.mean.items()}
    label = f"paper, real models (n={reported.models})"
    return pd.DataFrame([{"row": "paper", "n": reported.models, "label": label, "made_here": False, **values}])


def _print(row: Row, settings: list[str], columns: list[Column], single: bool) -> dict[str, str]:
    """One row as text. The paper's numbers are printed as reported."""
    cells = {"pair": row["label"]} | {name: _text(row[name]) for name in settings}
    if row["row"] == "paper":
        facts = paper().mean
        return cells | {c.heading: facts[c.about].shown if c.about in facts else "" for c in columns}
    cells |= {column.heading: column.cell(row) + _own_n(row, column) for column in columns}
    cells["certified"] = _status(row)
    if single:
        cells["units"] = _text(row["units"])
    return cells


def _own_n(row: Row, column: Column) -> str:
    """The n of a mean over fewer runs than its row states; an empty string for other cells."""
    n = row.get(f"n_{column.about}")
    return f" (n={n:.0f})" if row["row"] != "run" and known(n) and 1 < n < row["n"] else ""


def _status(row: Row) -> str:
    if row["row"] != "run":
        return ""
    if row["state"] != "done":
        return f"{row['state']} [{row['note']:.0f}]"
    stopped = f" ({row['stopped_by']})" if known(row["stopped_by"]) else ""
    return STATUS[row["status"]] + stopped + (f" {TOO_LITTLE}" if is_too_little(row) else "")


def _above(row: Row, name: str) -> str:
    return decimal(row[name], 3) if row["row"] == "run" else ""


def _confirmed(row: Row) -> str:
    """What the sequential test says of the found set, and how many of its units it says are needed."""
    if row["row"] != "run" or not known(row["confirm_set"]):
        return ""
    return f"{row['confirm_set']}, {of(row['confirm_units'], row['confirm_of'])}"


def _bounds(row: Row, name: str) -> str:
    """The interval of a mean; an empty string for a run."""
    if row["row"] == "run" or not known(row.get(f"{name}_low")):
        return ""
    return f" [{decimal(row[f'{name}_low'])}, {decimal(row[f'{name}_high'])}]"


def _text(value: object) -> str:
    return str(value) if known(value) else ""


TABLES.register("main", TableMaker(20, always, main_table))
