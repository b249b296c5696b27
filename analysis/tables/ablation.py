"""The ablation tables: which part of a layer carries the refusals. Each granularity is a column.

Granularities are compared over the pairs that all of them have. Each mean states its number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any, Literal

import pandas as pd
from statsmodels.stats.multitest import multipletests

from analysis.measures import mean_dsr_bounds, measure, numbers_of, row_error, runs_of, settings_that_tell_apart
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import DASH, change, decimal, known, number, of, p_value, percent
from analysis.tables.table import Table, new_blocks
from dapa_exp.evaluate.statistics import difference_over_groups

ORDER = ["gate_proj", "up_proj", "down_proj", "projection", "mlp", "attention", "layer"]
LABELS = {"family": "family (pairs)", "pair": "pair"}

Cell = dict[str, Any]


def has_granularities(frame: pd.DataFrame) -> bool:
    """Whether there are runs of several granularities."""
    return frame["granularity"].nunique() > 1


def has_families(frame: pd.DataFrame) -> bool:
    """Whether there are several pairs in several granularities, so that means can be compared."""
    return has_granularities(frame) and frame["pair"].nunique() > 1


def has_differences(frame: pd.DataFrame) -> bool:
    """Whether any two granularities have at least two pairs in common."""
    return has_granularities(frame) and any(True for _ in _compared(measure(frame), []))


def ablation_table(frame: pd.DataFrame, by: Literal["family", "pair"]) -> Table:
    """The table of hybrids by granularity: means over each family and over all pairs, or single pairs."""
    apart = _apart(frame)
    measured = measure(frame, apart)
    granularities = _in_order(measured["granularity"].unique())
    numbers: list[Cell] = []
    display: list[dict[str, str]] = []
    notes: list[str] = []
    rules: list[int] = []
    for label, setting, group in _groups(measured, by, apart):
        pairs = _shared(group)
        cells = {g: _cell(group[group["granularity"] == g], pairs) for g in granularities}
        numbers += [{by: label, **setting, "granularity": g} | _numeric(cell) for g, cell in cells.items()]
        rules.append(len(display))
        marks = {}
        for granularity, cell in cells.items():
            if cell["missing"] and label != "all":
                notes.append(f"[{len(notes) + 1}] {label}, {granularity}: {cell['missing']}")
                marks[granularity] = f" [{len(notes)}]"
        name = label if by == "pair" else f"{label} ({_of_pairs(len(pairs), group['pair'].nunique())})"
        display += _lines({LABELS[by]: name, **setting}, cells, marks)
    return Table(
        name="ablation" if by == "family" else "ablation_pairs",
        title=f"What is transplanted, by {by}",
        caption=_caption(measured, by, apart),
        display=pd.DataFrame(display),
        numbers=pd.DataFrame(numbers),
        labels=2 + len(apart),
        rules=rules[1:],
        notes=notes,
    )


def differences_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each two granularities and other setting: the difference of the hybrids' DSRs.

    It is computed over the pairs that both granularities have.
    """
    apart = _apart(frame)
    numbers = pd.DataFrame(_compared(measure(frame, apart), apart))
    tested = numbers["p_value"].notna()
    numbers["p_holm"] = float("nan")
    if tested.any():
        numbers.loc[tested, "p_holm"] = multipletests(numbers.loc[tested, "p_value"], method="holm")[1]
    display = [
        {
            "granularity": row["granularity"],
            "other": row["other"],
            **{name: row[name] for name in apart},
            "DSR (%)": decimal(100 * row["dsr"]),
            "other's DSR (%)": decimal(100 * row["other_dsr"]),
            "difference, points [95 %]": change(row["difference_points"], row["low"], row["high"]),
            "p": p_value(row["p_value"]),
            "p, Holm": p_value(row["p_holm"]),
            "pairs": number(row["pairs"]),
            "teachers": number(row["teachers"]),
        }
        for _, row in numbers.iterrows()
    ]
    return Table(
        name="ablation_differences",
        title="Do granularities differ?",
        caption="DSR of the hybrids on report prompts, mean over the pairs that both granularities have. Interval and"
        " paired t test over teachers (cluster-robust; over pairs where there is one teacher), never narrower than the"
        f" pairs' own rows allow. Holm: over the table's {int(tested.sum())} tests.",
        display=pd.DataFrame(display),
        numbers=numbers,
        labels=2 + len(apart),
        rules=new_blocks(numbers, apart),
    )


