"""All tables of some run folders, printed, and written beside the runs with a figure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from analysis import figures
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
from analysis.trade_off import NAME, draw_trade_off, has_trade_off
from dapa_exp.base.files import leftovers, remove, write_atomically
from dapa_exp.record.layout import SweepLayout


def _has_granularities(runs: pd.DataFrame) -> bool:
    return runs["granularity"].nunique() > 1


def _has_costs(runs: pd.DataFrame) -> bool:
    return len(runs) > 1 and bool((runs["state"] == "done").any())


TABLES: dict[str, tuple[Callable[[pd.DataFrame], bool], Callable[[pd.DataFrame], Table]]] = {
    "main": (lambda _: True, main_table),
    "judges": (has_judges, judges_table),
    "agreement": (has_agreement, agreement_table),
    "utility": (has_utility, utility_table),
    "ablation_pairs": (_has_granularities, partial(ablation_table, by="pair")),
    "ablation": (_has_granularities, partial(ablation_table, by="family")),
    "search_cost": (_has_costs, search_cost_table),
    "stability": (has_repeats, stability_table),
}
"""By name and in order: which runs a table has something to show of, and what makes it."""

SUFFIXES = ("md", "csv", "tex")
STALE_SECONDS = 3600
"""How old a temporary file is that nobody is writing any more."""


def report(folders: Sequence[Path], shown_on: Console, only: Collection[Path] | None = None) -> list[Path]:
    """Print the tables of these sweep or run folders, taken together, and write them to `report/` in the first.

    Of the folders' runs, `only` those in these places, where given. Where there are several hybrids, a figure is
    drawn, too. What an earlier report left there goes.
    """
    runs, folder = load(folders, only), SweepLayout(folders[0]).report
    tables = tables_of(runs)
    for table in tables:
        table.print(shown_on)
    written = [path for table in tables for path in _write(table, folder)]
    if has_trade_off(runs):
        written += draw_trade_off(runs, folder)
    for left in leftovers(folder, older_than=STALE_SECONDS):  # a younger one may be another report's, at work now
        remove(left)
    for name, suffix in [*product(TABLES, SUFFIXES), *product([NAME], figures.SUFFIXES)]:
        if (file := folder / f"{name}.{suffix}") not in written:
            file.unlink(missing_ok=True)
    names = ", ".join(dict.fromkeys(path.stem for path in written))
    shown_on.print(Text(f"written to {folder}: {names}"), soft_wrap=True)
    return written


def tables_of(runs: pd.DataFrame) -> list[Table]:
    """The tables that have something to show."""
    return [make(runs) for shows_something, make in TABLES.values() if shows_something(runs)]


def _write(table: Table, folder: Path) -> list[Path]:
    texts = (table.to_markdown(), table.to_csv(), table.to_latex())
    paths = [folder / f"{table.name}.{suffix}" for suffix in SUFFIXES]
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text)
    return paths
