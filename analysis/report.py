"""All tables of some run folders: printed, and written beside the runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from analysis.load import load
from analysis.tables import (
    Table,
    ablation_table,
    agreement_table,
    has_agreement,
    has_judges,
    has_repeats,
    has_utility,
    judges_table,
    main_table,
    search_cost_table,
    stability_table,
    utility_table,
)
from dapa_exp.errors import DapaError
from dapa_exp.progress import console
from dapa_exp.record.folder import write_atomically

TABLES = ("main", "judges", "agreement", "utility", "ablation_pairs", "ablation", "search_cost", "stability")
SUFFIXES = ("md", "csv", "tex")


def report(folders: Sequence[Path], shown_on: Console, only: Collection[Path] | None = None) -> list[Path]:
    """Print the tables of these sweep or run folders, taken together, and write them to `report/` in the first.

    Of the folders' runs, `only` those in these places, where given. Tables of an earlier report go.
    """
    tables, folder = tables_of(load(folders, only)), folders[0] / "report"
    for table in tables:
        table.print(shown_on)
    for name in set(TABLES) - {table.name for table in tables}:
        for suffix in SUFFIXES:
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return [path for table in tables for path in _write(table, folder)]


def report_command(words: list[str]) -> int:
    """`dapa report DIR...`"""
    if not words:
        raise DapaError("dapa report needs the folder of a sweep or of a run, such as multirun/miniature")
    report([Path(word) for word in words], console())
    return 0


def tables_of(runs: pd.DataFrame) -> list[Table]:
    """The tables that have something to show."""
    tables = [main_table(runs)]
    if has_judges(runs):
        tables.append(judges_table(runs))
    if has_agreement(runs):
        tables.append(agreement_table(runs))
    if has_utility(runs):
        tables.append(utility_table(runs))
    if runs["granularity"].nunique() > 1:
        tables += [ablation_table(runs, by="pair"), ablation_table(runs, by="family")]
    if len(runs) > 1 and (runs["state"] == "done").any():
        tables.append(search_cost_table(runs))
    if has_repeats(runs):
        tables.append(stability_table(runs))
    return tables


def _write(table: Table, folder: Path) -> list[Path]:
    texts = (table.to_markdown(), table.to_csv(), table.to_latex())
    paths = [folder / f"{table.name}.{suffix}" for suffix in SUFFIXES]
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text)
    return paths
