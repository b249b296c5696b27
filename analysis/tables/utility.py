"""The utility table: every metric beside the defence, of student, hybrid and teacher."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from analysis.measures import SUBJECTS, by_settings, mean_of, of_one_run
from analysis.tables.cells import decimal, known
from analysis.tables.table import Table, new_blocks

METRICS = {
    "over_refusals": "over-refusal (%), {}",
    "perplexity": "perplexity",
    "word_perplexity": "word perplexity",
    "reasoning": "reasoning (%)",
    "tasks": "{}",
    "kl_to_student": "KL from the student, harmless requests, T = {}",
    "kl_to_teacher": "KL from the teacher, harmful requests, T = {}",
}
"""Of a subject in a record, in the order of the table: a heading, and in it which of several it is."""
SHARES = ("over_refusals", "reasoning")
_COUNT = re.compile(rf"evaluate/(?:{'|'.join(SUBJECTS)})/(?P<metric>{'|'.join(METRICS)})(?:/(?P<which>.+))?/n")


def has_utility(runs: pd.DataFrame) -> bool:
    """Whether any run measured anything beside the defence."""
    return any(True for _ in _measured(runs))


def utility_table(runs: pd.DataFrame) -> Table:
    """A row a metric (and each setting that varies): the values of a single run, or means over runs that have them."""
    done = runs[runs["state"] == "done"]
    settings, groups = by_settings(done)
    rows = [row | keys for keys, group in groups for row in _rows(group)]
    numbers = pd.DataFrame(rows)
    single = len(done) == 1
    caption = "With 95 % intervals." if single else "Means over the n runs that measured it."
    if done["pair/made_here"].eq(True).any():
        caption += " Miniature or fine-tuned models made here: no evidence about real ones."
    return Table(
        name="utility",
        title="Utility of student, hybrid and teacher",
        caption=f"{caption} KL in nats a token, along the answers of the model it is from.",
        display=pd.DataFrame([_print(row, settings, single) for row in rows]),
        numbers=numbers,
        labels=1 + len(settings),
        rules=new_blocks(numbers, settings),
    )


def _rows(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    for metric, which in _measured(group):
        path = f"{metric}/{which}" if which else metric
        row: dict[str, object] = {"metric": METRICS[metric].format(which), "share": metric in SHARES}
        columns = [f"evaluate/{subject}/{path}/value" for subject in SUBJECTS]
        row["n"] = int(max(group[column].notna().sum() for column in columns if column in group))
        for subject in SUBJECTS:
            row[subject] = mean_of(group, f"evaluate/{subject}/{path}/value")
            for bound in ("low", "high"):
                row[f"{subject}_{bound}"] = mean_of(of_one_run(group), f"evaluate/{subject}/{path}/{bound}")
        yield row


def _measured(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The metrics that any run has, and which of several, in the table's order."""
    found = dict.fromkeys(
        (match["metric"], match["which"] or "")
        for column in runs.columns
        if (match := _COUNT.fullmatch(str(column))) and runs[column].notna().any()
    )
    for metric in METRICS:
        yield from ((name, which) for name, which in found if name == metric)


def _print(row: dict[str, object], settings: list[str], single: bool) -> dict[str, str]:
    cells = {"metric": str(row["metric"])} | {name: str(row[name]) for name in settings}
    cells |= {subject: _cell(row, subject, single) for subject in SUBJECTS}
    return cells if single else cells | {"n": str(row["n"])}


def _cell(row: dict[str, object], subject: str, single: bool) -> str:
    scale, digits = (100, 1) if row["share"] else (1, 3)
    value, low, high = (row[name] for name in (subject, f"{subject}_low", f"{subject}_high"))
    shown = decimal(scale * float(value), digits)  # type: ignore[arg-type]
    if not single or not known(low):
        return shown
    return f"{shown} [{decimal(scale * float(low), digits)}, {decimal(scale * float(high), digits)}]"  # type: ignore[arg-type]
