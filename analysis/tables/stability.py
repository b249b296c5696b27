"""The stability table: whether a search finds the same set on other draws of its search rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.measures import measure, runs_of, settings_besides_draws
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import decimal, of
from analysis.tables.table import Table
from dapa_exp.search.stability import stability

KEYS = ["pair", "granularity", "search", "dataset"]


def has_repeats(frame: pd.DataFrame) -> bool:
    """Whether any search was repeated on another draw of its rows."""
    settings = _settings(frame)
    return bool((_draws(frame, settings).groupby([*KEYS, *settings]).size() > 1).any())


def stability_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each search, and setting that varies, that was repeated on other draws of its rows."""
    settings = _settings(frame)
    names = [*KEYS, *settings]
    rows = [
        dict(zip(names, keys, strict=True)) | _agreement(group)
        for keys, group in _draws(frame, settings).groupby(names, sort=False)
        if len(group) > 1
    ]
    return Table(
        name="stability",
        title="Does the search find the same set on other draws of its rows?",
        caption=(
            "Jaccard: units in both sets over units in either, mean over all pairs of draws. Always: units in every"
            " set; ever: in any. Non-monotone: pairs of queries, a draw, in which a set passed and a larger one failed."
        ),
        display=pd.DataFrame([_print(row, settings) for row in rows]),
        numbers=pd.DataFrame(rows),
        labels=3 + len(settings),
    )


def _settings(frame: pd.DataFrame) -> list[str]:
    """The settings, besides the draw, in which searches differ."""
    return [name for name in settings_besides_draws(runs_of(frame)) if name not in (*KEYS, "experiment")]


def _draws(frame: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """The finished runs with drawn search rows. If a search has several runs of one seed, the first is taken."""
    measured = measure(frame, settings)
    drawn = measured[measured["sample_seed"].notna() & (measured["status"] != "no_gain")]
    return drawn.drop_duplicates([*KEYS, *settings, "sample_seed"])


def _agreement(group: pd.DataFrame) -> dict[str, Any]:
    sets = [frozenset(units.split()) for units in group["units"]]
    return {
        "draws": len(sets),
        "jaccard": stability(sets),
        "smallest": min(map(len, sets)),
        "largest": max(map(len, sets)),
        "always": " ".join(unit for unit in group["units"].iloc[0].split() if all(unit in found for found in sets)),
        "ever": len(frozenset.union(*sets)),
        "units_total": int(group["units_total"].iloc[0]),
        "non_monotone": float(group["non_monotone"].mean()),
    }


def _print(row: dict[str, Any], settings: list[str]) -> dict[str, str]:
    return {
        "pair": row["pair"],
        "granularity": row["granularity"],
        "search": row["search"],
        **{name: row[name] for name in settings},
        "draws": str(row["draws"]),
        "Jaccard": decimal(row["jaccard"], 2),
        "set sizes": f"{row['smallest']}–{row['largest']}",
        "always": of(len(row["always"].split()), row["units_total"]),
        "ever": of(row["ever"], row["units_total"]),
        "non-monotone": decimal(row["non_monotone"]),
    }


TABLES.register("stability", TableMaker(90, has_repeats, stability_table))
