"""Makes the page: summary, runs, figures and tables of a report in one HTML file that needs no network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from analysis.drawing import svg_text
from analysis.entries import SUBJECTS
from analysis.frame import Run, first_line
from analysis.page.runs import runs_json
from analysis.page.summary import Means, in_percent, summary
from analysis.tables.cells import change, known
from analysis.tables.table import Table

HERE = Path(__file__).parent
GLANCE = ("DSR student (%)", "DSR hybrid (%)", "DSR teacher (%)", "gain (points)", "units found")
GLANCE_AFTER = ("parameters moved (%)", "over-refusal (%)", "search queries", "certified")
"""Columns of the main table that the list of runs shows, before and after the picture."""
WIDE = 5.0
"""Inches: a wider figure has a row of the page for itself."""
LARGEST_SVG = 500_000
"""Characters. A larger figure, which has thousands of marks, is put in as a PNG, which is smaller."""


@dataclass(frozen=True)
class _Row:
    """A row of a table on the page. `run` is the number of its run; family and granularity are known of some others."""

    cells: list[str]
    gap: str
    run: int | None = None
    family: str = ""
    granularity: str = ""
    picture: Mapping[str, float] | None = None


@dataclass(frozen=True)
class _View:
    """A table as blocks of rows, which are sorted by themselves."""

    name: str
    title: str
    caption: str
    headings: list[str]
    labels: int
    blocks: list[list[_Row]]
    notes: list[str]
    sortable: bool


def page(
    frame: pd.DataFrame, runs: Sequence[Run], tables: Sequence[Table], figures: Mapping[str, Figure], answers: bool
) -> str:
    """The page as HTML. Equal records give equal bytes. Answers to harmful prompts: only if `answers` is true."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    sweeps = Counter(run.sweep for run in runs)
    told = summary(frame, runs)
    return environment.get_template("page.html").render(
        names=list(sweeps),
        sweeps={name: Counter(run.status.state for run in runs if run.sweep == name) for name in sweeps},
        command=" ".join(["dapa report", *sweeps, *(["--answers"] if answers else [])]),
        answers=answers,
        summary=told.answers,
        means=[_mean(mean) for mean in told.means],
        runs=_glance(next(table for table in tables if table.name == "main"), runs),
        tables=[_view(table, runs) for table in tables],
        figures=[_figure(name, figure) for name, figure in figures.items()],
        families=_distinct(run.status.family for run in runs),
        granularities=_distinct(run.status.granularity for run in runs),
        data=runs_json(frame, runs, answers),
        script=script,
        style=style,
        script_digest=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _figure(name: str, figure: Figure) -> tuple[str, str, str, bool, str]:
    """A figure's name, title, the remark below its title, whether it is wide, and the figure as HTML."""
    title, _, remark = (figure.get_suptitle() or name).partition("\n")
    return name, title, remark.strip("()"), figure.get_figwidth() > WIDE, _drawn(figure, name)


def _drawn(figure: Figure, name: str) -> str:
    """The figure as an element of the page, without its title: the page has it as a heading."""
    title = figure.get_suptitle() or name
    figure.suptitle("")
    svg = svg_text(figure, name, in_page=True)
    if len(svg) <= LARGEST_SVG:
        return svg
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=200, facecolor="white")
    data = b64encode(stream.getvalue()).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def _distinct(values: Any) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _view(table: Table, runs: Sequence[Run]) -> _View:
    """A table with the run, family and granularity of each row, as far as its numbers tell them."""
    display = table.display
    places = {run.identity: i for i, run in enumerate(runs)}
    told = [_told(table, name) for name in ("identity", "family", "granularity")]
    rows = []
    for cells, why, identity, family, granularity in zip(
        display.itertuples(index=False), table.whys(), *told, strict=True
    ):
        run = places.get(identity)
        where = (family, granularity) if run is None else ("", "")
        rows.append(_Row([str(cell) for cell in cells], _unfinished(runs, run) or why, run, *where))
    cuts = [0, *table.rules, len(rows)]
    return _View(
        name=table.name,
        title=table.title,
        caption=table.about(),
        headings=[str(name) for name in display.columns],
        labels=table.labels,
        blocks=[rows[start:end] for start, end in pairwise(cuts)],
        notes=table.notes,
        # rows without a label belong to the row above them
        sortable=bool((display.iloc[:, 0] != "").all()) and len(rows) > 1,
    )


def _told(table: Table, column: str) -> list[str]:
    """What a column of a table's numbers says of each printed row; "" where it says nothing."""
    numbers = table.numbers
    if column not in numbers or len(numbers) != len(table.display):
        return [""] * len(table.display)
    return [str(value) if known(value) else "" for value in numbers[column]]


def _unfinished(runs: Sequence[Run], run: int | None) -> str:
    """Why the run of this row is not done; an empty string if it is, or the row is not that of a run."""
    if run is None or runs[run].status.state == "done":
        return ""
    return f"{runs[run].status.state}: {first_line(runs[run].status.reason or '')}"


def _glance(main: Table, runs: Sequence[Run]) -> _View:
    """The rows of the main table that are runs, with its most telling columns and a picture of the DSRs."""
    view, numbers = _view(main, runs), main.numbers
    labels = view.headings[: main.labels]
    shown = [view.headings.index(name) for name in (*labels, *GLANCE, *GLANCE_AFTER) if name in view.headings]
    rows = [
        _Row([row.cells[i] for i in shown], row.gap, row.run, picture=_picture_of(numbers.iloc[i]))
        for i, row in enumerate(row for block in view.blocks for row in block)
        if row.run is not None
    ]
    return _View(
        name="runs",
        title="Runs",
        caption="",
        headings=[view.headings[i] for i in shown],
        labels=main.labels,
        blocks=[rows],
        notes=view.notes,
        sortable=len(rows) > 1,
    )


def _mean(mean: Means) -> dict[str, Any]:
    """The mean DSRs of one setting: label, picture, and the numbers as a line."""
    several = mean.runs > 1
    label = ", ".join(part for part in (mean.label, f"mean of {mean.runs} runs" if several else "") if part)
    shown = [f"{subject}{'s' * several} {in_percent(*mean.dsr[subject])}" for subject in SUBJECTS]
    gain = mean.gain and f"gain {change(mean.gain.value, mean.gain.low, mean.gain.high)} points"
    dsr = {subject: mean.dsr[subject][0] for subject in SUBJECTS}
    return {
        "label": label,
        "picture": _picture(dsr, mean.dsr["hybrid"][1:]),
        "numbers": " · ".join([*shown, *([gain] if gain else [])]),
    }


def _picture_of(row: pd.Series[Any]) -> Mapping[str, float] | None:
    """The picture of a row of the main table; None if its run has no DSR."""
    dsr = {subject: row[f"{subject}_dsr"] for subject in SUBJECTS}
    return _picture(dsr, (row["hybrid_dsr_low"], row["hybrid_dsr_high"])) if all(map(known, dsr.values())) else None


def _picture(dsr: Mapping[str, float], bounds: tuple[float, float]) -> Mapping[str, float]:
    """The positions of the marks in a picture of three DSRs, in percent."""
    low, high = bounds if all(map(known, bounds)) else (dsr["hybrid"], dsr["hybrid"])
    marks = {**dsr, "low": low, "width": high - low}
    return {name: round(100 * float(value), 1) for name, value in marks.items()}
