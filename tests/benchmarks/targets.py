"""What every benchmark ends with: figures beside their bounds, printed, and written where asked to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from rich.console import Console
from rich.table import Table


class Target(TypedDict):
    """A figure and the bound that it has to keep."""

    name: str
    measured: float
    bound: float
    better: Literal["lower", "higher"]


def target(name: str, measured: float, bound: float, better: Literal["lower", "higher"] = "lower") -> Target:
    """A figure, rounded, and its bound."""
    return {"name": name, "measured": round(measured, 4), "bound": bound, "better": better}


def is_met(of: Target) -> bool:
    return of["measured"] <= of["bound"] if of["better"] == "lower" else of["measured"] >= of["bound"]


def conclude(rows: Sequence[Any], targets: Sequence[Target], file: Path | None) -> None:
    """Print which targets are met; write rows and targets where a file is named."""
    table = Table("target", "measured", "bound", "met", title="targets")
    for each in targets:
        table.add_row(each["name"], f"{each['measured']:.3f}", f"{each['bound']:.2f}", "yes" if is_met(each) else "NO")
    Console(width=110).print(table)
    if file:
        file.write_text(json.dumps({"rows": list(rows), "targets": list(targets)}, indent=1))
