"""The ablation tables: which part of a layer carries the refusals. Each granularity is a column.

Granularities are compared over the pairs that all of them have. Each mean states its number of pairs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from analysis.granularities import ALL, By, compare_granularities, differences, in_order, settings_apart
from analysis.measures import runs_of
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import DASH, change, decimal, known, number, of, p_value, percent
from analysis.tables.table import NO_EVIDENCE, Table, new_blocks

LABELS = {"family": "family (pairs)", "pair": "pair"}

RUN = "no run is done"
SET = "no set was found, or no run is done"
TESTED = "compared is with the first column, over two pairs at least"
GAPS = {
    "DSR, %": RUN,
    "95 % interval": "no two pairs, or no run is done",
    "gain, points": RUN,
    "units found": SET,
    "parameters, %": SET,
    "no gain": RUN,
}
"""Why a line of a block has no number. The other lines are tests."""

Cell = dict[Any, Any]


def has_granularities(frame: pd.DataFrame) -> bool:
    """Whether there are runs of several granularities."""
    return frame.loc[frame["granularity"] != "", "granularity"].nunique() > 1


def has_families(frame: pd.DataFrame) -> bool:
    """Whether there are several pairs in several granularities, so that means can be compared."""
    return has_granularities(frame) and frame["pair"].nunique() > 1


def has_differences(frame: pd.DataFrame) -> bool:
    """Whether any two granularities have at least two pairs in common, with the same other settings."""
    return not differences(frame).empty


def ablation_table(frame: pd.DataFrame, by: By) -> Table:
    """The table of hybrids by granularity: means over each family and over all pairs, or single pairs."""
    apart = settings_apart(frame)
    numbers = compare_granularities(frame, by)
    granularities = in_order(numbers["granularity"].unique())
    display: list[dict[str, str]] = []
    notes: list[str] = []
    rules: list[int] = []
    for _, block in numbers.groupby([by, *apart], sort=False):
        cells: dict[str, Cell | None] = dict.fromkeys(granularities)
        cells |= {cell["granularity"]: cell for cell in block.to_dict("records")}
        first = block.iloc[0]
        rules.append(len(display))
        marks = {}
        for granularity, cell in cells.items():
            if cell and cell["missing"] and first[by] != ALL:
                notes.append(f"[{len(notes) + 1}] {first[by]}, {granularity}: {cell['missing']}")
                marks[granularity] = f" [{len(notes)}]"
        name = first[by] if by == "pair" else f"{first[by]} ({_of_pairs(block['n'].max(), first['pairs'])})"
        display += _lines({LABELS[by]: name, **{name: first[name] for name in apart}}, cells, marks)
    return Table(
        name="ablation" if by == "family" else "ablation_pairs",
        title=f"What is transplanted, by {by}",
        caption=_caption(frame, numbers, by, apart),
        display=pd.DataFrame(display),
        numbers=numbers.drop(columns=["states", "pairs"]),
        labels=2 + len(apart),
        rules=rules[1:],
        notes=notes,
        gaps=[GAPS.get(line["hybrid"], TESTED) for line in display],
    )


def differences_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each two granularities and other setting: the difference of the hybrids' DSRs.

    It is computed over the pairs that both granularities have.
    """
    apart, numbers = settings_apart(frame), differences(frame)
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
        for row in numbers.to_dict("records")
    ]
    return Table(
        name="ablation_differences",
        title="Do granularities differ?",
        caption="DSR of the hybrids on report prompts, mean over the pairs that both granularities have. Interval and"
        " paired t test over teachers (cluster-robust; over pairs where there is one teacher), never narrower than the"
        f" pairs' own rows allow. Holm: over the table's {numbers['p_value'].notna().sum()} tests.",
        display=pd.DataFrame(display),
        numbers=numbers,
        labels=2 + len(apart),
        rules=new_blocks(numbers, apart),
    )


def _lines(labels: dict[str, str], cells: dict[str, Cell | None], marks: dict[str, str]) -> list[dict[str, str]]:
    """The lines of a block. Lines for pairs without a gain and for tests appear only if there are any."""

    def line(show: Any) -> dict[str, str]:
        return {name: show(cell) if cell and cell["n"] else DASH for name, cell in cells.items()}

    known_cells = [cell for cell in cells.values() if cell]
    lines = {
        "DSR, %": {name: _dsr(cell) + marks.get(name, "") for name, cell in cells.items()},
        "95 % interval": line(lambda cell: _bounds(100 * cell["low"], 100 * cell["high"])),
        "gain, points": line(lambda cell: decimal(cell["gain_points"], sign=True)),
        "units found": line(lambda cell: of(cell["units_found"], cell["units_total"])),
        "parameters, %": line(lambda cell: decimal(cell["parameters_percent"], 2)),
    }
    if any(cell["no_gain"] for cell in known_cells):
        lines["no gain"] = line(lambda cell: of(cell["no_gain"], cell["runs"]))
    if any(known(cell["difference_points"]) for cell in known_cells):
        lines[f"− {known_cells[0]['reference']}"] = line(lambda cell: decimal(cell["difference_points"], sign=True))
        lines["its interval"] = line(lambda cell: _bounds(cell["difference_low"], cell["difference_high"]))
        lines["p, Holm"] = line(lambda cell: p_value(cell["p_holm"]))
    blank = dict.fromkeys(labels, "")
    return [{**(blank if i else labels), "hybrid": name, **line} for i, (name, line) in enumerate(lines.items())]


def _dsr(cell: Cell | None) -> str:
    if not cell:
        return DASH
    return percent(cell["hybrid_dsr"]) if cell["n"] else cell["states"] or DASH


def _bounds(low: float, high: float) -> str:
    return f"[{decimal(low, 0)}, {decimal(high, 0)}]" if known(low) else DASH


def _of_pairs(shared: int, pairs: int) -> str:
    return str(pairs) if shared == pairs else f"{shared} of {pairs}"


def _caption(frame: pd.DataFrame, numbers: pd.DataFrame, by: By, apart: list[str]) -> str:
    runs = runs_of(frame, apart)
    done = runs[runs["state"] == "done"]
    tests = int(numbers["p_value"].notna().sum())
    sentences = [
        f"{len(done)} of {len(runs)} runs done. Columns: the part of a layer that is one unit.",
        "Means of the hybrids over the pairs that every granularity has, and so are comparable; intervals over"
        " teachers, or over pairs where there is one teacher."
        if by == "family"
        else "DSR of the hybrid on report prompts, and its gain over the student.",
    ]
    if tests:
        sentences.append(
            "− gate_proj, or the first column: the difference from its DSR, in points; its interval and paired t test"
            f" are over teachers or pairs too. Holm: over the table's {tests} tests."
        )
    if by == "family" and (runs.groupby("family")["pair"].nunique() < 2).any():
        sentences.append("Families of one pair are in the table by pair only.")
    if done.duplicated(["pair", "granularity", *apart]).any():
        sentences.append("Runs of a pair that differ in settings that are no columns here are averaged.")
    if numbers["no_gain"].any():
        sentences.append(
            "no gain: runs in which every unit of the kind together gains too little to search for less; the hybrid"
            " then is everything, and counts in DSR and gain but not in units and parameters (moved)."
        )
    if done["made_here"].any():
        sentences.append(NO_EVIDENCE)
    return " ".join(sentences)


TABLES.register("ablation", TableMaker(10, has_families, partial(ablation_table, by="family")))
TABLES.register("ablation_differences", TableMaker(15, has_differences, differences_table))
TABLES.register("ablation_pairs", TableMaker(40, has_granularities, partial(ablation_table, by="pair")))
