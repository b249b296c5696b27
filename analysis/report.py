"""Prints all tables of some run folders, and writes tables, figures and the page beside the runs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from analysis import drawing
from analysis.figures.style import STYLE
from analysis.frame import find_runs, frame_of
from analysis.page.page import page
from analysis.registry import FIGURES, TABLES, in_order
from analysis.tables.table import Table
from dapa_exp.base.files import atomic, leftovers, remove, write_atomically
from dapa_exp.record.layout import SweepLayout

SUFFIXES = ("md", "csv", "tex")
FRAME = "frame.parquet"
LONGEST_NAME = 100
"""The most characters of a report folder's name that lists several folders."""
STALE_SECONDS = 3600
"""A temporary file of this age is taken for one that a killed process left."""


def report(
    folders: Sequence[Path],
    shown_on: Console,
    only: Collection[Path] | None = None,
    page_alone: bool = False,
    answers: bool = False,
    parquet: bool = False,
) -> list[Path]:
    """Print the tables of these sweep or run folders together; write tables, figures and the page. Returns the paths.

    `only` restricts the report to these run folders. With `page_alone`, no table is printed, and no other file is
    written. With `answers`, the page holds some answers to harmful prompts. With `parquet`, the frame is written, too.
    The files of an earlier report of the same folders are removed. Each file is written atomically, so two reports at
    the same time do not disturb each other.
    """
    runs, folder = find_runs(folders, only), report_folder(folders)
    frame = frame_of(runs)
    tables = tables_of(frame)
    figures = figures_of(frame)
    written = [] if page_alone else _write_all(tables, figures, folder, shown_on)
    if parquet:
        with atomic(folder / FRAME) as part:
            frame.to_parquet(part, index=False)
        written.append(folder / FRAME)
    file = folder / SweepLayout(folder).page.name
    write_atomically(file, page(frame, runs, tables, figures, answers))
    shown_on.print(Text(f"all in one page: {file}"), soft_wrap=True)
    return [*written, file]


def _write_all(tables: list[Table], figures: dict[str, Figure], folder: Path, shown_on: Console) -> list[Path]:
    for table in tables:
        table.print(shown_on)
    written = [path for table in tables for path in write_table(table, folder)]
    for name, figure in figures.items():
        written += drawing.save(figure, folder, name)
    for left in leftovers(folder, older_than=STALE_SECONDS):  # a younger one may belong to a report that is running now
        remove(left)
    for name, suffix in [*product(TABLES.names(), SUFFIXES), *product(FIGURES.names(), drawing.SUFFIXES)]:
        if (file := folder / f"{name}.{suffix}") not in written:
            file.unlink(missing_ok=True)
    names = ", ".join(dict.fromkeys(path.stem for path in written))
    shown_on.print(Text(f"written to {folder}: {names}"), soft_wrap=True)
    return written


def report_folder(folders: Sequence[Path]) -> Path:
    """The folder for the report of these folders. It lies in the first one; for several, its name lists the others."""
    others = list(dict.fromkeys(folder.resolve() for folder in folders))[1:]
    if not others:
        return SweepLayout(folders[0]).report
    name = "-".join((f"{SweepLayout(folders[0]).report.name}-with", *(folder.name for folder in others)))
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256("\n".join(map(str, others)).encode()).hexdigest()[:8]
        name = f"{SweepLayout(folders[0]).report.name}-with-{len(others)}-others-{digest}"
    return folders[0] / name


def tables_of(frame: pd.DataFrame) -> list[Table]:
    """All tables for which the frame has data."""
    return [table.make(frame) for _, table in in_order(TABLES) if table.shows(frame)]


def figures_of(frame: pd.DataFrame) -> dict[str, Figure]:
    """All figures for which the frame has data, by name."""
    data = {name: figure.data(frame) for name, figure in in_order(FIGURES)}
    with rc_context(STYLE):
        return {name: FIGURES.get(name).draw(found) for name, found in data.items() if len(found)}


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write a table as NAME.FORMAT for each format. Returns the paths."""
    texts = (table.to_markdown(), table.to_csv(), table.to_latex())
    paths = [folder / f"{table.name}.{suffix}" for suffix in SUFFIXES]
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text)
    return paths