def _apart(frame: pd.DataFrame) -> list[str]:
    """The settings, besides the granularity, in which the runs of a pair differ."""
    names = settings_that_tell_apart(runs_of(frame))
    return [name for name in names if name not in ("experiment", "granularity", "run")]


def _in_order(granularities: Any) -> list[str]:
    """The granularities in the order of the table: the paper's projections, then larger parts, then others by name."""
    return sorted(granularities, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _groups(measured: pd.DataFrame, by: str, apart: list[str]) -> list[tuple[str, dict[str, str], pd.DataFrame]]:
    """The (label, settings, runs) of every block of the table. By family, the last block holds all pairs.

    A family with one pair has no block, since there is no mean of one run.
    """
    groups = [
        (str(group[by].iloc[0]), {name: str(group[name].iloc[0]) for name in apart}, group)
        for _, group in measured.groupby([by, *apart], sort=False)
        if by == "pair" or group["pair"].nunique() > 1
    ]
    if by == "family" and (measured["family"].nunique() > 1 or not groups):
        whole = measured.groupby(apart, sort=False) if apart else [((), measured)]
        groups += [("all", {name: str(group[name].iloc[0]) for name in apart}, group) for _, group in whole]
    return groups


def _shared(group: pd.DataFrame) -> frozenset[str]:
    """The pairs that are done in every granularity. A granularity without any finished run is ignored."""
    done = group[group["state"] == "done"]
    pairs = [frozenset(runs["pair"]) for _, runs in done.groupby("granularity")]
    return frozenset.intersection(*pairs) if pairs else frozenset()


def _by_pair(done: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair: its run, or the mean of its runs."""
    return done.groupby("pair", sort=False).agg(
        {name: "first" if name == "teacher" else "mean" for name in ("teacher", *_DSR)}
    )


_DSR = ("hybrid_dsr", "hybrid_dsr_low", "hybrid_dsr_high")


def _compared(measured: pd.DataFrame, apart: list[str]) -> Iterator[Cell]:
    done = measured[(measured["state"] == "done") & measured["hybrid_dsr"].notna()]
    for _, block in done.groupby(apart, sort=False) if apart else [((), done)]:
        for one, other in combinations(_in_order(block["granularity"].unique()), 2):
            ours, theirs = (_by_pair(block[block["granularity"] == g]) for g in (one, other))
            pairs = ours.index.intersection(theirs.index, sort=False)
            if len(pairs) > 1:
                setting = {name: str(block[name].iloc[0]) for name in apart}
                yield {"granularity": one, "other": other, **setting} | _difference(ours.loc[pairs], theirs.loc[pairs])


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> Cell:
    floor = (row_error(ours) ** 2 + row_error(theirs) ** 2) ** 0.5
    difference = ours["hybrid_dsr"] - theirs["hybrid_dsr"]
    found, p = difference_over_groups(difference.tolist(), ours["teacher"].tolist(), floor)
    low, high = (None if bound is None else 100 * min(1.0, max(-1.0, bound)) for bound in (found.low, found.high))
    return {
        "dsr": ours["hybrid_dsr"].mean(),
        "other_dsr": theirs["hybrid_dsr"].mean(),
        "difference_points": 100 * found.value,
        "low": low,
        "high": high,
        "p_value": p,
        "pairs": len(ours),
        "teachers": ours["teacher"].nunique(),
    }


def _cell(group: pd.DataFrame, pairs: frozenset[str]) -> Cell:
    """The cell of one block and granularity: means over the shared pairs, and the runs that are missing."""
    unfinished = group[group["state"] != "done"]
    done = group[(group["state"] == "done") & group["pair"].isin(pairs)]
    reasons = [f"{run['pair']} {run['state']} ({run['reason']})" for _, run in unfinished.iterrows()]
    return {
        **_means_by_pair(done),
        "asked": group["pair"].nunique(),
        "n": done["pair"].nunique(),
        "runs": len(done),
        "no_gain": int((done["status"] == "no_gain").sum()),
        "states": ", ".join(unfinished["state"].unique()),
        "missing": "; ".join(reasons),
    }


def _means_by_pair(done: pd.DataFrame) -> Cell:
    """The means of the runs' numbers, with each pair counted once, and the interval of the mean DSR."""
    numbers = numbers_of(done)
    if len(done) == 1:
        low, high = done["hybrid_dsr_low"].iloc[0], done["hybrid_dsr_high"].iloc[0]
        return {**numbers.iloc[0], "low": low, "high": high}
    low, high = mean_dsr_bounds(_by_pair(done))
    return {**numbers.groupby(done["pair"]).mean().mean(), "low": low, "high": high}


def _numeric(cell: Cell) -> Cell:
    names = ["asked", "n", "runs", "no_gain", "student_dsr", "hybrid_dsr", "low", "high", "teacher_dsr", "gain_points"]
    return {name: cell[name] for name in [*names, "units_found", "units_total", "parameters_percent", "missing"]}


def _lines(labels: dict[str, str], cells: dict[str, Cell], marks: dict[str, str]) -> list[dict[str, str]]:
    """The lines of a block. The line that counts pairs without a gain appears only if there are any."""
    lines = {
        "DSR, %": {g: _dsr(cell) + marks.get(g, "") for g, cell in cells.items()},
        "95 % interval": {g: _bounds(cell) for g, cell in cells.items()},
        "gain, points": {g: decimal(cell["gain_points"], sign=True) for g, cell in cells.items()},
        "units found": {g: of(cell["units_found"], cell["units_total"]) for g, cell in cells.items()},
        "parameters, %": {g: decimal(cell["parameters_percent"], 2) for g, cell in cells.items()},
    }
    if any(cell["no_gain"] for cell in cells.values()):
        lines["no gain"] = {g: of(cell["no_gain"], cell["runs"]) if cell["n"] else DASH for g, cell in cells.items()}
    blank = dict.fromkeys(labels, "")
    return [{**(blank if i else labels), "hybrid": name, **line} for i, (name, line) in enumerate(lines.items())]


def _dsr(cell: Cell) -> str:
    return percent(cell["hybrid_dsr"]) if cell["n"] else cell["states"] or DASH


def _bounds(cell: Cell) -> str:
    known_bounds = cell["n"] and known(cell["low"])
    return f"[{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]" if known_bounds else DASH


def _of_pairs(shared: int, pairs: int) -> str:
    return str(pairs) if shared == pairs else f"{shared} of {pairs}"


def _caption(measured: pd.DataFrame, by: str, apart: list[str]) -> str:
    done = measured[measured["state"] == "done"]
    sentences = [
        f"{len(done)} of {len(measured)} runs done. Columns: the part of a layer that is one unit.",
        "Means of the hybrids over the pairs that every granularity has, and so are comparable; intervals over"
        " teachers, or over pairs where there is one teacher."
        if by == "family"
        else "DSR of the hybrid on report prompts, and its gain over the student.",
    ]
    if by == "family" and (measured.groupby("family")["pair"].nunique() < 2).any():
        sentences.append("Families of one pair are in the table by pair only.")
    if done.duplicated(["pair", "granularity", *apart]).any():
        sentences.append("Runs of a pair that differ in settings that are no columns here are averaged.")
    if (done["status"] == "no_gain").any():
        sentences.append(
            "no gain: runs in which every unit of the kind together gains too little to search for less; the hybrid"
            " then is everything, and counts in DSR and gain but not in units and parameters (moved)."
        )
    if done["made_here"].any():
        sentences.append("Miniature or fine-tuned models made here: no evidence about real ones.")
    return " ".join(sentences)


TABLES.register("ablation", TableMaker(10, has_families, partial(ablation_table, by="family")))
TABLES.register("ablation_differences", TableMaker(15, has_differences, differences_table))
TABLES.register("ablation_pairs", TableMaker(40, has_granularities, partial(ablation_table, by="pair")))
