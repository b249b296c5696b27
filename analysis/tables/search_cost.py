"""The search cost table: the cost of each algorithm, also relative to ddmin on the same pairs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.measures import mean_bounds, measure, runs_of, settings_besides_draws
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import known, number, of
from analysis.tables.table import Table

COSTS = ["queries", "prompts", "tokens", "seconds"]
REFERENCE = "ddmin"


def has_costs(frame: pd.DataFrame) -> bool:
    """Whether there are several runs, and at least one is done."""
    return frame["identity"].nunique() > 1 and bool((frame["state"] == "done").any())


def search_cost_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each algorithm and setting that varies: mean costs over its finished runs."""
    settings = [name for name in settings_besides_draws(runs_of(frame)) if name != "search"]
    measured = measure(frame, settings)
    rows = []
    for _, group in measured.groupby(["search", *settings], sort=False):
        keys = {name: group[name].iloc[0] for name in ("search", *settings)}
        rows.append(keys | _costs(group, _reference(measured, settings, group)))
    numbers = pd.DataFrame(rows)
    done = measured[measured["state"] == "done"]
    caption = [
        f"{len(done)} of {len(measured)} runs done. Means a run, of queries with an interval over teachers;"
        " tokens generated."
    ]
    if numbers["ratio_queries"].notna().any():
        caption.append("×: as a multiple of ddmin's, over the pairs that both did, each pair by its mean run.")
    if done["made_here"].any():
        caption.append("Miniature or fine-tuned models made here: times say little about real ones.")
    return Table(
        name="search_cost",
        title="What the search cost",
        caption=" ".join(caption),
        display=pd.DataFrame([_print(row, settings) for row in rows]),
        numbers=numbers,
        labels=1 + len(settings),
        gaps=["no run is done"] * len(rows),
    )


def _reference(measured: pd.DataFrame, settings: list[str], group: pd.DataFrame) -> pd.DataFrame:
    """The costs of finished ddmin runs with the same settings, by pair."""
    same = (measured[settings] == group[settings].iloc[0]).all(axis=1) if settings else True
    return _by_pair(measured[(measured["search"] == REFERENCE) & (measured["state"] == "done") & same])


def _by_pair(done: pd.DataFrame) -> pd.DataFrame:
    return done.groupby("pair")[COSTS].mean()


def _costs(group: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    done = group[group["state"] == "done"]
    ours = _by_pair(done)
    both = ours.index.intersection(reference.index)
    cost, reference_cost = ours.loc[both].sum(), reference.loc[both].sum()
    compared = len(both) > 0 and (group["search"] != REFERENCE).all()
    ratios = (cost / reference_cost).where(reference_cost > 0) if compared else pd.Series(float("nan"), index=COSTS)
    return {
        "runs": len(group),
        "n": len(done),
        "certified": int((done["status"] == "certified").sum()),
        **done[COSTS].mean(),
        **dict(zip(("queries_low", "queries_high"), mean_bounds(done["queries"], done["teacher"]), strict=True)),
        **ratios.add_prefix("ratio_"),
    }


def _print(row: dict[str, Any], settings: list[str]) -> dict[str, str]:
    cells = {name: str(row[name]) for name in ("search", *settings)}
    cells |= {"runs done": of(row["n"], row["runs"]), "certified": of(row["certified"], row["n"])}
    return cells | {f"search {name}" if name == "seconds" else name: _cost(row, name) for name in COSTS}


def _cost(row: dict[str, Any], name: str) -> str:
    ratio = row[f"ratio_{name}"]
    bounds = f" [{number(row['queries_low'])}, {number(row['queries_high'])}]" if name == "queries" else ""
    return (
        number(row[name]) + (bounds if known(row["queries_low"]) else "") + (f" (×{ratio:.2f})" if known(ratio) else "")
    )


TABLES.register("search_cost", TableMaker(80, has_costs, search_cost_table))
