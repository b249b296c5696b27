"""The ablation table: which part of a layer carries the refusals. Granularities are columns."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from analysis.measures import counts, means, measure, settings_that_tell_apart
from analysis.tables.cells import DASH, decimal, known, of, percent
from analysis.tables.table import Table

ORDER = ["gate_proj", "up_proj", "down_proj", "projection", "mlp", "attention", "layer"]
DEFENCE, UNITS, PARAMETERS = "DSR, % (gain)", "units found", "parameters, %"

Cell = dict[str, Any]


def ablation_table(runs: pd.DataFrame, by: Literal["family", "pair"]) -> Table:
    """Means of the hybrids by granularity: of each family and of all, or of each pair."""
    apart = [name for name in settings_that_tell_apart(runs) if name not in ("experiment", "granularity", "run")]
    measured = measure(runs, apart)
    granularities = _in_order(measured["granularity"].unique())
    numbers: list[Cell] = []
    display: list[dict[str, str]] = []
    notes: list[str] = []
    rules: list[int] = []
    for label, setting, group in _groups(measured, by, apart):
        cells = {g: _cell(group[group["granularity"] == g]) for g in granularities}
        numbers += [{by: label, **setting, "granularity": g} | _numeric(cell) for g, cell in cells.items()]
        rules.append(len(display))
        marks = {}
        for granularity, cell in cells.items():
            if cell["missing"] and label != "all":
                notes.append(f"[{len(notes) + 1}] {label}, {granularity}: {cell['missing']}")
                marks[granularity] = f" [{len(notes)}]"
        pairs = group["pair"].nunique()
        name = label if by == "pair" else f"{label} ({pairs} pair{'s' if pairs > 1 else ''})"
        display += _lines({by: name, **setting}, cells, marks)
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


def _in_order(granularities: Any) -> list[str]:
    """The paper's projections first, then larger parts; others after them by name."""
    return sorted(granularities, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _groups(measured: pd.DataFrame, by: str, apart: list[str]) -> list[tuple[str, dict[str, str], pd.DataFrame]]:
    """(label, setting, runs) of every block of the table; with families, the block of all comes last."""
    groups = [
        (str(group[by].iloc[0]), {name: str(group[name].iloc[0]) for name in apart}, group)
        for _, group in measured.groupby([by, *apart], sort=False)
    ]
    if by == "family" and measured["family"].nunique() > 1:
        whole = measured.groupby(apart, sort=False) if apart else [((), measured)]
        groups += [("all", {name: str(group[name].iloc[0]) for name in apart}, group) for _, group in whole]
    return groups


def _cell(group: pd.DataFrame) -> Cell:
    """What the runs of one block and granularity have in common."""
    done = group[group["state"] == "done"]
    unfinished = group[group["state"] != "done"]
    reasons = [f"{run['pair']} {run['state']} ({run['reason']})" for _, run in unfinished.iterrows()]
    return {
        **means(done),
        "asked": len(group),
        "n": len(done),
        "no_gain": int((done["status"] == "no_gain").sum()),
        "sets": int(counts(done)["units_found"]),
        "states": ", ".join(unfinished["state"].unique()),
        "missing": "; ".join(reasons),
    }


def _numeric(cell: Cell) -> Cell:
    names = ["asked", "n", "no_gain", "student_dsr", "hybrid_dsr", "teacher_dsr", "gain_points"]
    return {name: cell[name] for name in [*names, "units_found", "units_total", "parameters_percent", "missing"]}


def _lines(labels: dict[str, str], cells: dict[str, Cell], marks: dict[str, str]) -> list[dict[str, str]]:
    """The three lines of a block."""
    defence = {g: _defence(cell) + marks.get(g, "") for g, cell in cells.items()}
    units = {g: _units(cell) for g, cell in cells.items()}
    parameters = {g: decimal(cell["parameters_percent"], 2) for g, cell in cells.items()}
    blank = dict.fromkeys(labels, "")
    return [
        {**labels, "hybrid": DEFENCE, **defence},
        {**blank, "hybrid": UNITS, **units},
        {**blank, "hybrid": PARAMETERS, **parameters},
    ]


def _defence(cell: Cell) -> str:
    if not cell["n"]:
        return cell["states"] or DASH
    own_n = f" n={cell['n']}" if cell["n"] < cell["asked"] else ""
    return f"{percent(cell['hybrid_dsr'])} ({decimal(cell['gain_points'], sign=True)}){own_n}"


def _units(cell: Cell) -> str:
    """Units found of all where a set was found; runs with nothing to gain are counted apart."""
    if not cell["no_gain"]:
        return of(cell["units_found"], cell["units_total"])
    if not cell["sets"]:
        return "no gain"
    found = of(cell["units_found"], cell["units_total"]) if known(cell["units_found"]) else DASH
    return f"{found}, {cell['no_gain']} no gain"


def _caption(measured: pd.DataFrame, by: str, apart: list[str]) -> str:
    done = measured[measured["state"] == "done"]
    sentences = [
        f"{len(done)} of {len(measured)} runs done. Columns: the part of a layer that is one unit.",
        "DSR of the hybrid, and its gain over the student in points"
        + (", as means of runs (n= where some are missing)." if by == "family" else "."),
    ]
    if done.duplicated(["pair", "granularity", *apart]).any():
        sentences.append("Runs of a pair that differ in settings that are no columns here are averaged.")
    if (done["status"] == "no_gain").any():
        sentences.append(
            "no gain: transplanting every unit of the kind gains too little to search for less; the hybrid then is"
            " everything, and counts in DSR and gain but not in units and parameters."
        )
    if done["made_here"].any():
        sentences.append("Miniature or fine-tuned models made here: no evidence about real ones.")
    return " ".join(sentences)
